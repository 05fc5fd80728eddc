"""Every command without torch and without single packages: the missing package and its installation, exit 4."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer
from packaging.requirements import Requirement
from PIL import Image

import tcs_edge
from tcs_edge import compress, load
from tcs_edge.cli.app import app
from tcs_edge.errors import MissingError
from tcs_edge.utils.installed import (
    EXTRAS,
    OF_A_RUN,
    PACKAGES,
    extra_of,
    import_problem,
    imports_explained,
    module_of,
    require_installed,
)

ROOT = Path(__file__).resolve().parents[2]

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
    "index": ["index", "--run", "RUN", "--data", ".", "--out", "photos.npz"],
    "similar": ["similar", "--run", "RUN", "--index", "photos.npz", "photo.png"],
    "cache": ["cache"],
    "check": ["check", "--data", "."],
    "label-next": ["label-next", "--data", ".", "--unlabeled", "."],
    "doctor": ["doctor"],
    "bench": ["bench", "--out", "bench"],
    "gate": ["gate", "RUN", "--max-params-m", "100"],
    "report": ["report", "RUN"],
    "push": ["push", "RUN", "hf://user/name"],
    "pull": ["pull", "hf://user/name", "pulled"],
    "profile": ["profile", "--target", "raspberrypi4", "--out", "profile.json"],
    "profile merge": ["profile", "merge", "raspberrypi5", "--out", "merged.json"],
    "measure": ["measure", "--ssh", "pi@board", "--target", "raspberrypi5"],
    "bundle-profiler": ["bundle-profiler", "--target", "raspberrypi5", "--out", "profiler"],
}
# Packages of the extras: a base install lacks them.
OF_EXTRAS = tuple(module for modules in EXTRAS.values() for module in modules)
TRAIN = "'tcs-edge[train]'"
INSTALLED_BY = {"openvino": "'tcs-edge[openvino]'", "onnx": "tcs-edge", "onnxruntime": "tcs-edge", "scipy": "tcs-edge"}
# These need no extra; `predict` and `report` get a run that passed.
BASE_WORK = {"init", "targets", "candidates", "predict", "gate", "report", "profile merge"}
# These need no extra either, but the run has no embedding.
OF_EMBEDDINGS = {"index", "similar"}
# These read and write text alone.
WORK = {"gate", "targets", "profile merge"}
SCRIPT = """
import json, sys
blocked, commands = json.load(sys.stdin)

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
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
    commands = typer.main.get_command(app).commands
    return {*commands, *(f"{name} {inner}" for name, one in commands.items() for inner in getattr(one, "commands", ()))}


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


def test_a_base_install_works_without_the_extras_and_names_the_extra(own_run, tmp_path):
    shutil.copytree(own_run, tmp_path / "RUN")
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    results = run_without(OF_EXTRAS, COMMANDS, tmp_path)
    for name, (code, stdout, stderr) in results.items():
        assert "bug" not in stderr + stdout, (name, stderr)
        if name in BASE_WORK:
            assert code == 0, (name, stderr)
            continue
        if name in OF_EMBEDDINGS:
            assert (code, "has no embedding" in stderr) == (2, True), (name, stderr)
            continue
        assert code == 4, (name, stdout, stderr)
        if name != "doctor":
            (line,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
            extra = "hub" if name in ("push", "pull") else "train"
            assert f"not installed. Install with: pip install 'tcs-edge[{extra}]'" in line, name
    assert "photo.png: " in results["predict"][1]
    rows = [line.split() for line in results["doctor"][1].splitlines()]
    assert ["runs", "openvino", "absent"] in [row[:3] for row in rows]
    assert ["runs", "onnxruntime", "ok"] in [row[:3] for row in rows]


def test_each_extra_of_the_messages_is_the_one_of_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {
        name: {Requirement(line).name for line in lines} for name, lines in project["optional-dependencies"].items()
    }
    base = {Requirement(line).name for line in project["dependencies"]}
    assert "tcs-edge[openvino]" in project["optional-dependencies"]["train"]
    assert extras["openvino"] <= {"openvino"}
    for package in base:
        assert extra_of(module_of(package)) is None
    for name in EXTRAS:
        for package in extras[name] - {"tcs-edge"}:
            assert extra_of(module_of(package)) == name
    assert base | extras["train"] | extras["openvino"] >= {PACKAGES.get(name, name) for name in OF_A_RUN}


@pytest.mark.parametrize("package", ["torchvision", "timm", "onnx", "onnxscript", "onnxruntime", "openvino", "scipy"])
def test_a_single_missing_package_stops_a_run_before_its_images_are_read(cli, tiny, monkeypatch, tmp_path, package):
    monkeypatch.setattr("tcs_edge.stages.prepare.load_images", None)
    monkeypatch.setitem(sys.modules, package, None)
    for command in (tiny(), [*tiny(), "--dry-run"], ["bench", "--out", tmp_path / "bench"]):
        result = cli(*command)
        assert result.exit_code == 4, result.stderr
        with_extra = INSTALLED_BY.get(package, TRAIN)
        assert result.stderr.splitlines()[-1] == (
            f"error: the package {package} is not installed. Install with: pip install {with_extra}"
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
