"""A student that a format on request cannot hold, or computes wrongly, is refused before training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from tcs_edge.errors import ParityFailed, UsageError
from tcs_edge.models.candidates import CANDIDATES
from tcs_edge.runtimes.onnxruntime import OrtRunner
from tcs_edge.runtimes.programs import instead_of
from tcs_edge.runtimes.registry import RUNTIMES
from tcs_edge.selftest.graphs import scale_layer
from tcs_edge.specs.config import CompressConfig
from tcs_edge.stages.prepare import Prepared, list_students
from tcs_edge.stages.train import build_backbone
from tcs_edge.stages.try_formats import require_convertible


@pytest.fixture
def prepared(photos):
    """prepared(student="auto"): a run that exports for ncnn."""

    def make(**changes: object) -> Prepared:
        asked = {"target": "raspberrypi4", "student": "lcnet_050", "student_init": "random", "img_size": 64}
        place = {"data": photos, "device": "cpu", "threads": 1, "format": ("ncnn",)}
        return list_students(CompressConfig.model_validate(asked | place | changes)).prepared()

    return make


@pytest.fixture
def converter(monkeypatch):
    """converter(change): put a converter in the place of ncnn's that copies the ONNX file and changes it."""

    def make(change) -> None:
        def export(onnx_path: Path, path: Path, precision: str) -> None:
            model = onnx.load(onnx_path)
            change(model)
            path.parent.mkdir(parents=True)
            onnx.save(model, path)

        own_format = replace(RUNTIMES["ncnn"].own_format, export=export)
        monkeypatch.setitem(RUNTIMES, "ncnn", replace(RUNTIMES["ncnn"], open=OrtRunner, own_format=own_format))

    return make


def test_an_equal_conversion_passes_and_changes_neither_student_nor_random_numbers(prepared, converter):
    converter(lambda model: None)
    ready = prepared()
    backbone, state = build_backbone(ready), torch.get_rng_state()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    require_convertible(ready, backbone)
    assert backbone.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_a_wrong_conversion_is_one_line_with_another_way(prepared, converter):
    converter(scale_layer(1.05))
    ready = prepared()
    with pytest.raises(ParityFailed) as caught:
        require_convertible(ready, build_backbone(ready))
    message = str(caught.value)
    assert message.startswith("ncnn computes lcnet_050 wrongly: largest difference 0.")
    assert instead_of("ncnn") in message
    assert message.endswith("litert holds lcnet_050.")
    assert "\n" not in message
    named = message.partition("ncnn holds ")[2].partition(".")[0].split(", ")
    assert len(named) == 3
    assert set(named) <= set(CANDIDATES) - RUNTIMES["ncnn"].own_format.lacking - {"lcnet_050"}


def test_a_chosen_student_is_answered_with_the_next_best_that_fit(prepared, converter):
    converter(scale_layer(np.nan))
    ready = prepared(student="auto", max_params_m=1.5)
    fitting = [found.candidate.name for found in ready.choice.accepted]
    held = [name for name in fitting[1:] if name not in RUNTIMES["ncnn"].own_format.lacking]
    with pytest.raises(ParityFailed) as caught:
        require_convertible(ready, build_backbone(ready))
    assert "wrongly: a logit is NaN or Inf." in str(caught.value)
    assert f"ncnn holds {', '.join(held[:3])}." in str(caught.value)


def test_a_failure_of_the_machine_names_no_other_student(prepared, converter):
    def missing(model: onnx.ModelProto) -> None:
        raise UsageError("pnnx cannot be started. Install it again: pip install pnnx")

    converter(missing)
    ready = prepared()
    with pytest.raises(UsageError, match=r"pip install pnnx$"):
        require_convertible(ready, build_backbone(ready))


@pytest.mark.slow
def test_the_student_that_pnnx_converts_wrongly_is_refused_before_training(cli, tiny, tmp_path):
    result = cli(*tiny(student="swiftformer_xs"), "--format", "ncnn", "--out", tmp_path / "run")
    assert result.exit_code == 1, result.stderr
    assert "ncnn computes swiftformer_xs wrongly: largest difference 0." in result.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_students_of_a_runtime_are_candidates():
    listed = {name for runtime in RUNTIMES.values() if runtime.own_format for name in runtime.own_format.lacking}
    assert listed <= set(CANDIDATES)
