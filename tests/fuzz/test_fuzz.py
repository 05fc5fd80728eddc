"""Changed files never end in an uncaught error: a fixed number of inputs in every run of the tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
RUNS = 50_000
# A reader that refuses this share of its unchanged seeds tests nothing but its first line.
FEWEST_READ = 0.001


def fuzz(folder: Path, *options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, HERE / "run.py", "--findings", folder, "--json", folder / "totals.json", *options]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=580)


@pytest.mark.slow
def test_every_reader_takes_any_input(tmp_path, capsys):
    done = fuzz(tmp_path, "--runs", RUNS)
    with capsys.disabled():
        sys.stdout.write(f"\n{done.stdout}")
    assert done.returncode == 0, done.stdout + done.stderr
    totals = json.loads((tmp_path / "totals.json").read_text())
    assert sum(total["inputs"] for total in totals.values()) >= RUNS * 0.99
    assert {name for name, total in totals.items() if total["values"] == 0} == set()


BROKEN = """
import sys
sys.path.insert(0, {here!r})
import readers
from readers import Reader

def spoiled(kind):
    def make(folder):
        def read(content):
            if content != b"seed":
                {{"raise": lambda: 1 // 0, "exit": lambda: __import__("os")._exit(5),
                  "abort": lambda: __import__("os").abort()}}[kind]()
        return read
    return make

readers.all_readers = lambda: {{kind: Reader(kind, "bytes", lambda _: [b"seed"], spoiled(kind))
                               for kind in ("raise", "exit", "abort")}}
import run
run.LIBRARIES = ()
sys.argv[1:] = ["--runs", "30", "--engine", "mutate", "--findings", {folder!r}]
sys.exit(run.main())
"""


def test_errors_exits_and_crashes_are_counted(tmp_path):
    """The counter itself is not blind."""
    code = BROKEN.format(here=str(HERE), folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("uncaught: ")]
    assert "uncaught: raise: 9 x ZeroDivisionError" in done.stdout
    assert any("exit" in line and "the process ended: exit 5" in line for line in lines)
    assert any("abort" in line and "the process ended: SIGABRT" in line for line in lines)
    stored = Path(next(line for line in done.stdout.splitlines() if line.startswith("  first input: ")).split(": ")[1])
    assert stored.read_bytes() != b"seed"
