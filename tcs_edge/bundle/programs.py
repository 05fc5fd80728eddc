"""Load modules of the bundle's programs, so that a file format has one definition here and on the device."""

from __future__ import annotations

import sys
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from tcs_edge.errors import MissingError

FOLDER = Path(__file__).parent / "device_files"
# Modules that need numpy alone, after the modules that they import.
SHARED = ("edge_arrays", "edge_index", "edge_classes")


@cache
def device_module(name: str) -> ModuleType:
    """Return a module of `SHARED`, as tcs_edge.bundle.device_files.NAME.

    The modules import each other by their plain names, as on the device. These names are there while they load only.

    Raises:
        MissingError: the installation is damaged.
    """
    needed = SHARED[: SHARED.index(name)]
    modules = {own: device_module(own) for own in needed}
    before = {own: sys.modules.get(own) for own in needed}
    spec = spec_from_file_location(f"{__package__}.device_files.{name}", FOLDER / f"{name}.py")
    if spec is None or spec.loader is None:
        raise MissingError(f"{name}.py is missing in {FOLDER}. Install tcs-edge again.")
    module = module_from_spec(spec)
    sys.modules.update(modules | {spec.name: module})
    try:
        spec.loader.exec_module(module)
    finally:
        for own, earlier in before.items():
            if earlier is None:
                del sys.modules[own]
            else:
                sys.modules[own] = earlier
    return module
