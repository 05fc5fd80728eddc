"""No usage statistics: the libraries below us that report home are switched off."""

from __future__ import annotations

import sys


def switch_off() -> None:
    """Make `openvino_telemetry` unimportable for the rest of this process.

    OpenVINO and NNCF both import it optionally and fall back to a stub without it. Consent is on by
    default there, and merely importing nncf writes a client id into the home folder, so this has to
    run before either is imported. No consent file is written: what the user told Intel stays as it is.
    """
    # None is Python's own way to say "importing this raises ModuleNotFoundError".
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
