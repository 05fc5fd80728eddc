"""Tests of shell completion, run as bash runs it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tcs_edge.cli import completion


def offered(line: str) -> list[str]:
    """Return the completions of `line` in bash."""
    words = line.split(" ")
    environment = os.environ | {
        "_TCS_EDGE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1),
    }  # fmt: skip
    code = "from tcs_edge.cli.app import app; app(prog_name='tcs-edge')"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("tcs-edge compress --target raspberrypi4", ["raspberrypi4"]),
        ("tcs-edge compress --teacher dinov2-small", ["dinov2-small", "dinov2-small-reg"]),
        ("tcs-edge init --target intel", ["intel-n5105"]),
        ("tcs-edge cand", ["candidates"]),
    ],
)
def test_names_are_completed(line, expected):
    assert offered(line) == expected


def test_completions_come_from_the_tables():
    assert "auto" in completion.student_names("")
    assert completion.student_names("lcnet_05") == ["lcnet_050"]
    assert completion.method_names("") == sorted(completion.method_names(""))
    assert "tcs" in completion.method_names("t")


def test_completion_does_not_import_torch():
    calls = "; ".join(f"completion.{name}_names('')" for name in ("target", "teacher", "student", "method"))
    code = f"import sys; from tcs_edge.cli import completion; {calls}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False", done.stderr
