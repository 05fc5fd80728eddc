"""Wheel: it has all files of the package and no others, and the code finds them."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tcs_edge.utils.version import __version__

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("*.whl")
    return path


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def source(pattern: str, below: Path = ROOT) -> set[str]:
    return {path.relative_to(ROOT).as_posix() for path in below.glob(pattern)}


def test_every_module_is_in_the_wheel(wheel):
    modules = source("**/*.py", ROOT / "tcs_edge")
    assert len(modules) > 50
    assert modules <= names_in(wheel)
    assert "tcs_edge/py.typed" in names_in(wheel)


def test_data_files_and_the_built_in_teacher_are_in_the_wheel(wheel):
    wanted = source("targets/*.toml") | source("profiles/*.json")
    weights = source("teachers/*.safetensors", ROOT / "tcs_edge")
    assert len(wanted) > 10
    tables = source("*/*.json", ROOT / "tcs_edge")
    assert weights
    expected = {"board_model", "cost_model", "exported_bytes", "operator_tables", "runtime_pairs"}
    assert {Path(name).stem for name in tables} == expected
    assert {f"tcs_edge/{name}" for name in wanted} | weights | tables <= names_in(wheel)


def test_the_templates_of_the_report_are_in_the_wheel(wheel):
    wanted = source("report/page/templates/*", ROOT / "tcs_edge")
    assert len(wanted) >= 7
    assert wanted <= names_in(wheel)


def test_only_the_package_its_data_and_its_metadata_are_in_the_wheel(wheel):
    names = names_in(wheel)
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"tcs_edge"}
    foreign = [
        name
        for name in names
        if "tests/" in name or "test_" in name or "__pycache__" in name or name.endswith((".pyc", ".onnx"))
    ]
    assert foreign == []
    assert any(name.endswith("LICENSE") for name in names)


def test_the_wheel_has_the_command(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (entry,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "tcs-edge = tcs_edge.cli:main" in archive.read(entry).decode()


@pytest.mark.slow
def test_the_wheel_runs_from_a_bare_environment_and_another_folder(wheel, tmp_path):
    """A new virtual environment that has the wheel alone; its dependencies come from this environment."""
    venv.create(tmp_path / "venv", with_pip=True, symlinks=os.name != "nt")
    python = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    install = [python, "-I", "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel]
    done = subprocess.run(install, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    (site,) = (tmp_path / "venv").glob("[Ll]ib/**/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code = (
        "import sys, tcs_edge; from tcs_edge.cli import main; print(tcs_edge.__file__, flush=True); "
        "sys.argv = ['tcs-edge', 'targets']; main()"
    )
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, timeout=100, cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.splitlines()[0]).is_relative_to(site)
    assert "raspberrypi4" in done.stdout
    command = python.with_name("tcs-edge")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=100, cwd=elsewhere)
    assert (done.returncode, __version__ in done.stdout) == (0, True), done.stderr
    assert list(elsewhere.iterdir()) == []


def test_the_unpacked_wheel_finds_its_data_files(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "from tcs_edge.specs.locate import shipped_files, shipped_folder\n"
        "from tcs_edge.specs.target import load_target\n"
        "from tcs_edge.specs.profile import load_profile\n"
        "load_profile(load_target('raspberrypi4').profile)\n"
        "print(shipped_folder('targets'), len(shipped_files('targets')), len(shipped_files('profiles')), sep='\\n')\n"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    folder, targets, profiles = done.stdout.splitlines()
    assert Path(folder) == tmp_path / "site" / "tcs_edge" / "targets"
    assert int(targets) == len(source("targets/*.toml"))
    assert int(profiles) == len(source("profiles/*.json"))
