from __future__ import annotations

import logging
import pickle
import time
import zipfile
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file

from tcs_edge.errors import DataError, MissingError, UsageError
from tcs_edge.models.hub import timm_hub_file
from tcs_edge.models.safetensors_file import check_safetensors, read_state
from tcs_edge.teachers.load import describe_teacher, download_size_mb, is_cached
from tcs_edge.teachers.registry import teacher_spec
from tcs_edge.teachers.weights import locate_weights


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def dead_hub(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")


def _put_in_hub_cache(cache: Path, repo: str, source: Path) -> Path:
    folder = cache / ("models--" + repo.replace("/", "--"))
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text("abc")
    target = folder / "snapshots/abc/model.safetensors"
    target.parent.mkdir(parents=True)
    target.write_bytes(source.read_bytes())
    return target


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".ckpt", ".PTH"])
def test_pickles_are_refused_by_suffix(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(UsageError, match="pickle"):
        check_safetensors(path, "--teacher-weights")


def test_zip_under_a_safetensors_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", pickle.dumps({"a": 1}))
    with pytest.raises(UsageError, match="pickle"):
        check_safetensors(path, "--teacher-weights")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickle_under_a_safetensors_name_is_refused(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(pickle.dumps({"a": list(range(50))}, protocol))
    with pytest.raises(UsageError, match="pickle"):
        check_safetensors(path, "--teacher-weights")


def test_header_length_that_looks_like_a_pickle_is_accepted(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(0x0280)
    path = tmp_path / "weights.safetensors"
    path.write_bytes((0x0280).to_bytes(8, "little") + header + b"\0\0\0\0")
    check_safetensors(path, "--teacher-weights")
    assert read_state(path, ["a"])["a"].tolist() == [0.0]


@pytest.mark.parametrize("data", [b"", b"hello", b"version https://git-lfs.github.com/spec/v1\n"])
def test_other_bytes_are_a_data_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"not a safetensors file|is a Git LFS pointer"):
        check_safetensors(path, "--teacher-weights")


def test_truncated_file_is_a_data_error(tmp_path: Path, vit_weights: Path) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(vit_weights.read_bytes()[:-100])
    with pytest.raises(DataError, match="Copy it again") as caught:
        read_state(path, [])
    assert "\n" not in str(caught.value)


def test_missing_file_folder_and_other_suffix_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no such weights file"):
        check_safetensors(tmp_path / "none.safetensors", "--teacher-weights")
    with pytest.raises(UsageError, match="is a folder"):
        check_safetensors(tmp_path, "--teacher-weights")
    (tmp_path / "w.npz").write_bytes(b"123456789")
    with pytest.raises(UsageError, match="does not end in"):
        check_safetensors(tmp_path / "w.npz", "--teacher-weights")


def test_half_precision_is_upcast_and_counters_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    tensors = {"h": torch.ones(2).half(), "b": torch.ones(2).bfloat16(), "n": torch.tensor(3)}
    save_file(tensors, path)
    state = read_state(path, [])
    assert state["h"].dtype == state["b"].dtype == torch.float32
    assert state["n"].dtype == torch.int64


def test_prefixes_are_stripped_unless_the_model_has_them(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"module.backbone.a": torch.ones(1), "model.b": torch.ones(1)}, path)
    assert set(read_state(path, ["model.b"])) == {"a", "model.b"}


def test_colliding_keys_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"module.a": torch.ones(1), "model.a": torch.zeros(1)}, path)
    with pytest.raises(DataError, match="collide"):
        read_state(path, [])


@pytest.mark.usefixtures("dead_hub")
def test_unreachable_hub_fails_fast_with_a_one_line_error(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    started = time.perf_counter()
    with caplog.at_level(logging.WARNING), pytest.raises(MissingError) as caught:
        locate_weights("dinov2", teacher_spec("dinov2"), None)
    message = str(caught.value)
    assert time.perf_counter() - started < 6
    assert caught.value.exit_code == 4
    assert "\n" not in message
    assert "timm/vit_small_patch14_dinov2.lvd142m" in message
    assert "model.safetensors" in message
    assert "--teacher-weights PATH" in message
    assert not caplog.records
    assert not recwarn.list
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("hub_cache")
def test_offline_flag_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    def touch(*args: object, **kwargs: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub, "get_session", touch)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", touch)
    with pytest.raises(MissingError, match="HF_HUB_OFFLINE is set"):
        locate_weights("dinov2", teacher_spec("dinov2"), None)


@pytest.mark.usefixtures("hub_cache")
def test_error_for_an_interrupted_download_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise LocalEntryNotFoundError("connection lost\nlong story")

    class Session:
        def head(self, url: str, timeout: float) -> None: ...

    monkeypatch.setattr(huggingface_hub, "get_session", Session)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(MissingError, match=r"connection lost.*--teacher-weights") as caught:
        locate_weights("dinov2", teacher_spec("dinov2"), None)
    assert "\n" not in str(caught.value)


def test_teacher_without_weights_on_a_hub_is_refused() -> None:
    assert timm_hub_file(teacher_spec("ijepa").timm_name) is None
    with pytest.raises(MissingError, match="Convert the released file"):
        locate_weights("ijepa", teacher_spec("ijepa"), None)


@pytest.mark.usefixtures("dead_hub")
def test_hub_cache_is_used_without_network(hub_cache: Path, vit_weights: Path) -> None:
    assert not is_cached("timm/test_vit")
    target = _put_in_hub_cache(hub_cache, "timm/test_vit.r160_in1k", vit_weights)
    assert is_cached("timm/test_vit")
    info = describe_teacher("timm/test_vit")
    assert info.weights_path == target
    assert info.weights_source == "hub timm/test_vit.r160_in1k/model.safetensors"


def test_given_file_is_used_and_its_folder_is_not_recorded(vit_weights: Path) -> None:
    info = describe_teacher("timm/test_vit", vit_weights)
    assert info.weights_source == "file test_vit.safetensors"
    assert str(vit_weights.parent) not in str(info.to_json())


def test_download_size_counts_four_bytes_per_parameter(vit_weights: Path) -> None:
    assert download_size_mb("dinov2-small") == pytest.approx(88.2, abs=0.1)
    assert is_cached("digits")
    on_disk = sum(tensor.numel() * 4 for tensor in load_file(vit_weights).values()) / 1e6
    assert download_size_mb("timm/test_vit") == pytest.approx(on_disk, abs=0.1)
