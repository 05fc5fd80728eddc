"""ncnn's arithmetic on the target: simulated in float16, and judged only where the target has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tcs_edge.data import Preprocess
from tcs_edge.export.own_formats import export_own_formats
from tcs_edge.runtimes.ncnn import RUNTIME
from tcs_edge.runtimes.open import only_here
from tcs_edge.specs.target import load_target, ncnn_arithmetic
from tcs_edge.stages.validate import validate_exports


@pytest.fixture
def exports(exports) -> Path:
    """The shared exports, with ncnn's model."""
    export_own_formats(exports, formats=("ncnn",))
    return exports


def test_only_arm_with_float16_arithmetic_computes_in_it():
    named = {name: load_target(name).model_dump(mode="json") for name in ("raspberrypi5", "raspberrypi4", "x86-avx2")}
    found = {name: ncnn_arithmetic(target) for name, target in named.items()}
    assert found == {"raspberrypi5": "f16", "raspberrypi4": "f16-weights", "x86-avx2": "f16-weights"}
    assert ncnn_arithmetic({}) == "f16-weights"


def test_the_float16_arithmetic_of_the_target_is_simulated(exports, model, images, preprocess, resolved):
    options, steps = resolved(format=("ncnn",)), Preprocess.from_json(preprocess)
    found = validate_exports(model, exports, images, steps, options, ncnn="f16")
    assert {"ncnn", "ncnn-device", "ncnn-f16"} <= set(found.parities)
    assert found.precisions["ncnn-f16"] == "f16"
    assert found.verdict == "pass", [check.name for check in found.failures]
    plain = validate_exports(model, exports, images, steps, options, ncnn="f16-weights")
    assert "ncnn-f16" not in plain.parities
    without = validate_exports(model, exports, images, steps, resolved(), ncnn="f16")
    assert not any(name.startswith("ncnn") for name in without.parities)
    (exports / "ncnn" / "model.bin").unlink()
    broken = validate_exports(model, exports, images, steps, options, at_device_precision=False)
    assert {check.name.partition(":")[0] for check in broken.failures} == {"ncnn"}


def test_a_device_that_adds_in_float16_is_not_judged_for_a_target_that_does_not(param_path):
    with RUNTIME.open_as_deployed(param_path, 1) as runner:
        runner.arithmetic = "f16"
        assert only_here([runner], "f32", "f16-weights") == ("ncnn-device",)
        assert only_here([runner], "f32", "f16") == ()
        runner.arithmetic = "f16-weights"
        assert only_here([runner], "f32", "f16-weights") == only_here([runner], "f32", "f16") == ()
