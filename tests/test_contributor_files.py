"""Files for contributors agree with the package and with `.ci/run`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

from tcs_edge import __version__

ROOT = Path(__file__).resolve().parents[1]
CI = (ROOT / ".ci" / "run").read_text()


def read_yaml(name: str) -> dict:
    return yaml.safe_load((ROOT / name).read_text())


def test_the_citation_has_the_version_and_license_of_the_package():
    citation = read_yaml("CITATION.cff")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (citation["version"], citation["license"]) == (__version__, project["license"])


def test_github_runs_every_check_on_every_python_of_the_package():
    (job,) = read_yaml(".github/workflows/ci.yml")["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    versions = re.findall(r"Python :: (3\.\d+)", "\n".join(classifiers))
    assert job["strategy"]["matrix"]["python"] == versions


def test_the_workflow_can_only_read():
    workflow = read_yaml(".github/workflows/ci.yml")
    assert workflow["permissions"] == {"contents": "read"}
    assert all("permissions" not in job for job in workflow["jobs"].values())


def test_every_local_hook_is_a_check_of_ci():
    (local,) = (repo for repo in read_yaml(".pre-commit-config.yaml")["repos"] if repo["repo"] == "local")
    commands = {hook["entry"].removesuffix(" --force-exclude") for hook in local["hooks"]}
    assert commands == {"ruff format", "ruff check", "lint-imports", "mypy"}
    assert all(f".venv/bin/{command}" in CI for command in commands)
