"""install.py of a bundle: a virtual environment of its own, and the systemd unit."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "tcs_edge" / "bundle" / "device_files"


@pytest.fixture
def install(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module("install")


@pytest.fixture
def folder(tmp_path) -> Path:
    """Readable folder with the unit's template."""
    shutil.copyfile(SCRIPTS / "classifier.service", tmp_path / "classifier.service")
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_mode & 0o5 != 0o5:
            path.chmod(path.stat().st_mode | 0o5)
    return tmp_path


def test_the_unit_names_the_folder_and_is_valid(install, folder, tmp_path):
    text = install.unit_text(folder, "0.0.0.0", 8080)
    start = f"ExecStart={folder}/.venv/bin/python -I {folder}/serve.py --host 0.0.0.0 --port 8080"
    assert start in text.splitlines()
    assert "@" not in text.partition("[Unit]")[2]
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze to check the unit further")
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "test.service").write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", tmp_path / "test.service"], capture_output=True, text=True)
    assert [line for line in done.stderr.splitlines() if "test.service" in line] == []


@pytest.mark.parametrize("name", ["my photos", "a%b", "a\nExecStartPre=touch", 'a"b', "größe"])
def test_a_path_that_a_unit_cannot_hold_is_refused(install, folder, name):
    odd = folder / name
    odd.mkdir()
    with pytest.raises(install.StepFailed, match="systemd needs a path of plain letters"):
        install.unit_text(odd, "127.0.0.1", 8080)


def test_a_folder_that_the_service_cannot_read_is_refused(install, folder):
    (folder / "closed" / "in").mkdir(parents=True)
    (folder / "closed").chmod(0o700)
    with pytest.raises(install.StepFailed, match=r"cannot read .*closed\. Move the folder"):
        install.unit_text(folder / "closed" / "in", "127.0.0.1", 8080)


def test_a_host_with_more_options_is_refused(install, folder):
    with pytest.raises(install.StepFailed, match="not a host"):
        install.unit_text(folder, "0.0.0.0 --port 1", 8080)


def test_the_service_needs_systemd(install, folder):
    with pytest.raises(install.StepFailed, match="this system has no"):
        install.install_service(folder, "127.0.0.1", 8080, folder / "none")


@pytest.mark.slow
def test_one_command_installs_and_checks_the_bundle(own_bundle):
    command = [sys.executable, "-I", own_bundle / "install.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=own_bundle)
    if "Check the network" in done.stderr:
        pytest.skip(f"pip cannot install the pinned packages: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verdict: pass" in done.stdout
    python = own_bundle / ".venv" / "bin" / "python"
    imported = subprocess.run([python, "-I", "-c", "import waitress, numpy, PIL, onnxruntime"], capture_output=True)
    assert imported.returncode == 0
    again = subprocess.run([python, "-I", own_bundle / "selfcheck.py", "--seconds", "0.1"], cwd=own_bundle)
    assert again.returncode == 0, "the environment may stay in the folder"
