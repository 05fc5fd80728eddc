"""Import libraries with their usage statistics switched off."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any


@contextmanager
def telemetry_off() -> Iterator[None]:
    """Switch off the usage statistics of every library that is imported for the first time inside the block.

    Import onnxruntime, openvino and nncf in such a block only. Afterwards the environment and `sys.modules`
    are as before, and the libraries stay silent for the rest of the process:

    - ONNX Runtime reads its environment variable once, during its import. Without the variable, the import
      writes a device id into the home folder.
    - OpenVINO and NNCF bind a stub during their import if `openvino_telemetry` cannot be imported. Otherwise
      consent is on by default, and the import writes a client id into the home folder.

    The block changes nothing about a library that the process imported earlier. No consent file is written.
    """
    # None in sys.modules makes Python raise ModuleNotFoundError on import.
    with _entry(os.environ, "ORT_DISABLE_TELEMETRY", "1"), _entry(sys.modules, "openvino_telemetry", None):
        yield


@contextmanager
def _entry(mapping: MutableMapping[str, Any], key: str, value: object) -> Iterator[None]:
    """Give `key` another value during the block."""
    present, before = key in mapping, mapping.get(key)
    mapping[key] = value
    try:
        yield
    finally:
        if present:
            mapping[key] = before
        else:
            mapping.pop(key, None)
