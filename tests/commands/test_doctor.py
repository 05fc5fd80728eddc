"""Findings of `doctor`, in working and broken installations."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError

import pytest

from tcs_edge.commands import doctor
from tcs_edge.errors import MissingError
from tcs_edge.runtimes.onnxruntime import OrtRunner
from tcs_edge.runtimes.registry import RUNTIMES
from tcs_edge.utils.installed import EXTRAS, PACKAGES


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch, offline):
    monkeypatch.setenv("TCS_EDGE_CACHE", str(tmp_path / "not" / "there" / "yet"))


def states(health: doctor.Health) -> dict[str, str]:
    return {row.name: row.state for row in health.rows}


def test_a_working_installation_is_usable(tmp_path):
    health = doctor.examine()
    found = states(health)
    assert health.usable
    assert found["runs onnxruntime"] == found["runs openvino"] == "ok"
    assert found["torch"] == "ok"
    assert found["teacher digits"] == "ok"
    assert found["teacher dinov2-small"] == "absent"
    assert list(tmp_path.iterdir()) == [], "the inspection must not write files"


def test_the_command_prints_one_json_document(cli):
    result = cli("doctor", "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["usable"] is True
    assert {"name", "state", "detail"} == set(document["findings"][0])


def test_a_missing_package_exits_with_4(cli, monkeypatch):
    real = doctor.version

    def version(name: str) -> str:
        if name == "nncf":
            raise PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(doctor, "version", version)
    result = cli("doctor")
    assert result.exit_code == 4
    line = next(line for line in result.stdout.splitlines() if line.startswith("nncf"))
    assert "broken" in line
    assert "pip install nncf" in line


def test_a_base_install_lacks_the_extras_and_is_usable(cli, monkeypatch):
    extras = {PACKAGES.get(module, module): module for modules in EXTRAS.values() for module in modules}
    real = doctor.version

    def version(name: str) -> str:
        if name in extras:
            raise PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(doctor, "version", version)
    for module in extras.values():
        monkeypatch.setitem(sys.modules, module, None)
    result = cli("doctor", "--json")
    assert result.exit_code == 0, result.stdout
    findings = {one["name"]: one for one in json.loads(result.stdout)["findings"]}
    for package in set(extras) & set(findings):
        assert findings[package]["state"] == "absent"
    assert "pip install 'tcs-edge[train]'" in findings["torch"]["detail"]
    assert findings["runs onnxruntime"]["state"] == "ok"


def test_a_runtime_that_does_not_start_is_broken(monkeypatch):
    def refuses(*_arguments: object, **_options: object) -> None:
        raise MissingError("no such instruction [sse9]")

    monkeypatch.setitem(RUNTIMES, "openvino", replace(RUNTIMES["openvino"], open=refuses))
    health = doctor.examine()
    assert states(health)["runs openvino"] == "broken"
    assert states(health)["runs onnxruntime"] == "ok"
    assert not health.usable


def test_a_runtime_with_wrong_results_is_broken(monkeypatch):
    monkeypatch.setattr(OrtRunner, "run", lambda self, images: images.reshape(1, -1) + 1)
    assert states(doctor.examine())["runs onnxruntime"] == "broken"
