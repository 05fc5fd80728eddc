"""Export the ONNX graph as OpenVINO IR: an .xml and a .bin.

The source is the ONNX file, not the torch module, so that both runtimes run one graph. A difference between them
then comes from the runtime. `Core.read_model` reads the file, because `openvino.convert_model` adds only telemetry.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from tcs_edge.errors import DataError, MissingError, RequirementMissed, reason_of
from tcs_edge.runtimes.metadata import KEYS, read_onnx_metadata
from tcs_edge.runtimes.openvino.library import core, openvino
from tcs_edge.specs.artifacts import Precision
from tcs_edge.utils.files import atomic_path

if TYPE_CHECKING:
    import openvino as ov

logger = logging.getLogger(__name__)

RT_INFO_GROUP = "tcs_edge"
PROBE_BYTES = 2**16
WEIGHTS: dict[Precision, str] = {"fp32": "float32", "fp16": "float16", "int8": "int8"}


def export_openvino(
    onnx_path: Path,
    xml_path: Path,
    precision: Precision = "fp32",
) -> tuple[Path, Path]:
    """Write the model of `onnx_path` as `xml_path` and the .bin beside it; return both paths.

    Weights stay float32, or become float16 for precision "fp16". The arithmetic is the same for both. Labels,
    preprocessing and versions are copied from the ONNX file into the IR's rt_info, group "tcs_edge".
    Either both files are written or none.

    Raises:
        DataError: the ONNX file is missing, damaged or not ours.
        MissingError: the disk is full or the folder cannot be written.
        RequirementMissed: OpenVINO wrote an IR that it cannot read back.
    """
    metadata = read_onnx_metadata(onnx_path)
    logger.info(f"exporting OpenVINO IR ({WEIGHTS[precision]} weights)")
    return write_ir(read_as_openvino(onnx_path), xml_path, metadata | {"precision": precision})


def read_as_openvino(onnx_path: Path) -> ov.Model:
    """Read an ONNX file as an OpenVINO model.

    Raises:
        DataError: OpenVINO cannot read the file.
    """
    try:
        return core().read_model(onnx_path)
    except RuntimeError as error:
        raise DataError(
            f"{onnx_path} cannot be converted by openvino: {reason_of(error)} Choose another --student."
        ) from error


def write_ir(model: ov.Model, xml_path: Path, metadata: Mapping[str, str]) -> tuple[Path, Path]:
    """Write `model` as `xml_path` and the .bin beside it, with `metadata` in its rt_info; return both paths.

    Float weights become float16 if metadata's "precision" is "fp16", otherwise they stay as they are.

    Raises:
        MissingError, RequirementMissed: as `export_openvino`.
    """
    for key, value in metadata.items():
        model.set_rt_info(value, [RT_INFO_GROUP, key])
    bin_path = xml_path.with_suffix(".bin")
    # Leaving the block renames the .bin first: an .xml is never there without its weights.
    try:
        with atomic_path(xml_path) as draft_xml, atomic_path(bin_path) as draft_bin:
            _save(model, draft_xml, halve=metadata["precision"] == "fp16")
            _require_readable(draft_xml, draft_bin)
            _remove(xml_path, bin_path)
    except BaseException:
        if not xml_path.exists():
            _remove(bin_path)
        raise
    return xml_path, bin_path


def read_openvino_metadata(xml_path: Path) -> dict[str, str]:
    """Read the pairs that `export_openvino` copied from an IR, without loading its weights.

    Raises:
        DataError: not an IR, or one without our metadata.
    """
    try:
        group = ElementTree.parse(xml_path).getroot().find(f"rt_info/{RT_INFO_GROUP}")
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{xml_path} cannot be read as an OpenVINO model: {error}") from None
    pairs = {} if group is None else {item.tag: item.get("value", "") for item in group}
    missing = [key for key in KEYS if key not in pairs]
    if missing:
        raise DataError(f"{xml_path} has no metadata {', '.join(missing)}. Pass an export of tcs-edge.")
    return pairs


def _save(model: ov.Model, xml: Path, halve: bool) -> None:
    try:
        # The default of save_model is to halve.
        openvino().save_model(model, xml, compress_to_fp16=halve)
    except RuntimeError as error:  # a full disk comes as "iostream error", without a code
        raise _cannot_write(xml, error) from error


def _require_readable(xml: Path, weights: Path) -> None:
    if not weights.is_file():
        raise RequirementMissed(f"openvino wrote no weights file beside {xml.name}.")
    try:
        core().read_model(xml)
    except RuntimeError as error:
        _require_space(xml)
        raise RequirementMissed(f"openvino cannot read back the IR it wrote: {reason_of(error)}") from error


def _require_space(xml: Path) -> None:
    """Check that the disk takes more: openvino 2026.0 and older end their files early on a full disk, in silence."""
    more = xml.with_name(f"{xml.name}.more")
    try:
        more.write_bytes(bytes(PROBE_BYTES))
    except OSError as error:
        raise _cannot_write(xml, error) from error
    finally:
        _remove(more)


def _cannot_write(xml: Path, error: Exception) -> MissingError:
    return MissingError(f"openvino cannot write into {xml.parent} ({reason_of(error)}). Free some disk space.")


def _remove(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
