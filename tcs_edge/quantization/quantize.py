"""Make int8 files from the float32 ONNX file; write only files that hold the accuracy, or pass on request."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import onnx

from tcs_edge.data import Preprocess, Split
from tcs_edge.export.files import save_onnx
from tcs_edge.quantization.accuracy_check import AccuracyCheck
from tcs_edge.quantization.bias import correct_biases, input_means
from tcs_edge.quantization.clipping import with_clipped_ranges
from tcs_edge.quantization.fallback import Round, hold_accuracy
from tcs_edge.quantization.gemm import read_for_int8
from tcs_edge.quantization.ir import quantized_ir
from tcs_edge.quantization.qdq import Scheme, products_of_values, quantized, with_float_layers
from tcs_edge.quantization.sensitivity import LayerCost, layer_costs, noise_share, run_model
from tcs_edge.runtimes.base import Runner
from tcs_edge.runtimes.metadata import read_onnx_metadata
from tcs_edge.runtimes.onnx_file import read_onnx
from tcs_edge.runtimes.onnxruntime import OrtRunner
from tcs_edge.runtimes.openvino import OpenVinoRunner
from tcs_edge.runtimes.openvino.export import write_ir
from tcs_edge.specs.options import Int8Options
from tcs_edge.utils.files import write_bytes

logger = logging.getLogger(__name__)

Format = Literal["onnx", "openvino"]
TITLES: dict[Format, str] = {"onnx": "ONNX", "openvino": "OpenVINO"}
# Smaller differences of the noise are chance: 16 and 128 images order the variants differently, and ranges and biases
# are fitted to the images that measure the noise.
WORTHWHILE = 0.9


@dataclass(frozen=True)
class Quantized:
    """Result of one int8 format.

    Attributes:
        schemes: noise of the logits with every layer in int8, per scheme.
        rounds: all rounds; the last one is released if it held the accuracy.
        allow_unshown: also release a last round that passed its checks on too few images to show the limit.
        seconds: wall time; that of the first format includes the costs of the layers.
        finetuned_epochs: epochs of training with simulated rounding before the quantization; 0 without.
        calibrated: rounds without that training, which missed the limit; empty without it.
    """

    format: Format
    schemes: dict[str, float]
    rounds: tuple[Round, ...]
    seconds: float
    allow_unshown: bool = False
    finetuned_epochs: int = 0
    calibrated: tuple[Round, ...] = ()

    @property
    def released(self) -> bool:
        """True if the file was written."""
        last = self.rounds[-1]
        return last.held or (self.allow_unshown and last.passed)

    def to_json(self) -> dict[str, Any]:
        """Return all fields as JSON values."""
        return {
            "format": self.format,
            "released": self.released,
            "schemes": self.schemes,
            "rounds": [made.to_json() for made in self.rounds],
            "seconds": round(self.seconds, 1),
            "finetuned_epochs": self.finetuned_epochs,
            "calibrated": [made.to_json() for made in self.calibrated],
        }


@dataclass(frozen=True)
class Quantizer:
    """Make both int8 formats of one model; the layer costs are measured once and order both fallbacks.

    Attributes:
        source: the float32 ONNX file of the run.
        calibration: training images for the ranges of the activations.
        schemes: schemes for ONNX Runtime; the one with the least noise is used.
        allow_unshown: as in `Quantized`.
        exact: float32 ONNX file whose logits the int8 files are to have; None for `source`.
    """

    source: Path
    calibration: Split
    preprocess: Preprocess
    accuracy_check: AccuracyCheck
    schemes: tuple[Scheme, ...]
    options: Int8Options
    threads: int
    allow_unshown: bool = False
    exact: Path | None = None

    @property
    def can_release(self) -> bool:
        """True if a model without any changed class would be released."""
        return self.allow_unshown or self.accuracy_check.can_hold

    def to_onnx(self, path: Path) -> Quantized:
        """Write int8 ONNX to `path` if it is released."""
        started = time.perf_counter()
        model, schemes = self._best

        def build(float_layers: tuple[str, ...], target: Path) -> Runner:
            save_onnx(with_float_layers(model, self._original, float_layers), target)
            return OrtRunner(target, self.threads)

        return self._released("onnx", schemes, build, path, started)

    def to_openvino(self, xml_path: Path) -> Quantized:
        """Write int8 OpenVINO IR to `xml_path` and its .bin if it is released."""
        started = time.perf_counter()
        metadata = read_onnx_metadata(self.source) | {"precision": "int8"}

        def build(float_layers: tuple[str, ...], target: Path) -> Runner:
            kept = (*float_layers, *products_of_values(self._original.graph))
            write_ir(quantized_ir(self.source, self.images, kept, self._is_transformer), target, metadata)
            return OpenVinoRunner(target, self.threads)

        return self._released("openvino", {}, build, xml_path, started)

    @cached_property
    def costs(self) -> tuple[LayerCost, ...]:
        """Cost of each layer in int8, the most sensitive first."""
        return layer_costs(self._best[0], self._original, self._few_images, self.threads)

    @cached_property
    def _original(self) -> onnx.ModelProto:
        return read_for_int8(self.source)

    @cached_property
    def images(self) -> tuple[np.ndarray, ...]:
        """Calibration images, float32 (1, 3, S, S) each."""
        rows = range(len(self.calibration))
        return tuple(self.preprocess(self.calibration.image(row))[None] for row in rows)

    @property
    def _few_images(self) -> np.ndarray:
        return np.concatenate(self.images[: self.options.sensitivity_images])

    @property
    def _is_transformer(self) -> bool:
        return any(node.op_type == "Softmax" for node in self._original.graph.node)

    @cached_property
    def _best(self) -> tuple[onnx.ModelProto, dict[str, float]]:
        """Model of the scheme with the least noise, and the noise of each scheme."""
        return least_noisy(self.source, self.schemes, self.images, self.threads, self.exact)

    def _released(
        self,
        kind: Format,
        schemes: dict[str, float],
        build: Callable[[tuple[str, ...], Path], Runner],
        path: Path,
        started: float,
    ) -> Quantized:
        """Run rounds with more and more float layers; write the files of a released one to `path`."""
        # More float layers cannot show what the number of images cannot show.
        stops_at_passed = self.allow_unshown or not self.accuracy_check.can_hold
        with TemporaryDirectory() as folder:
            draft = Path(folder) / path.name

            def attempt(float_layers: tuple[str, ...]) -> Round:
                with build(float_layers, draft) as runner:
                    made = self.accuracy_check.grade(runner, float_layers)
                logger.info(f"int8 {TITLES[kind]}: {_sentence(made, len(self.costs))}")
                return made

            rounds = hold_accuracy(
                attempt, self.costs, self.options.rounds, lambda made: made.passed if stops_at_passed else made.held
            )
            made = Quantized(kind, schemes, rounds, time.perf_counter() - started, self.allow_unshown)
            if made.released:
                for file in sorted(Path(folder).iterdir()):
                    write_bytes(path.with_name(file.name), file.read_bytes())
        return made


def least_noisy(
    source: Path,
    schemes: Sequence[Scheme],
    images: Sequence[np.ndarray],
    threads: int,
    exact: Path | None = None,
) -> tuple[onnx.ModelProto, dict[str, float]]:
    """Quantize the ONNX file `source` with every scheme, with and without clipped ranges and corrected biases.

    A later variant replaces an earlier one only if its noise is below `WORTHWHILE` of the earlier noise.

    Args:
        schemes: the preferred one first.
        images: float32 (1, 3, S, S) each, for the ranges, the corrections and the noise.
        exact: float32 ONNX file that the noise is measured against; None for `source`.

    Returns:
        The model, and the least noise of each scheme by its name.

    Raises:
        UsageError: onnxruntime cannot quantize this model.
    """
    original, given = read_for_int8(source), np.concatenate(images)
    expected = run_model(read_onnx(exact or source), given, threads)
    means = input_means(original, images, threads)
    best, least, noises = None, math.inf, {}
    with TemporaryDirectory() as folder:
        for scheme in schemes:
            logger.debug(f"quantizing {scheme.name}")
            plain = quantized(source, scheme, iter(images), Path(folder) / "ranges.json")
            clipped = with_clipped_ranges(plain, original, images, threads)
            variants = [each for one in (plain, clipped) for each in (one, correct_biases(one, original, means))]
            shares = [noise_share(expected, run_model(model, given, threads)) for model in variants]
            noises[scheme.name] = min(shares)
            for model, share in zip(variants, shares, strict=True):
                if best is None or share < WORTHWHILE * least:
                    best, least = model, share
    assert best is not None  # there is at least one scheme
    return best, noises


def _sentence(made: Round, layers: int) -> str:
    lost = f"validation accuracy loss {100 * made.drop:.2f} points (at most {100 * made.drop_high:.2f} at 95 %)"
    word = "held" if made.held else "not shown" if made.passed else f"failed ({', '.join(made.failures)})"
    return f"{layers - len(made.float_layers)} of {layers} layers in int8, {lost}, {made.sqnr_db:.1f} dB, {word}"
