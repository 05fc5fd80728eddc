"""Explain imports that fail: packages that are not installed, too old or damaged."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from tcs_edge.errors import MissingError, reason_of
from tcs_edge.utils.shortage import raise_shortage

# Names on the package index that differ from the module's.
PACKAGES = {"PIL": "pillow", "sklearn": "scikit-learn", "tomli_w": "tomli-w", "huggingface_hub": "huggingface-hub"}
OWN = "tcs_edge"
# Modules of the extras of pyproject.toml. The base install has all others.
EXTRAS = {
    "openvino": ("openvino",),
    "hub": ("huggingface_hub",),
    "train": (
        "torch", "torchvision", "timm", "accelerate", "safetensors", "onnxscript", "sklearn", "psutil", "nncf",
    ),
}  # fmt: skip
# Modules of every run of compress; checked first, because most are imported only after the training.
OF_A_RUN = (
    "torch", "torchvision", "timm", "onnx", "onnxscript", "onnxruntime", "openvino", "accelerate", "safetensors",
    "scipy", "sklearn", "psutil", "PIL", "jinja2",
)  # fmt: skip
GATE_ONLY = " This environment has only the packages of `tcs-edge gate`."


@contextmanager
def imports_explained() -> Iterator[None]:
    """Raise MissingError for a package that the block cannot import; also a decorator.

    Raises:
        MissingError: the package is not installed, too old or damaged; the message has the command to install it.
    """
    try:
        yield
    except ImportError as error:
        raise_shortage(error)
        problem = import_problem(error)
        if problem is None:
            raise
        raise MissingError(problem) from error


def import_problem(error: ImportError) -> str | None:
    """Return problem and fix for a failed import of another package; None for a module of tcs-edge itself."""
    name = error.name or ""
    module = name.partition(".")[0]
    if module == OWN:
        return None
    if not module:  # the dynamic linker's own message
        return f"a library of an installed package cannot be loaded ({reason_of(error)}). Install that library."
    if module in sys.stdlib_module_names:
        return f"this Python lacks its own module {module} ({reason_of(error)}). Install a complete Python."
    if not is_installed(module):
        return _missing([module])
    package = PACKAGES.get(module, module)
    return (
        f"the installed package {package} cannot be used ({reason_of(error)}). "
        f"Install it again with: pip install --upgrade --force-reinstall {package}"
    )


def require_installed(modules: Iterable[str]) -> None:
    """Check that modules can be found, without importing them.

    Raises:
        MissingError: some are not installed; the message names all of them.
    """
    if missing := [module for module in modules if not is_installed(module)]:
        raise MissingError(_missing(missing))


def _missing(modules: list[str]) -> str:
    packages = ", ".join(PACKAGES.get(module, module) for module in modules)
    what = f"the package {packages} is" if len(modules) == 1 else f"the packages {packages} are"
    gate_only = "" if is_installed("PIL") or is_installed("jinja2") else GATE_ONLY
    return f"{what} not installed.{gate_only} {how_to_install(modules)}"


def how_to_install(modules: Iterable[str]) -> str:
    """Return the command that installs modules, with the extra that they need, as a sentence."""
    extras = {extra_of(module) for module in modules} - {None}
    if not extras:
        return "Install with: pip install tcs-edge"
    extra = "train" if "train" in extras else min(extra for extra in extras if extra)  # train includes the others
    return f"Install with: pip install 'tcs-edge[{extra}]'"


def extra_of(module: str) -> str | None:
    """Return the extra that installs a module; None for the base install."""
    return next((extra for extra, modules in EXTRAS.items() if module in modules), None)


def is_installed(module: str) -> bool:
    """Return True if a module of this name can be found; it is not imported."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def module_of(package: str) -> str:
    """Return the module of a package of the package index."""
    return next((module for module, name in PACKAGES.items() if name == package), package)
