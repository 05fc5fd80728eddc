"""Place of everything that is kept between commands: checks of images, features of teachers."""

from __future__ import annotations

import os
from pathlib import Path


def default_cache_dir() -> Path:
    """Return $TCS_EDGE_CACHE, else $XDG_CACHE_HOME/tcs-edge, else ~/.cache/tcs-edge."""
    own = os.environ.get("TCS_EDGE_CACHE")
    if own:
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "tcs-edge"
