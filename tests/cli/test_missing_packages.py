"""Every command without torch and without single packages: the missing package and its installation, exit 4."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import tcs_edge
from tcs_edge import compress, load
from tcs_edge.cli.app import app
from tcs_edge.errors import MissingError
from tcs_edge.utils.installed import OF_A_RUN, import_problem, imports_explained, require_installed

# Packages of a full installation that an environment of ci/install.sh lacks.
NOT_OF_THE_GATE = (*(name for name in OF_A_RUN if name != "onnx"), "nncf", "huggingface_hub")
COMMANDS = {
    "init": ["init"],
    "compress": ["compress", "--target", "raspberrypi4"],
    "targets": ["targets"],
    "candidates": ["candidates", "--target", "raspberrypi4"],
    "validate": ["validate", "RUN"],
    "compare": ["compare", "RUN/export/model.onnx", "RUN", "--data", "."],
    "bundle": ["bundle", "RUN"],
    "selftest": ["selftest"],
    "predict": ["predict", "RUN", "photo.png"],
    "cache": ["cache"],
    "doctor": ["doctor"],
    "bench": ["bench", "--out", "bench"],
    "gate": ["gate", "RUN", "--max-params-m", "100"],
    "report": ["report", "RUN"],
    "profile": ["profile", "--target", "raspberrypi4", "--out", "profile.json"],
    "profile merge": ["profile", "merge", "raspberrypi5", "--out", "merged.json"],
    "measure": ["measure", "--ssh", "pi@board", "--target", "raspberrypi5"],
    "bundle-profiler": ["bundle-profiler", "--target", "raspberrypi5", "--out", "profiler"],
}
# These read and write text alone.
WORK = {"gate", "targets", "profile merge"}
SCRIPT = """
import json, sys
blocked, commands = json.load(sys.stdin)
sys.modules |= dict.fromkeys(blocked)
from typer.testing import CliRunner
from tcs_edge.cli.app import app
results = {name: CliRunner().invoke(app, words) for name, words in commands.items()}
print(json.dumps({name: (found.exit_code, found.stdout, found.stderr) for name, found in results.items()}))
"""


def run_without(packages: tuple[str, ...], commands: dict[str, list[str]], folder: Path) -> dict[str, tuple]:
    """Run commands in a process that cannot import `packages`; return exit code, stdout and stderr of each."""
    root = Path(tcs_edge.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], input=json.dumps([packages, commands]), cwd=folder, timeout=240,
        capture_output=True, text=True, check=False, env={"PYTHONPATH": str(root), "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def every_command() -> set[str]:
    groups = {group.name: group.typer_instance for group in app.registered_groups}
    nested = {f"{name} {one.name}" for name, group in groups.items() for one in group.registered_commands}
    return {str(one.name) for one in app.registered_commands} | set(groups) | nested


def test_the_list_has_every_command():
    assert set(COMMANDS) == every_command()


@pytest.fixture
def place(make_run, tmp_path) -> Path:
    """A folder with a finished run."""
    make_run(name="RUN")
    return tmp_path


def test_without_torch_each_command_but_the_gate_says_what_is_missing(place):
    results = run_without(NOT_OF_THE_GATE, COMMANDS, place)
    for name, (code, stdout, stderr) in results.items():
        assert "bug" not in stderr + stdout, (name, stderr)
        if name in WORK:
            assert code == 0, (name, stderr)
            continue
        assert code == 4, (name, stdout, stderr)
        assert "not installed" in stderr + stdout, (name, stderr)
        assert "pip install" in stderr + stdout, (name, stderr)
    doctor = results["doctor"][1]
    for package in ("torch", "scikit-learn", "pillow"):
        assert next(line for line in doctor.splitlines() if line.startswith(package)).split()[1] == "broken"
    assert "This environment has only the packages of `tcs-edge gate`." in results["compress"][2]


@pytest.mark.parametrize("package", ["torchvision", "timm", "onnx", "onnxscript", "onnxruntime", "openvino", "scipy"])
def test_a_single_missing_package_stops_a_run_before_its_images_are_read(cli, tiny, monkeypatch, tmp_path, package):
    monkeypatch.setattr("tcs_edge.stages.prepare.load_images", None)
    monkeypatch.setitem(sys.modules, package, None)
    for command in (tiny(), [*tiny(), "--dry-run"], ["bench", "--out", tmp_path / "bench"]):
        result = cli(*command)
        assert result.exit_code == 4, result.stderr
        assert result.stderr.splitlines()[-1] == (
            f"error: the package {package} is not installed. Install all packages with: pip install tcs-edge"
        )


def test_int8_needs_nncf(cli, tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    assert "the package nncf is not installed" in cli(*tiny(precision="int8"), "--dry-run").stderr
    assert cli(*tiny(precision="fp32"), "--dry-run").exit_code == 0


@pytest.mark.parametrize("package", ["torch", "onnx", "openvino", "timm", "torchvision"])
def test_doctor_names_a_package_without_files(cli, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    result = cli("doctor")
    assert result.exit_code == 4, result.stderr
    line = next(line for line in result.stdout.splitlines() if line.split()[:1] == [package])
    assert line.split()[1] == "broken"


def test_the_python_api_raises_a_missing_error(place):
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from tcs_edge import compress, load, Gate\n"
        "from tcs_edge.errors import MissingError\n"
        "for call in (lambda: compress(target='raspberrypi4'), lambda: compress(resume='RUN')):\n"
        "    try: call()\n"
        "    except MissingError as error: print(error)\n"
        "    except Exception as error: print(type(error))\n"
        "print(Gate(max_params_m=100).check('RUN').passed)\n"
    )
    root = Path(tcs_edge.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=place, env={"PYTHONPATH": str(root), "PATH": ""}, timeout=240,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    first, _, last = done.stdout.splitlines()
    assert "the package torch is not installed" in first
    assert last == "True"


def test_load_without_onnxruntime(own_run, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingError, match="package onnxruntime is not installed"):
        load(own_run)
    with pytest.raises(MissingError, match="package onnxruntime is not installed"):
        compress(target="raspberrypi4", quiet=True)


def test_gate_of_an_onnx_file_without_onnx_keeps_its_exit_codes(place):
    words = ["gate", "RUN/export/model.onnx", "--max-params-m", "100"]
    ((code, _, stderr),) = run_without(("onnx",), {"gate": words}, place).values()
    assert code == 2
    assert "the package onnx is not installed" in stderr


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ModuleNotFoundError("No module named 'torch.zzz'", name="torch.zzz"), "package torch cannot be used"),
        (ModuleNotFoundError("No module named '_lzma'", name="_lzma"), "Install a complete Python"),
        (ImportError("libcudart.so.13: cannot open shared object file"), "libcudart.so.13: cannot open"),
        (ModuleNotFoundError("No module named 'PIL'", name="PIL"), "package pillow"),
    ],
)
def test_imports_that_fail_for_other_reasons(error, message):
    assert message in (import_problem(error) or "")


def test_all_missing_packages_are_named_at_once():
    with pytest.raises(MissingError, match="packages not_there, nor_this are not installed"):
        require_installed(["json", "not_there", "nor_this"])


def test_a_missing_module_of_tcs_edge_stays_a_bug():
    error = ImportError("cannot import name 'x' from 'tcs_edge.errors'", name="tcs_edge.errors")
    assert import_problem(error) is None
    with pytest.raises(ImportError), imports_explained():
        raise error
