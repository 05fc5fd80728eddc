"""Missing weights: every file with its address and its option, in one message, before the images are read."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
from huggingface_hub.errors import GatedRepoError

from tcs_edge.errors import MissingError, UnknownName, UsageError
from tcs_edge.specs.config import CompressConfig
from tcs_edge.specs.defaults import with_data_defaults
from tcs_edge.stages.weights import require_known_weights, require_weights

TEACHER = "model.safetensors of timm/vit_small_patch14_dinov2.lvd142m"
TEACHER_URL = "https://huggingface.co/timm/vit_small_patch14_dinov2.lvd142m/resolve/main/model.safetensors"
STUDENT = "model.safetensors of timm/lcnet_050.ra2_in1k"


def asked(**options) -> CompressConfig:
    return CompressConfig.model_validate({"target": "raspberrypi4", "data": "photos", "student": "lcnet_050"} | options)


def refusal(**options) -> str:
    with pytest.raises(MissingError) as caught:
        require_known_weights(asked(**options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.usefixtures("offline")
def test_all_missing_files_are_named_at_once(tmp_path):
    message = refusal()
    assert "teacher 'dinov2' and student 'lcnet_050' are not in the hub cache" in message
    for part in (TEACHER, TEACHER_URL, "--teacher-weights PATH", STUDENT, "--student-init PATH", str(tmp_path / "hub")):
        assert part in message


@pytest.mark.usefixtures("offline")
def test_only_missing_files_are_named(teacher_file):
    message = refusal(teacher_weights=teacher_file)
    assert STUDENT in message
    assert "teacher" not in message
    assert STUDENT not in refusal(student_init="random")
    require_known_weights(asked(method="ce", student_init="random"))
    require_known_weights(asked(data=None))  # the digits' teacher is built in
    require_known_weights(asked(student="auto"))  # the images choose the student


@pytest.mark.usefixtures("offline")
def test_missing_local_files_are_named_together_with_those_of_the_hub(tmp_path):
    message = refusal(teacher_weights="gone.safetensors")
    assert "no such weights file: gone.safetensors" in message
    assert STUDENT in message
    both = refusal(teacher_weights="gone.safetensors", student_init=str(tmp_path))
    assert "no such weights file: gone.safetensors" in both
    assert f"no weights of lcnet_050 in {tmp_path}" in both


@pytest.mark.usefixtures("offline")
def test_several_runs_name_each_file_once():
    names = ("lcnet_050", "lcnet_075", "lcnet_050")
    with pytest.raises(MissingError) as caught:
        require_weights(*(with_data_defaults(asked(student=name), 96) for name in names), teacher=False)
    message = str(caught.value)
    assert message.count(f"{STUDENT} (") == message.count("timm/lcnet_075.ra2_in1k (") == 1
    assert "teacher" not in message


def test_a_refused_download_does_not_hide_the_other(monkeypatch):
    def refuse(repo, *_arguments, **_options):
        if "dinov2" in repo:
            raise GatedRepoError("gated", response=Mock())
        raise OSError("connection reset")

    monkeypatch.setattr("tcs_edge.models.hub._unreachable", lambda: None)
    monkeypatch.setattr("tcs_edge.models.hub.HubFile.cached_path", lambda self: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    message = refusal()
    assert "requires a login and an accepted license" in message
    assert "connection reset" in message
    assert TEACHER in message
    assert STUDENT in message


def test_wrong_names_are_wrong_usage():
    with pytest.raises(UnknownName, match="Did you mean lcnet_0"):
        require_known_weights(asked(student="lcnet_05"))
    with pytest.raises(UsageError, match="lcnet_035 has no pretrained weights"):
        require_known_weights(asked(student="lcnet_035"))


@pytest.mark.usefixtures("offline")
def test_a_run_stops_before_its_images_are_read(cli, tiny, monkeypatch, tmp_path):
    monkeypatch.setattr("tcs_edge.stages.prepare.load_images", None)
    monkeypatch.chdir(tmp_path)
    result = cli(*tiny(teacher_weights=None, student_init="pretrained"))
    assert result.exit_code == 4, result.stderr
    assert "teacher 'timm/test_vit' and student 'lcnet_050'" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("offline")
def test_a_student_that_the_images_choose_is_named_before_the_teacher_pass(cli, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = cli(*tiny(teacher_weights=None, student=None, student_init="pretrained", max_params_m=1))
    assert result.exit_code == 4, result.stderr
    assert "the weights of teacher 'timm/test_vit' and student '" in result.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
