"""Faults in the files of a model whose format cannot hold metadata, ncnn and LiteRT, and in the .json beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from tcs_edge.errors import TcsEdgeError
from tcs_edge.selftest.specimen import Specimen

Damage = Callable[[Path, Specimen], None]


@contextmanager
def _metadata(path: Path) -> Iterator[dict[str, Any]]:
    document = json.loads(path.read_text(encoding="utf-8"))
    yield document
    path.write_text(json.dumps(document), encoding="utf-8")


def change_file(file: PurePosixPath, change: Callable[[bytes], bytes]) -> Damage:
    """Return a fault that changes the content of `file`, a path in the export folder."""

    def damage(exports: Path, _: Specimen) -> None:
        path = exports / file
        before = path.read_bytes()
        after = change(before)
        if before == after:
            raise TcsEdgeError(f"the self-test could not damage {path.name}. Pass another --student.")
        path.write_bytes(after)

    return damage


def swap_labels(model: PurePosixPath) -> Damage:
    """Return a fault that swaps the first two class names beside `model`, a path in the export folder."""

    def damage(exports: Path, _: Specimen) -> None:
        with _metadata((exports / model).with_suffix(".json")) as document:
            first, second, *rest = document["labels"]
            document["labels"] = [second, first, *rest]

    return damage


def set_wrong_mean(model: PurePosixPath) -> Damage:
    """Return a fault that states another mean in the preprocessing beside `model`, a path in the export folder."""

    def damage(exports: Path, _: Specimen) -> None:
        with _metadata((exports / model).with_suffix(".json")) as document:
            document["preprocess"]["mean"] = [0.0, 0.0, 0.0]

    return damage
