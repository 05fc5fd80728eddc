"""Tests of messages on wrong flags and values: near matches are shown, and nothing heavy is imported."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "timm", "openvino", "nncf")

# Arguments of a command, and a part of the message.
WRONG = {
    "--nonsense": "No such option: --nonsense",
    "comprss": "Did you mean 'compress', 'compare'?",
    "compress --nonsense": "No such option: --nonsense",
    "compress --epochs two": "Invalid value for '--epochs'",
    "compress --max-drop 1": "Its new name is --max-accuracy-drop.",
    "compress --teacher-in-loop": "Its new name is --online-teacher.",
    "compress --target raspberypi4": "Did you mean raspberrypi4 or",
    "compress --target raspberrypi4 --method kdd": "Did you mean kd",
    "compress --target raspberrypi4 --device cudda": "Did you mean cuda",
    "compress --target raspberrypi4 --student resnt18": "Did you mean resnet18",
    "compress --target raspberrypi4 --teacher dinov22": "Did you mean dinov2",
    "bench --out x --methods kdd": "Did you mean kd",
    "bench --out x --student resnt18": "Did you mean resnet18",
    "bench --controls no-probe": "Its new name is --ablations.",
    "bench --seeds 0": "Invalid value for '--seeds'",
    "targets raspberypi4": "Did you mean raspberrypi4 or",
    "targets --jsn": "--json",
    "candidates": "Missing option '--target'",
    "candidates --target raspberypi4": "Did you mean raspberrypi4 or",
    "candidates --target raspberrypi4 --runtime openvin": "Did you mean openvino?",
    "candidates --target raspberrypi4 --max-size-mb x": "Invalid value for '--max-size-mb'",
    "validate": "Missing argument 'RUN'",
    "validate nosuch": "no such run folder: nosuch",
    "validate --onnx a.onnx": "No such option: --onnx",
    "compare a.onnx b.onnx --data c": "no such file: a.onnx",
    "bundle nosuch": "no such run folder: nosuch",
    "bundle nosuch --runtime onnxruntim": "Did you mean onnxruntime?",
    "bundle nosuch --precision int9": "Did you mean int8?",
    "bundle-profiler --target raspberypi4 --out x": "Did you mean raspberrypi4 or",
    "bundle-profiler --target raspberrypi4 --out x --model lcnet_05": "Did you mean lcnet_075 or lcnet_050",
    "bundle-profiler --target raspberrypi4 --out x --precision int9": "Did you mean int8?",
    "selftest --student resnt18": "Did you mean resnet18 or",
    "predict nosuch cat.jpg": "no such run folder: nosuch",
    "predict nosuch cat.jpg --precision fp33": "Did you mean fp32 or",
    "doctor --jsn": "--json",
    "gate nosuch": "nosuch",
    "gate nosuch --max-size-mb x": "Invalid value for '--max-size-mb'",
    "gate nosuch --max-change sise_mb=5%": "Did you mean size_mb",
    "report nosuch": "no such run folder: nosuch",
    "profile --out x.json": "pass --target",
    "profile --target raspberypi4 --out x.json": "Did you mean raspberrypi4 or",
    "profile --target raspberrypi4 --out x.json --runtime openvin": "Did you mean openvino?",
    "profile --target raspberrypi4 --out x.json --precision fp33": "Did you mean fp32 or",
    "profile --target raspberrypi4 --out x.json --model resnt18": "Did you mean resnet18 or",
    "profile merge raspberypi4 --out x.json": "Did you mean raspberrypi4 or",
}

RUN_ALL = """
import contextlib, io, json, sys
from tcs_edge.cli.app import app

found = {}
for line in json.load(sys.stdin):
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr):
        try:
            app(line.split(), prog_name="tcs-edge")
        except SystemExit as error:
            code = error.code
    found[line] = (code, stderr.getvalue(), [name for name in HEAVY if name in sys.modules])
json.dump(found, sys.stdout)
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, tuple[int, str, list[str]]]:
    """Exit code, stderr and imported heavy modules of every line, all in one process."""
    code = RUN_ALL.replace("HEAVY", repr(HEAVY))
    folder = tmp_path_factory.mktemp("empty")
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(list(WRONG)), capture_output=True, text=True, cwd=folder, timeout=120, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


@pytest.mark.parametrize("line", WRONG)
def test_wrong_value_fails_without_heavy_imports(outcomes, line):
    code, stderr, imported = outcomes[line]
    assert code in (2, 3), stderr
    assert WRONG[line] in stderr
    assert "Traceback" not in stderr
    assert imported == []
