"""Export further precisions: float16 weights, int8, and ONNX files with built-in preprocessing."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from tcs_edge.data import Preprocess
from tcs_edge.export.fp16 import export_onnx_fp16
from tcs_edge.export.own_formats import export_own_formats
from tcs_edge.export.pixels import export_pixels
from tcs_edge.quantization.accuracy_check import prepare_accuracy_check
from tcs_edge.quantization.calibration import calibration_split
from tcs_edge.quantization.qdq import Scheme
from tcs_edge.quantization.quantize import TITLES, Quantized, Quantizer
from tcs_edge.quantization.quantize import Format as Int8Format
from tcs_edge.quantization.sensitivity import LayerCost
from tcs_edge.runs.schema import AccuracyLossRecord
from tcs_edge.runtimes.onnxruntime import OrtRunner
from tcs_edge.specs.artifacts import onnx_file, openvino_file, pixels_file, runner_name
from tcs_edge.specs.config import ResolvedConfig
from tcs_edge.specs.target import TargetSpec, int8_outlook
from tcs_edge.stages.export_student import StudentExport
from tcs_edge.stages.finetune_int8 import retry_missed
from tcs_edge.utils.files import write_json
from tcs_edge.validation.checks import Check, holds
from tcs_edge.validation.statistics import images_to_show

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Int8Record:
    """Record of the int8 export for the report: the cost of each layer, all rounds, and the released files."""

    outlook: str
    calibration_images: int
    validation_images: int
    max_accuracy_drop: float
    costs: tuple[LayerCost, ...]
    formats: tuple[Quantized, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the record as a JSON document."""
        return {
            "schema_version": SCHEMA_VERSION,
            "outlook": self.outlook,
            "calibration_images": self.calibration_images,
            "validation_images": self.validation_images,
            "max_accuracy_drop": self.max_accuracy_drop,
            "layers": [cost.to_json() for cost in self.costs],
            "formats": [made.to_json() for made in self.formats],
        }


def export_precisions(
    exports: Path, int8_report: Path, int8_weights: Path, student: StudentExport
) -> Int8Record | None:
    """Write the requested files beside the float32 files in `exports`; int8 only if it keeps its accuracy.

    Also write `int8_report`.

    Args:
        int8_weights: as `weights` of `export_int8`.

    Returns:
        Record of the int8 export; None if int8 was not requested.

    Raises:
        DataError, UsageError: as `export_int8`.
    """
    record, options = None, student.options
    if "fp16" in options.precision:
        export_fp16(exports, options.format, student.model)
    if "int8" in options.precision:
        record = export_int8(exports, student, int8_weights)
        write_json(int8_report, record.to_json())
    if options.embed_preprocess:
        embed_preprocess(exports, options, student.preprocess)
    return record


def export_fp16(exports: Path, formats: Collection[str] = (), model: nn.Module | None = None) -> None:
    """Write the float16 files beside the float32 ones in `exports`, also in `formats` on request; see there."""
    logger.info("exporting ONNX (float16 weights)")
    source = exports / onnx_file("fp32")
    export_onnx_fp16(source, exports / onnx_file("fp16"))
    export_own_formats(exports, "fp16", formats, model)


def export_int8(exports: Path, student: StudentExport, weights: Path) -> Int8Record:
    """Write the int8 files beside the float32 ones in `exports`, each only if it keeps its accuracy.

    A format that misses the limit by calibration gets a second try with weights that were trained for int8.

    Args:
        weights: file of these weights, see `retry_missed`.

    Raises:
        DataError: no calibration images apart from the evaluation images.
        UsageError: the model cannot be quantized.
    """
    images, preprocess, options = student.images, student.preprocess, student.options
    source, threads = exports / onnx_file("fp32"), options.threads
    calibration = calibration_split(images, options.int8.calibration_images, options.seed)
    with OrtRunner(source, threads) as reference:
        accuracy_check = prepare_accuracy_check(
            images.val, preprocess, reference, options.max_accuracy_drop, options.seed
        )
    schemes = int8_schemes(student.target)
    quantizer = Quantizer(
        source, calibration, preprocess, accuracy_check, schemes, options.int8, threads, options.allow_unshown_int8
    )

    def made(by: Quantizer, kind: Int8Format) -> Quantized:
        if kind == "onnx":
            return by.to_onnx(exports / onnx_file("int8"))
        return by.to_openvino(exports / openvino_file("int8"))

    formats = retry_missed([made(quantizer, kind) for kind in TITLES], made, quantizer, student, weights)
    warn_of_large_int8(exports)
    outlook, drop = int8_outlook(student.target), options.max_accuracy_drop
    return Int8Record(outlook, len(calibration), len(accuracy_check.labels), drop, quantizer.costs, formats)


def warn_of_large_int8(exports: Path) -> None:
    """Warn if so many layers stay float that the ONNX file with float16 weights would be smaller."""
    plain, eighth = exports / onnx_file("fp32"), exports / onnx_file("int8")
    if eighth.is_file() and 2 * eighth.stat().st_size > plain.stat().st_size:
        int8_mb, fp16_mb = eighth.stat().st_size / 1e6, plain.stat().st_size / 2e6
        logger.warning(
            f"{eighth.name}: {int8_mb:.1f} MB, larger than with float16 weights (about {fp16_mb:.1f} MB). Too many "
            "layers stay in float. Pass --precision fp16 for a smaller file."
        )


def int8_schemes(target: TargetSpec) -> tuple[Scheme, ...]:
    """Return the quantization schemes for the target's processor."""
    arm = target.cpu.isa.startswith("arm")
    saturates = not arm and not target.cpu.int8_dot_product
    return tuple(Scheme(per_channel, arm, saturates) for per_channel in (True, False))


def int8_losses(record: Int8Record | None) -> dict[str, AccuracyLossRecord]:
    """Return the loss of every released int8 format on the validation images, by format."""
    if record is None:
        return {}
    images, limit = record.validation_images, record.max_accuracy_drop
    return {
        made.format: AccuracyLossRecord(
            value=made.rounds[-1].drop,
            high=made.rounds[-1].drop_high,
            images=images,
            limit=limit,
            finetuned_epochs=made.finetuned_epochs,
            by_calibration=made.calibrated[-1].drop if made.calibrated else None,
        )
        for made in record.formats
        if made.released
    }


def int8_checks(record: Int8Record | None) -> list[Check]:
    """Return one check per int8 format, which passes if the format was released."""
    if record is None:
        return []
    checks = []
    for made in record.formats:
        runtime = "onnxruntime" if made.format == "onnx" else made.format
        checks.append(holds(f"{runner_name(runtime, 'int8')}: released", made.released, _int8_detail(made, record)))
    return checks


def _int8_detail(made: Quantized, record: Int8Record) -> str:
    """Return the loss of a format on the validation images, and what to do about a format that was not released."""
    last = made.rounds[-1]
    loss = (
        f"lost {100 * last.drop:.1f} points on {record.validation_images} validation images, at most "
        f"{100 * last.drop_high:.1f} at 95 %, limit {100 * record.max_accuracy_drop:g}"
    )
    if last.held:
        return loss
    if last.passed:
        few = f"the limit is not shown: {loss}"
        return (
            few if made.released else f"{few}. Pass --allow-unshown-int8, a larger --max-accuracy-drop{_needed(record)}"
        )
    most_sensitive = ", ".join(cost.name for cost in record.costs[:3])
    return (
        f"{', '.join(last.failures)} after {len(made.rounds)} rounds{_after_training(made)} "
        f"(most sensitive layers: {most_sensitive}). "
        "See reports/int8.json. Pass a larger --max-accuracy-drop, or leave int8 out"
    )


def _after_training(made: Quantized) -> str:
    return f" and {made.finetuned_epochs} epochs of training with simulated int8" if made.finetuned_epochs else ""


def _needed(record: Int8Record) -> str:
    """Name the number of validation images that can show the limit, where there are fewer."""
    least = images_to_show(record.max_accuracy_drop)
    if least == math.inf:
        return ""
    return ", or use more validation images" + (f" (at least {least})" if record.validation_images < least else "")


def embed_preprocess(exports: Path, options: ResolvedConfig, preprocess: Preprocess) -> None:
    """Write a copy with built-in preprocessing of every ONNX file in `exports`."""
    for precision in options.precision:
        source = exports / onnx_file(precision)
        if source.is_file():
            logger.info(f"exporting ONNX with its preprocessing ({precision})")
            export_pixels(source, exports / pixels_file(precision), preprocess)
