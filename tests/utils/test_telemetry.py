"""Tests that no library sends usage statistics, leaves an id file or changes the host's process."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tcs_edge.utils.telemetry import telemetry_off

ROOT = Path(__file__).resolve().parents[2]
SWITCH, SENDER = "ORT_DISABLE_TELEMETRY", "openvino_telemetry"
CLEAN = f"""
import os, sys
assert {SWITCH!r} not in os.environ
assert not [name for name in sys.modules if name.split(".")[0] == {SENDER!r}]
"""
RUN_A_MODEL = """
from tcs_edge.commands.working_parts import working_parts
states = {name: state for name, state, _ in working_parts()}
assert states["runs onnxruntime"] == states["runs openvino"] == "ok", states
"""
IMPORT_ALL = """
import importlib
before = dict(os.environ)
for name in sys.argv[1:]:
    importlib.import_module(name)
changed = {name for name in before.keys() | os.environ.keys() if before.get(name) != os.environ.get(name)}
# scikit-learn and torch set these when they are imported.
assert changed <= {"KMP_INIT_AT_FORK", "KMP_DUPLICATE_LIB_OK", "TORCHINDUCTOR_CACHE_DIR"}, changed
assert not {"onnxruntime", "openvino", "nncf"} & sys.modules.keys()
assert not [name for name, module in sys.modules.items() if module is None]
"""
# Calls that would send events after the import.
SEND = """
import onnxruntime, openvino.tools.ovc.telemetry_utils as ovc
onnxruntime.enable_telemetry_events()
ovc.init_ovc_telemetry(); ovc.send_framework_info("onnx")
"""


def in_fresh_home(code: str, home: Path, *arguments: str) -> list[Path]:
    """Run `code` with an empty home folder, and return the files of vendors in it afterwards."""
    hidden = {"CI", "GITHUB_ACTIONS", SWITCH, "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    command = [sys.executable, "-c", code, *arguments]
    subprocess.run(command, check=True, timeout=120, env=environment | {"HOME": str(home), "PYTHONPATH": str(ROOT)})
    return [path for path in home.rglob("*") if path.name in ("Microsoft", ".onnxruntime", "intel", "nncf")]


def test_running_models_leaves_no_device_id_in_the_home_folder(tmp_path: Path):
    assert in_fresh_home(RUN_A_MODEL, tmp_path) == []


def test_the_process_is_restored_and_the_libraries_stay_silent(tmp_path: Path):
    assert in_fresh_home(CLEAN + RUN_A_MODEL + CLEAN + SEND + CLEAN, tmp_path) == []


@pytest.mark.slow
def test_nncf_imported_in_a_block_leaves_no_client_id(tmp_path: Path):
    code = "from tcs_edge.utils.telemetry import telemetry_off\nwith telemetry_off():\n    import nncf\n"
    assert in_fresh_home(code + CLEAN, tmp_path) == []


@pytest.mark.slow
def test_importing_the_package_changes_neither_the_environment_nor_other_modules(tmp_path: Path):
    files = [path.relative_to(ROOT).with_suffix("") for path in sorted((ROOT / "tcs_edge").rglob("*.py"))]
    modules = [".".join(path.parts).removesuffix(".__init__") for path in files if "device_files" not in path.parts]
    assert "tcs_edge.profiling.device" in modules
    in_fresh_home(CLEAN + IMPORT_ALL + CLEAN, tmp_path, *(name for name in modules if name != "tcs_edge.__main__"))


@pytest.mark.parametrize("switch", [None, "0"])
@pytest.mark.parametrize("sender", ["absent", "blocked", "loaded"])
def test_the_block_restores_environment_and_modules(monkeypatch, switch, sender):
    monkeypatch.delenv(SWITCH, raising=False)
    if switch is not None:
        monkeypatch.setenv(SWITCH, switch)
    monkeypatch.delitem(sys.modules, SENDER, raising=False)
    if sender != "absent":
        monkeypatch.setitem(sys.modules, SENDER, ModuleType(SENDER) if sender == "loaded" else None)
    before = os.environ.get(SWITCH), SENDER in sys.modules, sys.modules.get(SENDER)
    with contextlib.suppress(RuntimeError), telemetry_off():
        assert os.environ[SWITCH] == "1"
        assert sys.modules[SENDER] is None
        raise RuntimeError
    assert before == (os.environ.get(SWITCH), SENDER in sys.modules, sys.modules.get(SENDER))
