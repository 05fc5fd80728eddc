"""`compress` in a script that multiprocessing imports again, with real processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import multiprocessing, sys, types
from tcs_edge import compress

def count(*_):
    with open("runs", "a") as file:
        file.write("x")

sys.modules["tcs_edge.pipeline.run"] = types.SimpleNamespace(compress=count)  # instead of a training
GUARD
compress(None, target="raspberrypi4", quiet=True)
process = multiprocessing.get_context("METHOD").Process(target=compress, kwargs={"target": "raspberrypi4"})
process.start()
process.join()
print("exit code", process.exitcode)
"""
METHODS = ["spawn"] if sys.platform == "win32" else ["spawn", "forkserver"]


def run(tmp_path, method: str, guard: str) -> subprocess.CompletedProcess:
    text = SCRIPT.replace("METHOD", method).replace("GUARD", guard)
    if guard:
        head, body = text.split(f"{guard}\n")
        text = f"{head}{guard}\n" + "".join(f"    {line}\n" for line in body.splitlines())
    (tmp_path / "script.py").write_text(text)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=100, env=environment
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_second_import_of_the_script_runs_nothing_and_names_the_guard(tmp_path, method):
    done = run(tmp_path, method, "")
    assert (tmp_path / "runs").read_text() == "x"
    assert 'Put compress() under `if __name__ == "__main__":`.' in done.stderr
    assert "exit code 0" not in done.stdout


@pytest.mark.parametrize("method", METHODS)
def test_a_guarded_script_may_call_compress_in_a_process(tmp_path, method):
    done = run(tmp_path, method, 'if __name__ == "__main__":')
    assert (done.stdout, done.stderr) == ("exit code 0\n", "")
    assert (tmp_path / "runs").read_text() == "xx"
