"""Users without a home folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tcs_edge.errors import MissingError
from tcs_edge.utils.cache_folder import default_cache_dir

NO_ACCOUNT = 54321  # a user id without an account, as in many containers


@pytest.mark.parametrize("name", ["TCS_EDGE_CACHE", "XDG_CACHE_HOME"])
def test_a_home_folder_that_cannot_be_resolved_is_one_line(monkeypatch, name):
    monkeypatch.delenv("TCS_EDGE_CACHE", raising=False)
    monkeypatch.setenv(name, "~no-such-user/cache")
    with pytest.raises(MissingError, match=r"~no-such-user/cache.* cannot be resolved.*Set TCS_EDGE_CACHE") as error:
        default_cache_dir()
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to become another user")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv")
@pytest.mark.parametrize(("command", "code"), [("cache", 4), ("targets", 0)])
def test_a_user_without_account_and_home_gets_one_line(tmp_path, command, code):
    environment = {key: value for key, value in os.environ.items() if key not in {"HOME", "TCS_EDGE_CACHE"}}
    environment.pop("XDG_CACHE_HOME", None)
    drop = ["setpriv", f"--reuid={NO_ACCOUNT}", f"--regid={NO_ACCOUNT}", "--clear-groups"]
    if subprocess.run([*drop, sys.executable, "-c", "import tcs_edge"], env=environment, check=False).returncode:
        pytest.skip("another user cannot read this installation")
    done = subprocess.run(
        [*drop, sys.executable, "-m", "tcs_edge", command], env=environment, cwd="/", capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in done.stderr
    assert len(errors) == (1 if code else 0)
    assert not code or "Set TCS_EDGE_CACHE" in errors[0]


def test_doctor_shows_a_cache_without_a_place(cli, monkeypatch):
    monkeypatch.setenv("TCS_EDGE_CACHE", "~no-such-user/cache")
    shown = cli("doctor").output
    assert "Set TCS_EDGE_CACHE" in " ".join(shown.split())
