"""Self-test: every fault is detected in a CNN and a transformer, without false alarms."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from tcs_edge.bundle.make import SCRIPTS
from tcs_edge.models.candidates import CANDIDATES
from tcs_edge.selftest import graphs, specimen, sweep
from tcs_edge.selftest.faults import EMBEDDING_FAULTS, FAULTS, SCRIPT
from tcs_edge.selftest.int8 import add_int8, int8_checks
from tcs_edge.selftest.specimen import colored_digits
from tcs_edge.selftest.sweep import HASHES, QUICK, FaultResult, GoodResult, SelfTest
from tcs_edge.stages.validate import validate_exports
from tcs_edge.students import untrained
from tcs_edge.validation.validate import Validation

pytestmark = pytest.mark.timeout(1800)  # dozens of validations, on machines that run other tests as well

ASKED = (
    "one weight bit", "swapped labels", "BGR for RGB", "normalized twice", "half of one layer's scale", "wrong opset",
    "truncated .bin", "stale external data", "baked batch", "transposed input", "quantization scale off by 2",
    "off-by-one crop",
)  # fmt: skip


@pytest.fixture(scope="session")
def outcome(cli) -> dict:
    """Output of `selftest --json`, made once."""
    result = cli("selftest", "--json", "--quiet")
    assert result.exit_code == 0, result.stdout + result.stderr
    return json.loads(result.stdout)


def caught_by(outcome: dict, fault: str) -> list[list[str]]:
    return [row["checks"] for row in outcome["broken_exports"] if row["fault"].startswith(fault)]


@pytest.mark.slow
def test_every_fault_is_detected_in_a_cnn_and_a_transformer(outcome):
    assert outcome["faults"] == outcome["caught"] == len(FAULTS) * len(QUICK)
    assert {row["student"] for row in outcome["broken_exports"]} == set(QUICK)
    assert all(caught_by(outcome, fault) for fault in ASKED)


@pytest.mark.slow
def test_faults_of_an_embedding_are_detected_by_its_own_checks(tmp_path):
    made = specimen.make_specimen("lcnet_050", tmp_path, embedding=True)
    assert sweep._validated(made, made.exports).failures == ()
    for fault in EMBEDDING_FAULTS:
        caught = sweep._judge_broken(made, fault, tmp_path / "broken").checks
        assert caught, fault.name
        if not fault.name.endswith(("left out", "exchanged")):  # the logits are right
            of_both = [name for name in caught if "batch size" in name]  # this check compares both outputs
            assert all("embedding" in name for name in caught if name not in of_both), (fault.name, caught)


@pytest.mark.slow
def test_good_exports_pass_and_distinguish_the_classes(outcome):
    assert (outcome["false_alarms"], outcome["good"]) == (0, len(QUICK))
    # Equal outputs for all images would pass any comparison.
    assert all(row["accuracy"] > 0.5 for row in outcome["good_exports"])


@pytest.mark.slow
def test_only_the_hash_detects_the_lowest_bit(outcome):
    assert caught_by(outcome, "one weight bit, lowest") == [[HASHES]] * len(QUICK)
    assert all(HASHES not in checks for checks in caught_by(outcome, "one weight bit, exponent"))


@pytest.mark.slow
def test_stale_weights_change_the_logits(outcome):
    for checks in caught_by(outcome, "stale external data"):
        assert {"onnx: one file", "onnxruntime: largest difference"} <= set(checks)


def test_every_required_fault_is_listed():
    assert [fault for fault in ASKED if not any(known.name.startswith(fault) for known in FAULTS)] == []


def test_a_missed_fault_or_a_false_alarm_fails_the_self_test():
    good = GoodResult("a", 0.9, 1e-6, ())
    caught = tuple(FaultResult("a", fault.name, ("check",)) for fault in FAULTS)
    assert SelfTest((good,), caught).passed
    assert not SelfTest((good,), (*caught, FaultResult("b", FAULTS[0].name, ()))).passed
    assert not SelfTest((good,), caught[1:]).passed, "a fault that was not tried is not detected"
    assert not SelfTest((good, GoodResult("b", 0.9, 1.0, ("check",))), caught).passed
    assert not SelfTest((), caught).passed


@pytest.mark.slow
def test_a_validation_that_accepts_everything_fails_the_self_test(cli, monkeypatch):
    def accepting(*arguments, **options) -> Validation:
        validation = validate_exports(*arguments, **options)
        passed = tuple(check for check in validation.checks if check.passed)
        return Validation(validation.images, passed, validation.precisions, validation.accuracies, validation.parities)

    monkeypatch.setattr(sweep, "validate_exports", accepting)
    monkeypatch.setattr(sweep, "FAULTS", [fault for fault in FAULTS if fault.name == "transposed input"])
    result = cli("selftest", "--student", "lcnet_050")
    assert result.exit_code == 1
    assert "NOT DETECTED" in result.stdout
    assert "faults detected: 0 of 1" in result.stdout


def test_an_unknown_student_is_an_error_of_one_line(cli):
    result = cli("selftest", "--student", "lcnet_05")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert re.search("Did you mean .*lcnet_050", result.stderr)


def test_the_images_are_colored_and_not_square():
    image = np.asarray(colored_digits().test.image(0)).astype(int)
    assert image.shape[0] != image.shape[1]
    assert np.abs(image[..., 0] - image[..., 2]).mean() > 20


def weights(path) -> np.ndarray:
    tensors = [numpy_helper.to_array(t).ravel() for t in onnx.load(path).graph.initializer if len(t.dims) > 1]
    return np.concatenate([values for values in tensors if values.dtype == np.float32])


def test_a_fault_in_the_normalization_changes_the_images_of_every_candidate():
    image = colored_digits().test.image(0)
    for name in CANDIDATES:
        steps = specimen.preprocess_of(name)
        once, mean, std = steps(image), *(np.reshape(values, (3, 1, 1)) for values in (steps.mean, steps.std))
        assert np.abs((once - mean) / std - once).max() > 0.1, name
        assert np.abs(mean).min() > 0.1, name


@pytest.mark.slow
def test_faults_in_the_normalization_are_detected_in_a_student_that_needs_none(tmp_path):
    made = specimen.make_specimen("mobilevit_xxs", tmp_path)
    shutil.copyfile(SCRIPTS / SCRIPT, made.exports / SCRIPT)
    assert sweep._judge_good(made).alarms == ()
    for fault in FAULTS:
        if fault.name.startswith("normalized twice"):
            assert sweep._judge_broken(made, fault, tmp_path / "broken").caught, fault.name


def test_a_scaled_layer_shows_through_a_layer_norm():
    rng = np.random.default_rng(0)
    tensors = {"w": rng.standard_normal((8, 6)), "gain": np.ones(6)}
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("LayerNormalization", ["h", "gain"], ["y"], epsilon=1e-6),
        ],
        "normalized",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 6])],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    image = rng.standard_normal((1, 8)).astype(np.float32)
    (before,) = ReferenceEvaluator(model).run(None, {"x": image})
    graphs.scale_layer(1.1)(model)
    (after,) = ReferenceEvaluator(model).run(None, {"x": image})
    assert np.abs(after - before).max() > 0.01


@pytest.mark.parametrize("bit", [0, 23, 30])
def test_exactly_one_bit_is_flipped(onnx_path, tmp_path, bit):
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_path.read_bytes())
    graphs.edit_onnx(path, graphs.flip_bit(bit))
    difference = weights(onnx_path).view(np.uint32) ^ weights(path).view(np.uint32)
    assert sorted(set(difference.tolist())) == [0, 1 << bit]
    assert np.count_nonzero(difference) == 1


@pytest.mark.slow
def test_the_least_visible_scale_off_by_two_is_detected(tmp_path, monkeypatch):
    """Doubling the scale of a residual layer changes no class here, and left 12 dB in earlier int8 files."""
    monkeypatch.setattr(untrained, "SHIFTS", (0.5,))
    made = specimen.make_specimen("resnet18", tmp_path)
    assert add_int8(made), "a false alarm"
    (fault,) = (one for one in FAULTS if one.where == "int8")
    fault.damage(made.exports, made)
    failed = [check.name for check in int8_checks(made, made.exports) if not check.passed]
    assert failed == ["onnxruntime-int8: signal to noise"]
