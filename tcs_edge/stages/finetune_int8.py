"""Give int8 files that missed the accuracy limit a second chance: training with simulated int8."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from tcs_edge.errors import DataError, TrainingDiverged, UsageError, reason_of
from tcs_edge.quantization.quantize import TITLES, Format, Quantized, Quantizer
from tcs_edge.stages.export_student import StudentExport
from tcs_edge.training.int8_finetune import finetune_for_int8
from tcs_edge.utils.files import write_bytes
from tcs_edge.utils.reading import require_content

logger = logging.getLogger(__name__)

Make = Callable[[Quantizer, Format], Quantized]


def retry_missed(
    made: Sequence[Quantized], make: Make, quantizer: Quantizer, student: StudentExport, weights: Path
) -> tuple[Quantized, ...]:
    """Return `made`, with a second try of each format that missed the limit by calibration.

    Its int8 file comes from a copy of the student that was trained for int8. It is compared with the same float32
    file as before. Without epochs for this training, or images to show the limit, there is no second try.

    Args:
        made: results of `quantizer`.
        make: makes a format with a quantizer.
        weights: file for the copy; if it exists, it is read instead of another training.

    Raises:
        DataError: an image is not readable, or `weights` is damaged.
    """
    options = student.options
    missed = [one for one in made if not one.released]
    epochs = options.int8.finetune_epochs
    if not missed or not epochs or not quantizer.can_release:
        return tuple(made)
    names = " and ".join(TITLES[one.format] for one in missed)
    logger.info(f"int8 {names}: missed the limit by calibration, now {epochs} epochs of training with simulated int8")
    try:
        trained = _trained(student, quantizer, weights)
    except (TrainingDiverged, UsageError) as error:
        logger.warning(f"int8: no training with simulated int8 ({reason_of(error)})")
        return tuple(made)
    with TemporaryDirectory() as folder:
        source = replace(student, model=trained).to_onnx(Path(folder) / "model.onnx")
        other = replace(quantizer, source=source, exact=quantizer.source)
        return tuple(one if one.released else _again(one, make, other, epochs) for one in made)


def _again(before: Quantized, make: Make, quantizer: Quantizer, epochs: int) -> Quantized:
    made = make(quantizer, before.format)
    logger.info(
        f"int8 {TITLES[made.format]}: validation accuracy loss {100 * before.rounds[-1].drop:.2f} points by "
        f"calibration, {100 * made.rounds[-1].drop:.2f} after training"
    )
    return replace(made, finetuned_epochs=epochs, calibrated=before.rounds)


def _trained(student: StudentExport, quantizer: Quantizer, weights: Path) -> nn.Module:
    """Return the copy that was trained for int8, from its file or by training it now."""
    if weights.exists():
        logger.info("training with simulated int8: skipped (finished before the interruption)")
        return _loaded(weights, student.model)
    trained = finetune_for_int8(
        student.model, student.images, student.preprocess, quantizer.images, quantizer.schemes[0], student.options
    )
    write_bytes(weights, save({name: one.contiguous() for name, one in trained.state_dict().items()}))
    return trained


def _loaded(path: Path, model: nn.Module) -> nn.Module:
    require_content(path)
    copied = copy.deepcopy(model)
    try:
        copied.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise DataError(f"{path} does not contain this student ({reason_of(error)}). Delete the file.") from None
    return copied.eval()
