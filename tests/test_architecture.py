"""Import layers, cost of imports, and no pickles."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "tcs_edge"
HEAVY = ("torch", "timm", "torchvision", "onnx", "onnxruntime", "openvino", "nncf", "sklearn", "scipy", "numpy")
START_SECONDS = 0.3


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_imports_run_one_way():
    code = "import sys; from importlinter.cli import lint_imports_command as lint; sys.exit(lint(['--no-cache']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


HELP = """
import sys
from tcs_edge.cli import main
sys.argv = ["tcs-edge", {arguments}]
try:
    main()
except SystemExit:
    pass
"""


@pytest.mark.parametrize("arguments", ["'--help'", "'compress', '--help'", "'--version'"])
def test_help_imports_nothing_heavy(arguments):
    code = HELP.format(arguments=arguments) + f"\nprint([name for name in {HEAVY} if name in sys.modules])"
    assert python(code).splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "module",
    ["specs.config", "specs.target", "specs.profile", "errors", "utils.files", "utils.reading", "utils.progress"],
)
def test_what_people_write_is_read_without_anything_heavy(module):
    code = f"import sys, tcs_edge.{module}; print([name for name in {HEAVY} if name in sys.modules])"
    assert python(code).strip() == "[]"


@pytest.mark.parametrize("module", ["models.candidates", "latency.device", "students.choice", "teachers.registry"])
def test_tables_are_read_without_torch(module):
    code = f"import sys, tcs_edge.{module}; print([name for name in ('torch', 'timm') if name in sys.modules])"
    assert python(code).strip() == "[]"


def test_help_answers_at_once():
    times = [_compute_seconds(HELP.format(arguments="'--help'")) for _ in range(5)]
    assert min(times) < START_SECONDS, times  # the others are disturbed by cold caches and other processes


def _compute_seconds(code: str) -> float:
    """User and system time of a child; wall time would measure the machine's other work."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    python(code)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_no_module_reads_or_writes_pickles():
    refused = ("torch.load(", "import pickle", "pickle.load", "weights_only=False")
    found = [(path.name, word) for path in PACKAGE.rglob("*.py") for word in refused if word in path.read_text("utf-8")]
    assert found == []


def test_a_run_starts_without_the_slow_parts_of_scipy():
    """They take half a second to import, which the first line of a run would wait for."""
    slow = "('scipy.stats', 'scipy.optimize')"
    code = f"import sys, tcs_edge.pipeline.run; print([name for name in {slow} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
