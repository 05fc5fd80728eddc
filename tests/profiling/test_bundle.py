"""Profiler bundle: it runs without torch and tcs-edge, and its result can be merged."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

from tcs_edge.profiling import device
from tcs_edge.profiling.bundle import merge_command
from tcs_edge.specs.target import load_target

MODEL = "test_efficientnet"
QUICK = ("--rounds", "3", "--seconds", "0.01", "--max-spread", "1e9", "--threads", "1")

# Block the imports that a device lacks. The folder of tcs_edge is not on the path.
BLOCKED = """
import runpy, sys
for name in ("torch", "timm", "onnx", "tcs_edge", "pydantic", "psutil", "scipy"):
    sys.modules[name] = None
sys.path.insert(0, {root!r})
sys.argv = ["profile_device.py", *{arguments!r}]
runpy.run_path({script!r}, run_name="__main__")
"""


@pytest.fixture(scope="session")
def bundle(cli: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundle") / "profiler"
    result = cli(
        "bundle-profiler", "--target", "x86-avx2", "--model", MODEL, "--img-size", 32,
        "--precision", "fp32", "--precision", "int8", "--out", out, "--quiet",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    return out


@pytest.fixture
def own_bundle(bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bundle, tmp_path / "profiler")


def start(bundle: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = BLOCKED.format(root=str(bundle), arguments=list(arguments), script=str(bundle / "profile_device.py"))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=bundle, env=environment, capture_output=True, text=True, timeout=120
    )


def test_a_bundle_is_complete_and_has_no_path_of_this_machine(bundle: Path) -> None:
    names = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    models = {f"models/{MODEL}-32.onnx", f"models/{MODEL}-32.int8.onnx"}
    program = {f"device/{path.name}" for path in Path(device.__path__[0]).glob("*.py")}
    assert names == {"README.md", "bundle.json", "profile_device.py", "requirements.txt"} | models | program
    assert (bundle / "requirements.txt").read_text() == "onnxruntime==1.31.1\nnumpy\n"
    for path in bundle.rglob("*"):
        if path.is_file():
            assert str(Path(device.__path__[0]).parents[2]).encode() not in path.read_bytes()


def test_a_bundle_measures_without_torch_and_its_result_can_be_merged(
    own_bundle: Path, cli: Any, tmp_path: Path
) -> None:
    done = start(own_bundle, *QUICK)
    assert done.returncode == 0, done.stderr
    result = own_bundle / "result.json"
    merged = cli("profile", "merge", "x86-avx2", result, "--out", tmp_path / "mine.json", "--json")
    assert merged.exit_code == 0, merged.stderr
    rows = [row for row in json.loads(merged.stdout)["rows"] if row["model"] == MODEL]
    assert {row["precision"] for row in rows} == {"fp32", "int8"}
    assert all(row["source"] == "measured" and row["runtime_version"] and row["peak_memory_mb"] > 0 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--threads", "4096"), "--threads must be between 1 and the"),
        (("--rounds", "1"), "--rounds must be at least 3"),
        (("--runtime", "tflite"), "invalid choice: 'tflite'"),
    ],
)
def test_wrong_usage_exits_with_2(bundle: Path, arguments: tuple[str, ...], expected: str) -> None:
    done = start(bundle, *arguments)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_openvino_is_measured_in_the_arithmetic_of_the_target(own_bundle: Path, cli: Any, tmp_path: Path) -> None:
    """On Arm with such arithmetic, OpenVINO computes a float32 file in float16."""
    board = tmp_path / "board"
    made = cli(
        "bundle-profiler", "--target", "raspberrypi5", "--model", MODEL, "--img-size", 32, "--out", board, "--quiet"
    )
    assert made.exit_code == 0, made.stderr
    assert json.loads((board / "bundle.json").read_text())["float_precision"] == {"openvino": "fp16"}
    description = json.loads((own_bundle / "bundle.json").read_text())
    assert description["float_precision"] == {}
    (own_bundle / "bundle.json").write_text(json.dumps(description | {"float_precision": {"onnxruntime": "fp16"}}))
    refused = start(own_bundle, *QUICK)
    assert "onnxruntime has no float16 arithmetic" in refused.stderr


def test_a_damaged_model_is_refused(own_bundle: Path) -> None:
    path = own_bundle / "models" / f"{MODEL}-32.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    done = start(own_bundle, *QUICK)
    assert done.returncode == 2
    assert f"{MODEL}-32.onnx differs from the bundled file" in done.stderr


@pytest.mark.parametrize(
    ("name", "profile", "command"),
    [
        ("raspberrypi5", "raspberrypi5", "merge raspberrypi5 result.json --out mine.json"),
        ("raspberrypi", "raspberrypi5", "merge raspberrypi5 result.json --out mine.json"),
        ("mine", "/folder/own.json", "merge own.json result.json --target mine.toml --out mine.json"),
        ("mine", "", "merge result.json --target mine.toml --out mine.json"),
    ],
)
def test_the_command_that_merges_names_the_profile_of_the_target(name: str, profile: str, command: str) -> None:
    target = load_target("raspberrypi5").replaced(name=name, profile=profile)
    assert merge_command(target) == f"tcs-edge profile {command}"


def test_a_package_that_cannot_be_imported_is_one_line(own_bundle: Path) -> None:
    (own_bundle / "numpy.py").write_text("raise ImportError('libopenblas.so.0: cannot open shared object file')\n")
    done = start(own_bundle, *QUICK)
    assert done.returncode == 2, "1 stands for noise"
    assert done.stderr == (
        "error: libopenblas.so.0: cannot open shared object file. Install the packages of requirements.txt.\n"
    )


def test_a_folder_that_cannot_be_written_is_one_line(own_bundle: Path) -> None:
    (own_bundle / "work").write_text("")
    done = start(own_bundle, *QUICK)
    assert done.returncode == 2, "1 stands for noise"
    assert len(done.stderr.splitlines()) == 1
    assert "Make room there, and start again." in done.stderr


def test_two_processes_do_not_measure_one_bundle(own_bundle: Path) -> None:
    """As after a drop of the connection that the board has not noticed."""
    fcntl = pytest.importorskip("fcntl")
    code = (
        "import sys; from pathlib import Path; from device import main; main.WAIT_SECONDS = 0.1; "
        "sys.exit(main.main(Path(), ['--threads', '1']))"
    )
    (own_bundle / "work").mkdir()
    with (own_bundle / "work" / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        done = subprocess.run([sys.executable, "-c", code], cwd=own_bundle, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert "another process measures" in done.stderr


def test_the_date_can_be_given(own_bundle: Path) -> None:
    done = start(own_bundle, *QUICK, "--date", "2001-02-03")
    assert done.returncode == 0, done.stderr
    document = json.loads((own_bundle / "result.json").read_text())
    assert {row["measured_on"] for row in document["rows"]} == {"2001-02-03"}
    assert "2001-02-03" in document["citations"]["measured"]


def test_noisy_latencies_are_not_recorded(own_bundle: Path) -> None:
    done = start(own_bundle, *QUICK[:4], "--max-spread", "1e-12", "--retries", "0", "--threads", "1")
    assert done.returncode == 1
    assert "no latency was recorded" in done.stderr
    assert not (own_bundle / "result.json").exists()


def test_a_folder_with_other_files_is_not_changed(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    result = cli("bundle-profiler", "--target", "x86-avx2", "--model", MODEL, "--img-size", 32, "--out", tmp_path)
    assert result.exit_code == 2
    assert "already exists" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--model", "lcnet_05O"), "Did you mean"),
        (("--model", MODEL, "--precision", "fp16"), "Did you mean fp32?"),
        (("--model", "vit_tiny_patch16_224", "--img-size", "8"), "no model could be exported"),
    ],
)
def test_models_that_cannot_be_bundled_are_an_error(
    cli: Any, tmp_path: Path, arguments: tuple[str, ...], expected: str
) -> None:
    result = cli("bundle-profiler", "--target", "x86-avx2", *arguments, "--out", tmp_path / "new")
    assert result.exit_code == 2
    assert expected in result.stderr


@pytest.mark.parametrize("path", sorted(Path(device.__path__[0]).glob("*.py")), ids=lambda path: path.name)
def test_the_device_code_is_python_3_9(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))
    imported = {
        name.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names
    }
    imported |= {
        (node.module or "").split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and not node.level
    }
    assert imported <= {*sys.stdlib_module_names, "numpy", "onnxruntime", "openvino"}
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "strict"]


@pytest.mark.slow
def test_a_bundle_runs_in_a_new_environment_with_its_requirements(own_bundle: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    install = [python, "-m", "pip", "install", "-q", "-r", own_bundle / "requirements.txt"]
    installed = subprocess.run([str(part) for part in install], capture_output=True, text=True, timeout=500)
    if installed.returncode != 0:
        pytest.skip(f"pip cannot install onnxruntime: {installed.stderr.strip()[-200:]}")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(python), str(own_bundle / "profile_device.py"), *QUICK, "--out", str(tmp_path / "result.json")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(json.loads((tmp_path / "result.json").read_text())["rows"]) == 2
