"""Collect the parts of the drop zone: model, onnxruntime-web and preprocessing in JavaScript."""

from __future__ import annotations

import base64
import gzip
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tcs_edge.data import Preprocess
from tcs_edge.errors import MissingError, ParityFailed
from tcs_edge.export.preprocess import read_labels
from tcs_edge.report.page.environment import resource
from tcs_edge.runs.folder import find_run
from tcs_edge.runs.manifest import read_manifest
from tcs_edge.specs.artifacts import CONFIDENCE_FILE
from tcs_edge.specs.confidence import read_confidence
from tcs_edge.utils.reading import read_json

VARIABLE = "TCS_EDGE_ONNXRUNTIME_WEB"
SCRIPT, BINARY = "dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm"
USUAL_PLACE = Path("node_modules/onnxruntime-web")


@dataclass(frozen=True)
class Interactive:
    """Parts of the drop zone as text: gzipped files in base64, class names and preprocessing.

    `unknown_below` is the threshold of the largest probability for unknown images; None without one.
    """

    model: str
    runtime_script: str
    runtime_binary: str
    labels: tuple[str, ...]
    preprocess: dict[str, Any]
    unknown_below: float | None
    program: Markup


def interactive_parts(root: Path, package: Path | None) -> Interactive:
    """Return the parts of the drop zone for the run in `root`.

    Args:
        package: the unpacked npm package onnxruntime-web; None uses the environment variable
            TCS_EDGE_ONNXRUNTIME_WEB, then node_modules/ of the current folder.

    Raises:
        MissingError: the package was not found. ParityFailed: the run failed validation.
        DataError: not a run, or unreadable labels or preprocessing.
    """
    folder = find_run(root)
    if read_manifest(folder.root).verdict != "pass" or not folder.export.is_dir():
        raise ParityFailed(f"{root} has no validated model for --interactive. Pass a run with the verdict pass.")
    web = _package(package)
    preprocess = Preprocess.from_json(read_json(folder.export / "preprocess.json", schema_version=1))
    rule = read_confidence(folder.export / CONFIDENCE_FILE).unknown
    return Interactive(
        model=_packed(folder.export / "model.onnx"),
        runtime_script=_packed(web / SCRIPT),
        runtime_binary=_packed(web / BINARY),
        labels=read_labels(folder.export / "labels.txt"),
        unknown_below=rule.below if rule else None,
        preprocess=preprocess.to_json() | {"resized_side": preprocess.resized_side},
        program=Markup(resource("preprocess.js") + "\n" + resource("classify.js")),
    )


def _package(given: Path | None) -> Path:
    named = os.environ.get(VARIABLE)
    place = given or (Path(named) if named else USUAL_PLACE)
    for folder in (place, place / USUAL_PLACE):
        if all((folder / name).is_file() for name in (SCRIPT, BINARY)):
            return folder
    raise MissingError(
        f"--interactive needs the npm package onnxruntime-web. It was not found in {place}. "
        f"Run `npm install onnxruntime-web`, then pass --onnxruntime-web {USUAL_PLACE}."
    )


def _packed(path: Path) -> str:
    # mtime 0 keeps the page identical for identical files.
    return base64.b64encode(gzip.compress(path.read_bytes(), compresslevel=6, mtime=0)).decode("ascii")
