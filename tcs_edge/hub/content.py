"""Files of a published run: those of the manifest, the manifest itself, a marker, and a bundle."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from tcs_edge.errors import DataError, short
from tcs_edge.runs.folder import FILES, FOLDERS, KIND, MANIFEST, MARKER, SCHEMA_VERSION

BUNDLE = "bundle"
# The run's own marker has a path of the machine that made the run. The published one has none.
MARKER_BYTES = (json.dumps({"schema_version": SCHEMA_VERSION, "kind": KIND}, indent=2) + "\n").encode()
UNRECORDED = frozenset({MANIFEST, MARKER})
_PART = re.compile(r"\w[\w.+-]*", re.ASCII)


def require_safe_paths(paths: Iterable[str]) -> None:
    """Check that every path names a file that a run or a bundle has, on every file system.

    Raises:
        DataError: a hidden file, another folder than a run's, or two names that differ in case alone.
    """
    seen: set[str] = set()
    for path in paths:
        pure = PurePosixPath(path)
        known = (*FOLDERS, BUNDLE) if len(pure.parts) > 1 else FILES
        if str(pure) != path or not pure.parts or pure.parts[0] not in known:
            raise DataError(f"{short(path, 100)} is not a file of a run. Do not use this repository.")
        if not all(_PART.fullmatch(part) and not part.endswith(".") for part in pure.parts):
            raise DataError(f"{short(path, 100)} is not a safe file name. Do not use this repository.")
        if path.casefold() in seen:
            raise DataError(f"two files have the name {short(path, 100)}. Do not use this repository.")
        seen.add(path.casefold())
