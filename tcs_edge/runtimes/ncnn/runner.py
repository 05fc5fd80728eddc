"""ncnn on the CPU, in float32 or with the settings that it chooses by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tcs_edge.errors import DataError
from tcs_edge.runtimes.base import ClosingRunner, coarsest, run_all, stored_labels
from tcs_edge.runtimes.beside import matching_metadata, stated_img_size
from tcs_edge.runtimes.ncnn.library import device_arithmetic, ncnn, require_runs
from tcs_edge.runtimes.ncnn_file import Weights, ends_of, read_param, read_weights
from tcs_edge.specs.artifacts import Precision, runner_name

# Everything shorter than float32 off; Winograd, sgemm and packed layouts stay on, as on a device.
FLOAT32 = {
    "use_fp16_packed": False, "use_fp16_storage": False, "use_fp16_arithmetic": False,
    "use_bf16_packed": False, "use_bf16_storage": False,
}  # fmt: skip
SHOWN = (
    "use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage", "use_packing_layout",
    "use_winograd_convolution", "use_sgemm_convolution",
)  # fmt: skip


class NcnnRunner(ClosingRunner):
    """Runner of a .param file, with its .bin beside it, with `threads` threads.

    Args:
        own_choice: leave the arithmetic to ncnn, as in the deployed model; `arithmetic` holds the result. False
            computes in float32, which tests the conversion alone.

    Its name is "ncnn", followed by the precision of the weights if that is not fp32, then by "-device" for
    `own_choice`. `settings` lists ncnn's options in words.

    Raises:
        DataError: a file is missing, truncated or of another model, or the model is not an image classifier.
        MissingError: ncnn is not installed.
    """

    def __init__(self, path: Path, threads: int = 1, own_choice: bool = False) -> None:
        path = Path(path)
        layers = read_param(path)
        weights = read_weights(path.with_suffix(".bin"), layers)
        if weights.problem:
            raise DataError(f"{path}: {weights.problem}. Export it again.")
        if any(len(ends) != 1 for ends in ends_of(layers)):
            raise DataError(f"{path}: not one input and one output, as a classifier has.")
        stored = stored_in(weights)
        metadata = matching_metadata(path, stored)
        self._img_size = stated_img_size(metadata, path)
        outputs = require_runs(path, self._img_size)
        self.labels = stored_labels(metadata.get("labels"), outputs, str(path))
        self.arithmetic: str = device_arithmetic() if own_choice else "f32"
        self.precision = coarsest(stored, self.arithmetic)
        self.name = runner_name("ncnn", stored) + ("-device" if own_choice else "")
        self._net: Any = _loaded(path, threads, own_choice)
        self.settings = ", ".join(f"{name[4:]} {'on' if getattr(self._net.opt, name) else 'off'}" for name in SHOWN)
        (self._input,), (self._output,) = self._net.input_names(), self._net.output_names()

    def run(self, images: np.ndarray) -> np.ndarray:
        """Return logits, float32 (B, classes), for float32 images (B, 3, S, S)."""
        return run_all(self._infer, images, self._img_size, one_by_one=True)

    def _infer(self, images: np.ndarray) -> np.ndarray:
        extractor = self._net.create_extractor()
        image = ncnn().Mat(np.ascontiguousarray(images[0])).clone()
        failed = extractor.input(self._input, image)
        code, logits = extractor.extract(self._output)
        if failed or code or logits.empty():
            raise DataError(f"ncnn failed on an image of {images.shape[2]} px (code {failed or code}).")
        return np.array(logits).reshape(1, -1)

    def close(self) -> None:
        """Free the model."""
        self._net = None


def as_deployed(path: Path, threads: int) -> NcnnRunner:
    """Open a model with ncnn's own settings, which are shorter than float32 on most processors."""
    return NcnnRunner(path, threads, own_choice=True)


def stored_in(weights: Weights) -> Precision:
    """Return the precision of the coarsest weights in a .bin file."""
    if weights.elements["int8"]:
        return "int8"
    return "fp16" if weights.elements["float16"] else "fp32"


def _loaded(path: Path, threads: int, own_choice: bool) -> Any:
    net = ncnn().Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    for name, value in ({} if own_choice else FLOAT32).items():
        setattr(net.opt, name, value)
    if net.load_param(str(path)) or net.load_model(str(path.with_suffix(".bin"))):
        raise DataError(f"{path} cannot be loaded by ncnn. Export it again.")
    return net
