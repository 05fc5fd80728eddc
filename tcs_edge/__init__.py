"""tcs-edge: distill, choose, export and validate small image classifiers.

    from tcs_edge import compress, load, Gate

The three are imported when they are first asked for, so that importing `tcs_edge` costs nothing.
"""

from typing import TYPE_CHECKING, Any

from tcs_edge.utils.version import __version__

if TYPE_CHECKING:
    from tcs_edge.api import Gate, compress, load

__all__ = ["Gate", "__version__", "compress", "load"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tcs_edge import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
