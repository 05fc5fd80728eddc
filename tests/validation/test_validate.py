"""Validation: good exports pass, and every kind of damage is detected."""

from __future__ import annotations

import copy
import json
import tracemalloc

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
import torch

from tcs_edge.errors import DataError, UsageError
from tcs_edge.runtimes.base import ClosingRunner
from tcs_edge.runtimes.onnxruntime import OrtRunner
from tcs_edge.runtimes.openvino import OpenVinoRunner
from tcs_edge.runtimes.torch import TorchRunner
from tcs_edge.validation.validate import Validation, validate


def batches(count: int = 5, size: int = 8, seed: int = 0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield rng.standard_normal((size, 3, 32, 32)).astype(np.float32), rng.integers(0, 4, size)


class Fake(ClosingRunner):
    """Linear model on the channel means of the image, with an optional fault."""

    precision = "f32"
    labels = ("a", "b", "c", "d")

    def __init__(self, name: str = "fake", fault=lambda images, logits: logits) -> None:
        self.name, self._fault = name, fault

    def run(self, images: np.ndarray) -> np.ndarray:
        weights = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
        return self._fault(images, images.mean(axis=(2, 3)) @ weights)


REFERENCE = Fake("pytorch")


def failures(validation: Validation) -> str:
    assert (validation.verdict == "fail") == bool(validation.failures)
    return " | ".join(f"{check.name} {check.detail}" for check in validation.failures)


def test_good_exports_pass(model, onnx_path, xml_path, labels):
    runners = [OrtRunner(onnx_path), OpenVinoRunner(xml_path), OpenVinoRunner(xml_path, precision="device")]
    validation = validate(TorchRunner(model), runners, batches(), classes=labels)
    assert failures(validation) == ""
    assert validation.images == 40
    assert set(validation.accuracies) == {"pytorch", "onnxruntime", "openvino", "openvino-device"}
    assert validation.precisions["openvino"] == "f32"
    document = json.loads(json.dumps(validation.to_json(), allow_nan=False))
    assert document["schema_version"] == 1
    assert document["verdict"] == "pass"
    assert len(document["checks"]) == len(validation.checks) > 30


def test_an_arithmetic_of_this_machine_alone_is_measured_without_checks():
    coarse = Fake("fake-device", lambda images, logits: logits + 5)
    runners = [Fake(), coarse, Fake("broken-device", crashes)]
    validation = validate(REFERENCE, runners, batches(), only_here=("fake-device", "broken-device"))
    assert failures(validation) == ""
    assert {check.name.partition(":")[0] for check in validation.checks} == {"fake"}
    assert validation.parities["fake-device"].max_abs_diff == pytest.approx(5)
    assert validation.to_json()["only_here"] == ["fake-device", "broken-device"]
    assert validate(REFERENCE, runners, batches()).verdict == "fail"


def edited(onnx_path, tmp_path, edit) -> OrtRunner:
    """Load the export with one edited float initializer; `edit(name, array)` returns True after an edit."""
    proto = onnx.load(onnx_path)
    for tensor in proto.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor).copy()
        if array.dtype == np.float32 and edit(tensor, array):
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
            break
    else:
        pytest.fail("nothing was edited")
    onnx.save(proto, tmp_path / "edited.onnx")
    return OrtRunner(tmp_path / "edited.onnx")


def perturb_one_weight(tensor, array) -> bool:
    if array.ndim != 4:
        return False
    array.flat[0] += 0.1 * np.abs(array).max()
    return True


def nan_weight(tensor, array) -> bool:
    if array.ndim != 4:
        return False
    array.flat[0] = np.nan
    return True


def swap_rows(tensor, array) -> bool:
    if array.ndim != 2 or 4 not in array.shape:
        return False
    rows = array if array.shape[0] == 4 else array.T
    rows[[0, 1]] = rows[[1, 0]]
    return True


@pytest.mark.parametrize(
    ("edit", "words"),
    [(perturb_one_weight, "largest difference"), (nan_weight, "finite logits"), (swap_rows, "largest difference")],
)
def test_a_damaged_weight_is_detected(model, onnx_path, tmp_path, edit, words):
    validation = validate(TorchRunner(model), [edited(onnx_path, tmp_path, edit)], batches())
    assert words in failures(validation)


def test_a_change_of_one_weight_in_ten_thousand_is_detected(model, onnx_path):
    other = copy.deepcopy(model)
    with torch.no_grad():
        next(p for p in other.parameters() if p.ndim == 4)[0, 0, 0, 0] += 0.02
    assert "largest difference" in failures(validate(TorchRunner(other), [OrtRunner(onnx_path)], batches()))


def test_swapped_class_names_are_detected(model, onnx_path, labels):
    swapped = (labels[1], labels[0], *labels[2:])
    runners = [OrtRunner(onnx_path)]
    assert "class names" in failures(validate(TorchRunner(model), runners, batches(), classes=swapped))


def nan_on_white(images, logits):
    return np.where(images.mean() > 2, np.nan, logits)


def drops_small_batches(images, logits):
    if len(images) < 4:
        raise RuntimeError("Reshape: baked\nbatch")
    return logits


def mixes_the_batch(images, logits):
    return logits + logits.mean(axis=0) * 1e-2 * (len(images) == 2)


def crashes(images, logits):
    raise RuntimeError("no such operator")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (lambda images, logits: logits * 1.001, "largest difference"),
        (lambda images, logits: logits[:, ::-1], "margin of changed classes"),
        (lambda images, logits: np.full_like(logits, np.inf), "finite logits"),
        (lambda images, logits: logits[:, :3], "logits have shape"),
        (lambda images, logits: logits[0], "gave an output of shape"),
        (nan_on_white, "white image"),
        (drops_small_batches, "batch size does not matter Reshape: baked batch"),
        (mixes_the_batch, "batch size does not matter"),
        (crashes, "runs on every image no such operator"),
    ],
)
def test_every_fault_fails_a_check(fault, words):
    validation = validate(REFERENCE, [Fake(fault=fault)], batches())
    assert words in failures(validation)
    json.dumps(validation.to_json(), allow_nan=False)


def shifts_extremes(images, logits):
    return logits * (1.01 if np.abs(images).max() > 100 else 1.0)


def chaotic_when_huge(phase):
    def fault(images, logits):
        wave = np.float32(100 * np.sin(float(images.sum()) * 1e4 + phase))
        return logits + wave * (np.abs(images).max() > 100)

    return fault


def test_a_difference_on_huge_values_fails_unless_the_model_is_chaotic():
    assert "huge image" in failures(validate(REFERENCE, [Fake(fault=shifts_extremes)], batches()))
    chaos = Fake("pytorch", chaotic_when_huge(0.0))
    assert failures(validate(chaos, [Fake(fault=chaotic_when_huge(1.0))], batches())) == ""


def sways_when_huge(offset=0.0):
    def fault(images, logits):
        sway = 1e-3 * np.sin(float(images.sum()) * 1e4) + offset
        return logits * np.float32(1 + sway * (np.abs(images).max() > 100))

    return fault


def test_a_sensitive_model_allows_only_its_own_sensitivity():
    swaying = Fake("pytorch", sways_when_huge())
    good = validate(swaying, [Fake(fault=sways_when_huge(offset=0.002))], batches())
    assert failures(good) == ""
    excused = next(check for check in good.checks if check.name == "fake: huge image")
    assert 1e-3 < excused.value < excused.limit < 0.03
    assert "with the last bits of its input" in excused.detail
    assert "huge image" in failures(validate(swaying, [Fake(fault=sways_when_huge(offset=0.1))], batches()))


def test_a_crash_leaves_the_other_runners_validated():
    validation = validate(REFERENCE, [Fake("bad", crashes), Fake("good")], batches())
    assert validation.verdict == "fail"
    assert set(validation.parities) == {"good"}
    assert all(check.passed for check in validation.checks if check.name.startswith("good"))


def test_a_nonfinite_reference_fails():
    broken = Fake("pytorch", lambda images, logits: np.full_like(logits, np.nan))
    same = Fake(fault=lambda images, logits: np.full_like(logits, np.nan))
    assert "finite logits" in failures(validate(broken, [same], batches()))


def test_validation_without_images_is_refused():
    with pytest.raises(DataError, match="no images"):
        validate(REFERENCE, [Fake()], [])
    with pytest.raises(DataError, match="no images"):
        validate(REFERENCE, [Fake()], [(np.empty((0, 3, 32, 32), np.float32), np.empty(0, np.int64))])


def test_a_batch_with_too_few_labels_is_refused():
    images, labels = next(batches())
    with pytest.raises(DataError, match="8 images but 7 labels"):
        validate(REFERENCE, [Fake()], [(images, labels[:7])])


def test_no_runners_or_two_of_one_name_are_refused():
    with pytest.raises(UsageError, match="nothing to validate"):
        validate(REFERENCE, [], batches())
    with pytest.raises(UsageError, match="same name"):
        validate(REFERENCE, [Fake(), Fake()], batches())


def test_a_precision_without_limits_is_refused():
    odd = Fake()
    odd.precision = "int3"
    with pytest.raises(UsageError, match="int3"):
        validate(REFERENCE, [odd], batches())


def test_a_validation_without_checks_fails():
    assert Validation(1, (), {}, {}, {}).verdict == "fail"


def test_images_are_streamed():
    order = []

    def source():
        for index, batch in enumerate(batches(4)):
            order.append(f"made {index}")
            yield batch

    def note(images, logits):
        order.append("ran")
        return logits

    validate(REFERENCE, [Fake(fault=note)], source())
    assert order[:8] == [word for index in range(4) for word in (f"made {index}", "ran")]


def test_flips_have_the_names_of_their_images():
    names = [f"photo {index}" for index in range(40)]
    validation = validate(REFERENCE, [Fake(fault=lambda images, logits: logits[:, ::-1])], batches(), names=names)
    flips = validation.parities["fake"].flips
    assert [flip.image for flip in flips] == [names[flip.index] for flip in flips]
    assert validation.to_json()["parities"]["fake"]["flips"][0]["image"] == flips[0].image
    with pytest.raises(DataError, match="39 names"):
        validate(REFERENCE, [Fake()], batches(), names=names[:-1])


def test_memory_does_not_grow_with_the_images():
    classes = 2000

    def wide(images, logits):
        return np.tile(logits, (1, classes // 4))

    def peak(count: int) -> int:
        tracemalloc.start()
        validate(Fake("pytorch", wide), [Fake(fault=wide)], batches(count, size=4))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(5)
    few, many = peak(10), peak(200)
    # 190 batches of logits of two models would be 12 MB.
    assert many - few < 1e6
