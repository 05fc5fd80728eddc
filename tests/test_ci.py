"""CI: the lines of the action, the template and the hook, run on the example repository."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

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


def repository(root: Path) -> str:
    """Make a repository with the scripts of ci/, whose install.sh makes an environment without a download."""
    shutil.copytree(ROOT / "ci", root / "ci")
    (root / "ci" / "install.sh").write_text(
        '#!/bin/sh\nmkdir -p "$1/bin"\n'
        f'printf \'#!/bin/sh\\nexec {sys.executable} -m tcs_edge "$@"\\n\' >"$1/bin/tcs-edge"\n'
        'chmod +x "$1/bin/tcs-edge"\n'
    )
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "the scripts")
    return git(root, "rev-parse", "HEAD").strip()


def as_gitlab(folder: Path, environment: Environment, **variables: str) -> subprocess.CompletedProcess:
    """Run both scripts of the job in one shell and without standard input, as GitLab's runner does."""
    job = yaml.safe_load((EXAMPLE / ".gitlab-ci.yml").read_text())["gate"]
    source, temporary = folder.parent / "source", folder.parent / "temporary"
    temporary.mkdir(exist_ok=True)
    commit = git(source, "rev-parse", "HEAD").strip() if source.is_dir() else repository(source)
    script = "\n".join([*TEMPLATE["before_script"], *TEMPLATE["script"]])
    runner = {"GITLAB_CI": "true", "CI_PROJECT_DIR": str(folder), "TMPDIR": str(temporary)}
    own = {"TCS_EDGE_SOURCE": source.as_uri(), "TCS_EDGE_REF": commit}
    values = environment | TEMPLATE["variables"] | job["variables"] | runner | own | variables
    return bash(f": | eval {shlex.quote(script)}", folder, values)


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
        assert comment.startswith("### ❌ fail: the model misses a limit\n")
        assert "↑ +1.62 MB (+20 %)" in comment
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


@pytest.mark.parametrize("ref", ["main", "v1", None])
def test_jobs_of_a_shell_runner_leave_nothing_and_share_nothing(origin, environment, tmp_path, ref):
    """A shell runner keeps its folders: the second job starts where the first one ended."""
    for _ in range(2):
        done = as_gitlab(
            origin, environment, **({"TCS_EDGE_REF": ref} if ref and (tmp_path / "source").is_dir() else {})
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert list((tmp_path / "temporary").iterdir()) == []
        if ref == "v1" and not git(tmp_path / "source", "tag").strip():
            git(tmp_path / "source", "tag", "v1")
    change_model(origin, 1.2)
    assert as_gitlab(origin, environment).returncode == 1
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize("variable", ["TCS_EDGE_SOURCE", "TCS_EDGE_MODEL"])
def test_a_gitlab_job_without_a_required_variable_names_it(origin, environment, tmp_path, variable):
    done = as_gitlab(origin, environment, **{variable: ""})
    assert done.returncode != 0
    assert f"{variable}: set it to the" in done.stderr
    assert list((tmp_path / "temporary").iterdir()) == []


def test_reports_of_an_earlier_job_are_removed_first(origin, environment):
    """A gate that stops early has no comment; an old one would be posted as its result."""
    reports = origin / "gate-reports"
    reports.mkdir()
    old = [reports / "comment.md", reports / "junit.xml", origin / "gl-code-quality-report.json"]
    for path in old:
        path.write_text("old")
    kept = reports / "mine.txt"
    kept.write_text("mine")
    done = as_gitlab(origin, environment, TCS_EDGE_MODEL="gone.onnx")
    assert done.returncode != 0
    assert "no such file: gone.onnx" in done.stderr
    assert [path for path in old if path.exists()] == []
    assert kept.exists()


FAKE_GH = """#!{python}
import json, os, sys
from pathlib import Path

state = Path(os.environ["GH_STATE"])
stored = json.loads(state.read_text())
words = sys.argv[1:]
body = next((Path(word[6:]).read_text() for word in words if word.startswith("body=@")), None)
stored["log"].append([word for word in words if not word.startswith("body=@")])
code = 0
if stored["down"]:
    code = 1
elif "--paginate" in words:
    pages = [stored["comments"][start:start + 2] for start in range(0, len(stored["comments"]), 2)] or [[]]
    print("\\n".join(map(json.dumps, pages)))
elif "PATCH" in words:
    number = int(next(word for word in words if word.startswith("repos/")).rsplit("/", 1)[1])
    (comment,) = [one for one in stored["comments"] if one["id"] == number]
    if number in stored["locked"]:
        code = 1
    else:
        comment["body"] = body
elif "POST" in words:
    number = 1 + max([one["id"] for one in stored["comments"]], default=0)
    stored["comments"].append(dict(id=number, body=body, user=dict(type="Bot")))
state.write_text(json.dumps(stored))
sys.exit(code)
"""


@pytest.fixture
def github(environment: Environment, tmp_path: Path) -> Callable[..., Any]:
    """github(file, "bodies", ..., name="", locked=[2]): run comment.sh; return its result, the bodies and the calls."""
    (tmp_path / "bin" / "gh").write_text(FAKE_GH.replace("{python}", sys.executable))
    (tmp_path / "bin" / "gh").chmod(0o755)
    state = tmp_path / "gh.json"

    def post(file: Path, *bodies: str, name: str = "", locked: tuple[int, ...] = (), down: bool = False) -> Any:
        authors = ("User", "Bot", "Organization", "Mannequin")
        comments = [
            {"id": number, "body": body, "user": {"type": authors[number % 4]}} for number, body in enumerate(bodies, 1)
        ]
        state.write_text(json.dumps({"comments": comments, "locked": locked, "log": [], "down": down}))
        command = [ROOT / "ci" / "github" / "comment.sh", "7", file, *([name] if name else [])]
        variables = environment | {"GH_STATE": str(state), "GITHUB_REPOSITORY": "o/r"}
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)
        stored = json.loads(state.read_text())
        return done, [one["body"] for one in stored["comments"]], stored["log"]

    return post


@pytest.fixture
def comment(origin: Path, environment: Environment) -> Callable[..., Path]:
    """comment(name, flags): comment.md that the gate writes for the example's model, copied to `name`."""

    def write(name: str, *flags: str, model: str = "model/manifest.json") -> Path:
        subprocess.run(
            ["tcs-edge", "gate", model, *flags, "--markdown", name], cwd=origin, env=environment, capture_output=True,
            check=False, timeout=60,
        )  # fmt: skip
        return origin / name

    return write


def test_the_first_comment_is_added(github, comment):
    file = comment("c.md")
    done, bodies, log = github(file, "hello", "LGTM")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert bodies == ["hello", "LGTM", file.read_text()]
    assert log[0][2] == "repos/o/r/issues/7/comments?per_page=100"


@pytest.mark.parametrize("place", [0, 1, 4, 5])
def test_the_earlier_comment_is_replaced_on_every_page_and_of_every_author(github, comment, place):
    earlier, file = comment("a.md", "--max-size-mb=1").read_text(), comment("b.md")
    assert earlier != file.read_text()
    bodies = ["hi", "a", "b", "c", "d"]
    bodies.insert(place, earlier.strip().replace("\n", "\r\n") + "\r\n\r\n")  # as a site may store it
    done, after, _ = github(file, *bodies)
    assert (done.returncode, done.stdout) == (0, "")
    assert after == [*bodies[:place], file.read_text(), *bodies[place + 1 :]]


def test_a_comment_that_only_quotes_the_marker_is_left_alone(github, comment):
    file = comment("c.md")
    text = file.read_text()
    marker = text.strip().splitlines()[-1]
    quotes = [
        f"The bot hides {marker} in its comment.",
        f"See\n\n{marker}",
        f"{marker}\n\nthanks",
        "\n".join(f"> {line}" for line in text.splitlines()),
        f"{text}\nI disagree.",
        f"Look:\n{text}",
        f"```\n{text}\n```",
        "",
    ]
    _, after, _ = github(file, *quotes)
    assert after == [*quotes, text]


def test_two_gates_of_one_pull_request_keep_their_comments(github, comment, origin):
    shutil.copytree(origin / "model", origin / "other")
    one, other = comment("a.md"), comment("b.md", model="other/manifest.json")
    before = comment("c.md", "--max-size-mb=1"), comment("d.md", "--max-size-mb=1", model="other/manifest.json")
    texts = [path.read_text() for path in before]
    _, after, _ = github(one, *texts)
    assert after == [one.read_text(), texts[1]]
    _, after, _ = github(other, *texts)
    assert after == [texts[0], other.read_text()]


def test_a_name_keeps_two_gates_of_one_model_apart(github, comment):
    file = comment("c.md")
    _, first, _ = github(file)
    _, second, _ = github(file, *first, name="nightly")
    assert len(second) == 2
    assert second[1].strip().endswith(" nightly -->")
    assert github(file, *second, name="nightly")[1] == second
    assert github(file, *second)[1] == second


@pytest.mark.parametrize("name", ["a --> b", "a|b", "$(id)", "a--b", "é", "a\nb"])
def test_a_name_that_could_end_the_marker_is_refused(github, comment, name):
    done, bodies, log = github(comment("c.md"), name=name)
    assert (done.returncode, bodies, log) == (2, [], [])
    assert "NAME" in done.stderr


def test_a_comment_that_the_token_cannot_edit_is_followed_by_a_new_one(github, comment):
    text = comment("a.md", "--max-size-mb=1").read_text()
    file = comment("c.md")
    assert github(file, text, text, locked=(1,))[1] == [text, file.read_text()]
    assert github(file, text, text, locked=(1, 2))[1] == [text, text, file.read_text()]


def test_without_permission_the_job_still_shows_the_verdict(github, comment):
    done, bodies, _ = github(comment("c.md"), down=True)
    assert (done.returncode, bodies) == (0, [])
    assert "pull-requests: write" in done.stdout


def test_a_gate_that_stopped_early_has_no_comment(github, tmp_path):
    done, bodies, log = github(tmp_path / "none.md")
    assert (done.returncode, bodies, log) == (0, [], [])
    assert "no comment" in done.stderr


def test_a_file_without_a_marker_is_not_posted(github, tmp_path):
    (tmp_path / "c.md").write_text("### ✅ pass: mine\n")
    done, bodies, _ = github(tmp_path / "c.md")
    assert bodies == []
    assert "not a marker of the gate" in done.stderr


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


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = {name: (ROOT / "ci" / f"requirements-{name}.txt").read_text() for name in ("gate", "dev")}


def asked() -> list[str]:
    """Return the lines of requirements-gate.in."""
    lines = (ROOT / "ci" / "requirements-gate.in").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def development() -> list[str]:
    """Return the requirements of the package with its extra `dev`; extras within it are followed."""
    extras: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
    found, open_extras = list(PROJECT["project"]["dependencies"]), ["dev"]
    for extra in open_extras:  # grows
        for requirement in map(Requirement, extras[extra]):
            if requirement.name == "tcs-edge":
                open_extras += requirement.extras
            else:
                found.append(str(requirement))
    return found


def locked(name: str) -> list[tuple[Requirement, list[str]]]:
    """Return every requirement of a lock file with its hashes."""
    lines = [line for line in LOCKS[name].replace("\\\n", "").splitlines() if line and not line.startswith("#")]
    parts = [re.split(r"\s+--hash=", line) for line in lines]
    return [(Requirement(requirement), hashes) for requirement, *hashes in parts]


def test_the_gate_imports_only_its_requirements(make_run, onnx_path, xml_path, tmp_path):
    installed = needed_by({Requirement(line).name for line in asked()}) | {"tcs-edge"}
    of_modules = metadata.packages_distributions()
    for model in (make_run(), onnx_path, xml_path):
        command = [sys.executable, "-c", IMPORTED.format(model=str(model))]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        code, *modules = done.stdout.splitlines()[-1].split()
        assert code == "0", done.stderr
        packages = {name.lower().replace("_", "-") for module in modules for name in of_modules.get(module, [])}
        # Used if installed: the telemetry, which is switched off, and attrs by rich 14.
        packages -= {"setuptools", "openvino-telemetry", "attrs"}
        assert packages <= {name.replace("_", "-") for name in installed}
    known = {*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]}
    assert set(asked()) <= known, "requirements-gate.in differs from pyproject.toml"
    assert set(PROJECT["build-system"]["requires"]) <= set(asked()), "install.sh builds without isolation"


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_is_pinned_with_hashes(name):
    for requirement, hashes in locked(name):
        (pin,) = requirement.specifier
        assert pin.operator == "==", requirement
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), requirement
    assert "://" not in LOCKS[name], "a registry is the user's choice"


@pytest.mark.parametrize("name", LOCKS)
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("system", [("linux", "Linux"), ("darwin", "Darwin"), ("win32", "Windows")])
def test_the_lock_file_agrees_with_the_requirements(name, python, system):
    """On every system and Python, each package has one version, and it meets the bounds of pyproject.toml."""
    place = {"python_version": python, "python_full_version": f"{python}.4", "sys_platform": system[0]}
    place |= {"platform_system": system[1], "platform_machine": "x86_64", "extra": ""}
    pins: dict[str, str] = {}
    for requirement, _ in locked(name):
        if requirement.marker is None or requirement.marker.evaluate(place):
            assert requirement.name not in pins
            (pin,) = requirement.specifier
            pins[requirement.name] = pin.version
    wanted = map(Requirement, asked() if name == "gate" else development())
    needed = [requirement for requirement in wanted if not requirement.marker or requirement.marker.evaluate(place)]
    for requirement in needed:
        assert requirement.specifier.contains(pins[requirement.name]), requirement
    if name == "gate":  # pip itself refuses an incomplete lock, but only where it is installed
        names = {name.replace("_", "-") for name in needed_by({requirement.name for requirement in needed})}
        assert names <= set(pins), "run ci/lock.sh"


def test_the_lock_file_is_what_gets_installed():
    checks = (ROOT / ".ci" / "run").read_text()
    locked_packages, newest = "--require-hashes -r ci/requirements-dev.txt", 'bash -euo pipefail -c "$command"'
    assert checks.index(locked_packages) < checks.index(newest)
    script = (ROOT / "ci" / "install.sh").read_text()
    assert "--require-hashes -r" in script
    assert script.count("install[@]") == 2
    assert "--no-deps --no-build-isolation" in script, "a build environment would have no hashes"


USES = re.compile(r"\buses:\s*([\w./-]+)@([\w.-]+)(?:\s+#\s*(\S+))?")


def workflows() -> list[Path]:
    """Return every file of the repository that may show an action."""
    kinds = [
        *ROOT.glob("*.md"),
        *(path for top in ("docs", "examples", "ci", ".github") for path in (ROOT / top).rglob("*")),
    ]
    return [path for path in kinds if path.suffix in (".yml", ".yaml", ".md")]


def test_actions_are_pinned_by_commit_with_the_version_beside():
    found = [(path, *match.groups()) for path in workflows() for match in USES.finditer(path.read_text())]
    assert {action for _, action, _, _ in found} >= {"actions/checkout", "actions/setup-python"}
    for path, action, ref, version in found:
        own = action.startswith("OWNER/")  # the reader's own copy of this repository
        assert ref == "COMMIT" if own else re.fullmatch(r"[0-9a-f]{40}", ref), f"{path}: {action}@{ref}"
        assert re.fullmatch(r"v\d+\.\d+\.\d+", version or ""), f"{path}: {action} has no version"
    commits: dict[str, set[tuple[str, str]]] = {}
    for _, action, ref, version in found:
        commits.setdefault(action, set()).add((ref, version))
    assert {action: len(pins) for action, pins in commits.items() if len(pins) > 1} == {}


SCRIPTS = sorted((ROOT / "ci").rglob("*.sh"))


@pytest.mark.parametrize("script", SCRIPTS, ids=[path.name for path in SCRIPTS])
def test_scripts_are_executable_and_valid(script):
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
def test_shellcheck_finds_nothing():
    done = subprocess.run(["shellcheck", *SCRIPTS], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout
