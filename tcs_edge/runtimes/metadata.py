"""Metadata in every exported file: labels, preprocessing, versions and precision."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from tcs_edge.errors import DataError
from tcs_edge.runtimes.onnx_file import read_onnx
from tcs_edge.specs.artifacts import Precision
from tcs_edge.utils.versions import library_versions

KEYS = ("labels", "preprocess", "versions", "precision")


def build_metadata(
    labels: Sequence[str], preprocess: Mapping[str, Any], precision: Precision = "fp32"
) -> dict[str, str]:
    """Return the key-value pairs to store in a file. The precision is plain text, all other values are JSON."""
    values = {"labels": list(labels), "preprocess": dict(preprocess), "versions": library_versions()}
    texts = {key: json.dumps(value, ensure_ascii=False, allow_nan=False) for key, value in values.items()}
    return texts | {"precision": precision}


def set_onnx_metadata(model: onnx.ModelProto, pairs: Mapping[str, str]) -> None:
    """Add `pairs` to the metadata of `model`, replacing equal keys."""
    kept = {pair.key: pair.value for pair in model.metadata_props} | dict(pairs)
    del model.metadata_props[:]
    for key, value in kept.items():
        model.metadata_props.add(key=key, value=value)


def read_onnx_metadata(path: Path) -> dict[str, str]:
    """Read the pairs of `build_metadata` from an ONNX file.

    Raises:
        DataError: not an ONNX file, or one without our metadata.
    """
    pairs = stored_pairs(path)
    missing = [key for key in KEYS if key not in pairs]
    if missing:
        raise DataError(f"{path} has no metadata {', '.join(missing)}. Pass the model of a run of tcs-edge.")
    return pairs


def stored_pairs(path: Path) -> dict[str, str]:
    """Read the pairs that are present in any ONNX file.

    Raises:
        DataError: not an ONNX file.
    """
    return {pair.key: pair.value for pair in read_onnx(path).metadata_props if pair.key in KEYS}
