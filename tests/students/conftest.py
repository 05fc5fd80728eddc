"""Fixtures of the tests of students."""

from __future__ import annotations

import signal

import pytest


@pytest.fixture(autouse=True)
def without_the_handler_of_data_workers() -> None:
    """Take torch's handler for ended data workers away.

    Tests before these leave it in the process. It ended the process when a child of another kind ended.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
