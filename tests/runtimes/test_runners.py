"""Runners: any batch gives float32 logits, and errors are readable."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys

import numpy as np
import onnx
import pytest

from tcs_edge.errors import DataError
from tcs_edge.runtimes.base import require_images, static_sides
from tcs_edge.runtimes.onnxruntime import OrtRunner
from tcs_edge.runtimes.openvino import OpenVinoRunner
from tcs_edge.runtimes.torch import TorchRunner


def noise(count: int, size: int = 32) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 3, size, size)).astype(np.float32)


@pytest.fixture(params=["pytorch", "onnxruntime", "openvino", "openvino-device"])
def runner(request, model, onnx_path, xml_path):
    makers = {
        "pytorch": lambda: TorchRunner(model),
        "onnxruntime": lambda: OrtRunner(onnx_path),
        "openvino": lambda: OpenVinoRunner(xml_path),
        "openvino-device": lambda: OpenVinoRunner(xml_path, precision="device"),
    }
    with makers[request.param]() as made:
        assert made.name == request.param
        yield made


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_static_batch_model_takes_any_batch(runner, count):
    logits = runner.run(noise(count))
    assert logits.shape == (count, 4)
    assert logits.dtype == np.float32


def test_rows_do_not_share_memory_with_the_runtime(runner):
    images = noise(3)
    first = runner.run(images)
    kept = first.copy()
    runner.run(np.zeros_like(images))
    np.testing.assert_array_equal(first, kept)


def test_images_that_are_not_contiguous_give_equal_logits(runner):
    images = noise(2)
    swapped = np.ascontiguousarray(images.transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2)
    np.testing.assert_allclose(runner.run(swapped), runner.run(images), atol=1e-5)


SIGNALED = """
import os, signal, sys
from pathlib import Path
from tcs_edge.runtimes.openvino import OpenVinoRunner
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
first, second = (OpenVinoRunner(Path(sys.argv[1])) for _ in range(2))
first.close()
second.close()
del first, second
os.kill(os.getpid(), signal.SIGUSR1)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs a signal for users")
def test_a_signal_after_several_openvino_models_does_not_crash(xml_path):
    done = subprocess.run([sys.executable, "-c", SIGNALED, xml_path], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


@pytest.mark.parametrize("images", [noise(1).astype(np.float64), noise(1)[0], noise(1)[:, :2], noise(1)[:0]])
def test_images_of_another_kind_are_refused(runner, images):
    with pytest.raises(DataError):
        runner.run(images)


@pytest.mark.parametrize("kind", [OrtRunner, OpenVinoRunner])
def test_images_of_another_size_are_refused(kind, onnx_path):
    with kind(onnx_path) as runner, pytest.raises(DataError, match="32, 32"):
        runner.run(noise(1, size=64))


def test_labels_come_from_the_exported_file(labels, model, onnx_path, xml_path):
    assert OrtRunner(onnx_path).labels == labels
    assert OpenVinoRunner(xml_path).labels == labels
    assert TorchRunner(model).labels is None


def test_f32_is_read_back_from_openvino(xml_path):
    assert OpenVinoRunner(xml_path, precision="f32").precision == "f32"


def test_the_devices_own_precision_is_read_back(xml_path):
    assert OpenVinoRunner(xml_path, precision="device").precision in ("f32", "f16", "bf16")


def test_threads_and_spinning_are_set(onnx_path, xml_path):
    options = OrtRunner(onnx_path, threads=2)._session.get_session_options()
    assert options.intra_op_num_threads == 2
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert OpenVinoRunner(xml_path, threads=2)._compiled[None].get_property("INFERENCE_NUM_THREADS") == 2


@pytest.mark.parametrize("kind", [OrtRunner, OpenVinoRunner])
@pytest.mark.parametrize("damage", [lambda b: b[:5000], lambda b: b[:-40], lambda b: bytes(range(256)), lambda b: b""])
def test_a_damaged_onnx_file_is_a_data_error(kind, damage, onnx_path, tmp_path, capfd):
    path = tmp_path / "model.onnx"
    path.write_bytes(damage(onnx_path.read_bytes()))
    with pytest.raises(DataError, match=r"model\.onnx") as caught:
        kind(path)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3
    # OpenVINO tries each of its frontends on such a file, and TensorFlow's prints an error.
    assert kind is OpenVinoRunner or capfd.readouterr().err == ""


def test_a_missing_file_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="no such ONNX file"):
        OrtRunner(tmp_path / "model.onnx")
    with pytest.raises(DataError, match="no such OpenVINO file"):
        OpenVinoRunner(tmp_path / "model.xml")


def test_an_ir_without_its_weights_is_a_data_error(xml_path, tmp_path):
    shutil.copy(xml_path, tmp_path / "model.xml")
    with pytest.raises(DataError, match=r"model\.bin"):
        OpenVinoRunner(tmp_path / "model.xml")


@pytest.mark.parametrize("lost", [1, 4, 5000])
def test_truncated_weights_are_a_data_error(xml_path, tmp_path, lost):
    shutil.copy(xml_path, tmp_path / "model.xml")
    (tmp_path / "model.bin").write_bytes(xml_path.with_suffix(".bin").read_bytes()[:-lost])
    with pytest.raises(DataError, match="cannot be loaded by openvino"):
        OpenVinoRunner(tmp_path / "model.xml")


def test_a_truncated_xml_is_a_data_error(xml_path, tmp_path):
    shutil.copy(xml_path.with_suffix(".bin"), tmp_path / "model.bin")
    (tmp_path / "model.xml").write_text(xml_path.read_text(encoding="utf-8")[:2000], encoding="utf-8")
    with pytest.raises(DataError, match=r"model\.xml"):
        OpenVinoRunner(tmp_path / "model.xml")


def test_a_fixed_batch_other_than_one_is_refused(tmp_path):
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [4, 3, 8, 8])
    logits = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [4, 192])
    flatten = onnx.helper.make_node("Flatten", ["image"], ["logits"])
    graph = onnx.helper.make_graph([flatten], "baked", [image], [logits])
    opset = onnx.helper.make_opsetid("", 18)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10), tmp_path / "model.onnx")
    for kind in (OrtRunner, OpenVinoRunner):
        with pytest.raises(DataError, match="batch is fixed to 4"):
            kind(tmp_path / "model.onnx")


@pytest.mark.parametrize("shape", [[1, 1, 8, 8], [1, 3, 8, 9], [1, 3, 8], [1, 8, 8, 3]])
def test_inputs_that_are_not_square_rgb_are_refused(shape):
    with pytest.raises(DataError, match=r"\(B, 3, S, S\)"):
        static_sides(shape, "model.onnx")


def test_any_square_is_accepted_with_a_dynamic_size():
    require_images(noise(1, size=48), None)


def test_the_module_runs_in_eval_mode(model):
    model.train()
    runner = TorchRunner(model)
    np.testing.assert_array_equal(runner.run(noise(2)), runner.run(noise(2)))
    assert not model.training
