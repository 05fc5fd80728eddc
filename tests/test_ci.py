"""CI: the lines of the action, the template and the hook, run on the example repository."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from tcs_edge.report.markdown import MARKER

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "ci"
ACTION = yaml.safe_load((ROOT / "ci" / "github" / "action.yml").read_text())
TEMPLATE = yaml.safe_load((ROOT / "ci" / "gitlab" / "gate.gitlab-ci.yml").read_text())[".tcs-edge-gate"]
(HOOK,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())

Environment = dict[str, str]


def git(folder: Path, *arguments: object) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", *identity, "-c", "init.defaultBranch=main", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """Environment of a CI job: `tcs-edge` on the path, without variables of the system that runs the tests."""
    command = tmp_path / "bin" / "tcs-edge"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tcs_edge "$@"\n')
    command.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "CI_", "GITLAB"))}
    paths = {"PATH": f"{command.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    return kept | paths | {"GIT_ALLOW_PROTOCOL": "file"}


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """Example repository with one commit on main."""
    root = shutil.copytree(EXAMPLE, tmp_path / "origin")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "a model")
    return root


def change_model(root: Path, factor: float) -> None:
    """Multiply the file sizes in the model's manifest by `factor`."""
    path = root / "model" / "manifest.json"
    document = json.loads(path.read_text())
    for record in document["files"]:
        record["bytes"] = int(record["bytes"] * factor)
    path.write_text(json.dumps(document))


def bash(line: str, folder: Path, environment: Environment) -> subprocess.CompletedProcess:
    command = ["bash", "-euo", "pipefail", "-c", line]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def as_github(folder: Path, environment: Environment) -> subprocess.CompletedProcess:
    (step,) = (step for step in ACTION["runs"]["steps"] if step["name" if "name" in step else "id"] == "Gate")
    workflow = yaml.safe_load((EXAMPLE / ".github" / "workflows" / "gate.yml").read_text())
    inputs = {name: one.get("default", "") for name, one in ACTION["inputs"].items()}
    inputs |= workflow["jobs"]["gate"]["steps"][1]["with"]
    filled = {name: re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda m: inputs[m[1]], text)
              for name, text in step["env"].items()}  # fmt: skip
    runner = {"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": str(folder), "GITHUB_ACTION_PATH": str(ROOT / "ci/github")}
    return bash(step["run"], folder, environment | runner | filled)


def as_gitlab(folder: Path, environment: Environment) -> subprocess.CompletedProcess:
    job = yaml.safe_load((EXAMPLE / ".gitlab-ci.yml").read_text())["gate"]
    builds = folder.parent / "builds"
    builds.mkdir()
    (builds / "tcs-edge").symlink_to(ROOT)
    (line,) = TEMPLATE["script"]
    runner = {"GITLAB_CI": "true", "CI_PROJECT_DIR": str(folder), "CI_BUILDS_DIR": str(builds)}
    return bash(line, folder, environment | TEMPLATE["variables"] | job["variables"] | runner)


def as_hook(folder: Path, environment: Environment) -> subprocess.CompletedProcess:
    config = yaml.safe_load((EXAMPLE / ".pre-commit-config.yaml").read_text())
    (used,) = config["repos"][0]["hooks"]
    assert used["id"] == HOOK["id"]
    assert not HOOK["pass_filenames"]
    command = [ROOT / HOOK["entry"], *used["args"]]
    environment = environment | {"PRE_COMMIT": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


WAYS = [as_github, as_gitlab, as_hook]
Way = Callable[[Path, Environment], subprocess.CompletedProcess]


@pytest.mark.parametrize("way", WAYS)
def test_an_unchanged_model_passes(way: Way, origin, environment):
    done = way(origin, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gate: pass" in done.stdout


@pytest.mark.parametrize("way", WAYS)
def test_a_larger_model_fails_and_the_reports_show_the_change(way: Way, origin, environment):
    change_model(origin, 1.2)
    done = way(origin, environment)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "(+20 %)" in done.stdout
    written = sorted(path.name for path in (origin / "gate-reports").glob("*"))
    assert written == ([] if way is as_hook else ["comment.md", "junit.xml"])
    if written:
        comment = (origin / "gate-reports" / "comment.md").read_text(encoding="utf-8")
        assert "The model misses a limit" in comment
        assert "↑ &#43;1.62 MB (&#43;20 %)" in comment or "(&#43;20 %)" in comment
    assert ("::error" in done.stderr) == (way is as_github)
    assert (origin / "gl-code-quality-report.json").exists() == (way is as_gitlab)


def test_an_accepted_larger_model_passes(origin, environment):
    change_model(origin, 1.06)
    assert as_hook(origin, environment).returncode == 1
    accepted = bash("tcs-edge gate model/manifest.json --update-baseline gate.json", origin, environment)
    assert accepted.returncode == 0, accepted.stderr
    assert as_hook(origin, environment).returncode == 0


def use_baseline_of_main(origin: Path) -> None:
    path = origin / "tcs-edge.toml"
    path.write_text(path.read_text().replace('"gate.json"', '"git:origin/main:gate.json"'))
    git(origin, "commit", "-qam", "compare with main")
    git(origin, "checkout", "-qb", "feature")
    git(origin, "commit", "-q", "--allow-empty", "-m", "a change")


@pytest.mark.parametrize("variable", ["GITHUB_BASE_REF", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "TCS_EDGE_BASE_BRANCH"])
def test_a_shallow_checkout_fetches_the_branch_of_the_baseline(origin, environment, tmp_path, variable):
    use_baseline_of_main(origin)
    git(tmp_path, "clone", "-q", "--depth", 1, "--branch", "feature", origin.as_uri(), "checkout")
    checkout = tmp_path / "checkout"
    without = as_hook(checkout, environment)
    assert without.returncode == 2
    assert "fetch that ref" in without.stderr
    done = as_hook(checkout, environment | {variable: "main"})
    assert done.returncode == 0, done.stderr
    assert git(checkout, "rev-list", "--count", "origin/main").strip() == "1"


def test_a_full_clone_keeps_its_history(origin, environment, tmp_path):
    use_baseline_of_main(origin)
    git(tmp_path, "clone", "-q", "--single-branch", "--branch", "feature", origin.as_uri(), "checkout")
    done = as_hook(tmp_path / "checkout", environment | {"TCS_EDGE_BASE_BRANCH": "main"})
    assert done.returncode == 0, done.stderr
    assert git(tmp_path / "checkout", "rev-list", "--count", "origin/main").strip() == "2"


def test_flags_are_read_one_per_line(origin, environment):
    flags = "--max-size-mb=0.5\n\n--max-change=size_mb=50 %\n"
    done = as_hook(origin, environment | {"TCS_EDGE_FLAGS": flags})
    assert done.returncode == 1
    assert "over the limit of 0.5 MB" in done.stdout
    assert "50 %" in done.stdout


def test_the_error_without_tcs_edge_has_the_fix(origin, environment):
    done = as_hook(origin, environment | {"TCS_EDGE": "/nowhere/tcs-edge"})
    assert done.returncode == 4
    assert "ci/install.sh" in done.stderr


FAKE_GH = """#!/bin/sh
printf '%s\\n' "$*" >> "$GH_LOG"
case "$*" in *--jq*) printf '%s' "$GH_EARLIER" ;; esac
exit "$GH_EXIT"
"""


@pytest.mark.parametrize(
    ("earlier", "exit_code", "expected"),
    [
        ("", 0, "--method POST repos/o/r/issues/7/comments -F body=@comment.md"),
        ("11\n12\n", 0, "--method PATCH repos/o/r/issues/comments/11 -F body=@comment.md"),
        ("", 1, "pull-requests: write"),
    ],
)
def test_the_comment_is_added_or_replaced(environment, tmp_path, earlier, exit_code, expected):
    (tmp_path / "bin" / "gh").write_text(FAKE_GH)
    (tmp_path / "bin" / "gh").chmod(0o755)
    (tmp_path / "comment.md").write_text(MARKER)
    log = tmp_path / "gh.log"
    gh = {"GH_LOG": str(log), "GH_EARLIER": earlier, "GH_EXIT": str(exit_code), "GITHUB_REPOSITORY": "o/r"}
    script = ROOT / "ci" / "github" / "comment.sh"
    done = bash(f"'{script}' 7 comment.md && '{script}' 7 none.md", tmp_path, environment | gh)
    assert done.returncode == 0, done.stderr
    assert expected in log.read_text() + done.stdout
    assert MARKER in log.read_text()
    assert "no comment" in done.stderr


IMPORTED = """
import sys
from pathlib import Path
from tcs_edge.cli import main
sys.argv = ["tcs-edge", "gate", {model!r}, "--max-size-mb", "500", "--markdown", "c.md", "--junit", "j.xml"]
try:
    main()
except SystemExit as stop:
    print(stop.code, *sorted({{name.partition(".")[0] for name in sys.modules}}))
"""


def needed_by(names: set[str]) -> set[str]:
    """Return the packages that pip installs for `names`."""
    found: set[str] = set()
    while names:
        name = names.pop()
        found.add(name)
        wanted = map(Requirement, metadata.requires(name) or [])
        names |= {one.name.lower() for one in wanted if not one.marker or one.marker.evaluate({"extra": ""})} - found
    return found


def test_the_gate_imports_only_its_requirements(make_run, onnx_path, xml_path, tmp_path):
    lines = (ROOT / "ci" / "requirements-gate.txt").read_text().splitlines()
    requirements = [line for line in lines if line and not line.startswith("#")]
    installed = needed_by({Requirement(line).name for line in requirements}) | {"tcs-edge"}
    of_modules = metadata.packages_distributions()
    for model in (make_run(), onnx_path, xml_path):
        command = [sys.executable, "-c", IMPORTED.format(model=str(model))]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        code, *modules = done.stdout.splitlines()[-1].split()
        assert code == "0", done.stderr
        packages = {name.lower().replace("_", "-") for module in modules for name in of_modules.get(module, [])}
        packages -= {"setuptools", "openvino-telemetry"}  # the latter is switched off if installed
        assert packages <= {name.replace("_", "-") for name in installed}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(requirements) <= set(project["dependencies"])


@pytest.mark.parametrize("script", ["ci/gate.sh", "ci/install.sh", "ci/github/comment.sh"])
def test_scripts_are_executable_and_valid(script):
    assert os.access(ROOT / script, os.X_OK)
    assert subprocess.run(["bash", "-n", ROOT / script], check=False).returncode == 0
