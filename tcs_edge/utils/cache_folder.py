"""Place of everything that is kept between commands: checks of images, features of teachers."""

from __future__ import annotations

import os
from pathlib import Path

from tcs_edge.errors import MissingError


def default_cache_dir() -> Path:
    """Return $TCS_EDGE_CACHE, else $XDG_CACHE_HOME/tcs-edge, else ~/.cache/tcs-edge.

    Raises:
        MissingError: the user has no home folder, as in a container with the user id of another system.
    """
    own = os.environ.get("TCS_EDGE_CACHE")
    base = os.environ.get("XDG_CACHE_HOME")
    chosen = own or (f"{base}/tcs-edge" if base else "~/.cache/tcs-edge")
    try:
        return Path(chosen).expanduser()
    except RuntimeError:
        raise MissingError(
            f"no home folder for the cache: {chosen} cannot be resolved, because HOME is not set, or the user has "
            "no account. Set TCS_EDGE_CACHE to a folder."
        ) from None
