"""What every artifact says about itself: its labels, its preprocessing, who made it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from tcs_edge.errors import DataError
from tcs_edge.versions import library_versions

KEYS = ("labels", "preprocess", "versions")


def build_metadata(labels: Sequence[str], preprocess: Mapping[str, Any]) -> dict[str, str]:
    """The key-value pairs stored inside an artifact; every value is JSON text."""
    values = {"labels": list(labels), "preprocess": dict(preprocess), "versions": library_versions()}
    return {key: json.dumps(values[key], ensure_ascii=False, allow_nan=False) for key in KEYS}


def read_onnx_metadata(path: Path) -> dict[str, str]:
    """The pairs `build_metadata` made, read back from an ONNX file.

    Raises:
        DataError: no ONNX file, or one without our metadata.
    """
    pairs = stored_pairs(path)
    missing = [key for key in KEYS if key not in pairs]
    if missing:
        raise DataError(
            f"{path} holds no {', '.join(missing)}: it was not exported by tcs-edge. Take the model of a run."
        )
    return pairs


def stored_pairs(path: Path) -> dict[str, str]:
    """As many of those pairs as any ONNX file holds.

    Raises:
        DataError: no ONNX file.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except (OSError, DecodeError) as error:
        raise DataError(f"{path} cannot be read as ONNX: {error}. Export it again.") from None
    return {pair.key: pair.value for pair in model.metadata_props if pair.key in KEYS}
