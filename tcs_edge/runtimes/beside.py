"""Metadata in a .json file beside a model, for formats whose files cannot hold it: ncnn and LiteRT."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

from tcs_edge.errors import DataError
from tcs_edge.runtimes.metadata import KEYS
from tcs_edge.specs.artifacts import Precision
from tcs_edge.utils.files import atomic_path
from tcs_edge.utils.reading import read_json

SCHEMA_VERSION = 1


def metadata_json(metadata: Mapping[str, str], precision: Precision, packages: Collection[str]) -> bytes:
    """Return the content of the .json file for a model made from an ONNX file with `metadata`.

    Args:
        packages: those of the format, whose versions are added.
    """
    stored = {key: json.loads(metadata[key]) for key in ("labels", "preprocess", "versions")}
    stored["versions"] |= {name: version(name) for name in packages}
    document = {"schema_version": SCHEMA_VERSION, **stored, "precision": precision}
    return (json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False) + "\n").encode()


def read_metadata_beside(model_path: Path) -> dict[str, str]:
    """Read the metadata beside a model, in the form of `runtimes.metadata.build_metadata`.

    Raises:
        DataError: the .json file is missing, damaged or incomplete.
    """
    path = model_path.with_suffix(".json")
    document = read_json(path, SCHEMA_VERSION)
    if missing := [key for key in KEYS if key not in document]:
        raise DataError(f"{path} has no {', '.join(missing)}. Pass an export of tcs-edge.")
    texts = {key: json.dumps(document[key], ensure_ascii=False) for key in KEYS}
    return texts | {"precision": str(document["precision"])}


def matching_metadata(model_path: Path, stored: Precision) -> dict[str, str]:
    """Return the metadata beside a model; empty for a model of another tool.

    Args:
        stored: precision of the weights in the model.

    Raises:
        DataError: the metadata is damaged, or states another precision than the weights have.
    """
    if not model_path.with_suffix(".json").is_file():
        return {}
    found = read_metadata_beside(model_path)
    if found["precision"] != stored:
        raise DataError(
            f"{model_path}: its metadata states {found['precision']}, but its weights are {stored}. Export again."
        )
    return found


def stated_img_size(metadata: Mapping[str, str], model_path: Path) -> int | None:
    """Return the pixels of the input in the metadata; None without metadata.

    Raises:
        DataError: not a usable number.
    """
    steps = json.loads(metadata.get("preprocess", "null"))
    if steps is None:
        return None
    side = steps.get("img_size") if isinstance(steps, dict) else None
    if type(side) is not int or not 0 < side <= 4096:
        raise DataError(f"{model_path}: its metadata states no usable img_size. Export it again.")
    return side


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files that belong together: all or none, the first one last, so that it is never there alone.

    Raises:
        MissingError: the disk is full, or the folder cannot be written.
    """
    main, *others = contents
    try:
        with ExitStack() as stack:
            for path, content in contents.items():
                stack.enter_context(atomic_path(path)).write_bytes(content)
            for path in contents:
                path.unlink(missing_ok=True)
    except BaseException:
        if not main.exists():
            for path in others:
                path.unlink(missing_ok=True)
        raise
