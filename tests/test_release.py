"""The release: who may publish, and a build from one commit with equal bytes."""

from __future__ import annotations

import email
import email.message
import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from tcs_edge.utils.version import __version__

ROOT = Path(__file__).resolve().parents[1]
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
JOBS = WORKFLOW["jobs"]
REPOSITORY = "https://example.org/owner/tcs-edge"
BUILT = (
    "hatch_build.py",
    "tcs_edge",
    "targets",
    "profiles",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "ci",
)


def actions(job: str) -> list[str]:
    return [step["uses"].partition("@")[0] for step in JOBS[job]["steps"] if "uses" in step]


def test_only_a_tag_of_a_version_starts_a_release():
    assert WORKFLOW[True] == {"push": {"tags": ["v*"]}}  # YAML reads the key `on` as true


def test_each_job_has_the_permissions_that_it_needs():
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert {name: job["permissions"] for name, job in JOBS.items() if "permissions" in job} == {
        "attest": {"attestations": "write", "id-token": "write"},
        "publish": {"id-token": "write"},
        "announce": {"contents": "write"},
    }


def test_a_job_that_can_write_runs_no_code_of_the_repository():
    for name in ("attest", "publish", "announce"):
        assert "actions/checkout" not in actions(name)
        assert actions(name)[0] == "actions/download-artifact"
    assert [job for job in JOBS if any("run" in step for step in JOBS[job]["steps"])] == ["check", "build", "announce"]
    for step in (step for name in ("check", "build") for step in JOBS[name]["steps"]):
        if step.get("uses", "").startswith("actions/checkout"):
            assert step["with"]["persist-credentials"] is False


def test_checks_come_before_the_build_and_provenance_before_pypi():
    assert {name: job.get("needs") for name, job in JOBS.items()} == {
        "check": None, "build": "check", "attest": "build", "publish": "attest", "announce": "publish",
    }  # fmt: skip


def test_pypi_trusts_the_workflow_instead_of_a_secret():
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text()
    assert "secrets." not in text
    assert "password" not in text
    assert JOBS["publish"]["environment"]["name"] == "pypi"
    (upload,) = (step for step in JOBS["publish"]["steps"] if step["uses"].startswith("pypa/gh-action-pypi-publish@"))
    assert upload["with"] == {"packages-dir": "dist", "attestations": True, "print-hash": True}


def test_texts_of_the_event_reach_a_shell_as_variables_only():
    for job in JOBS.values():
        for step in job["steps"]:
            assert "${{" not in step.get("run", "")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with what the build needs, whose changelog has a section for the version."""
    root = tmp_path / "checkout"
    root.mkdir()
    for name in BUILT:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, root / name)
    changes = root / "CHANGELOG.md"
    changes.write_text(changes.read_text().replace("## Unreleased", f"## {__version__}"))
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "a release"]):
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *identity, *words], cwd=root, check=True, capture_output=True, timeout=60)
    return root


def release(
    checkout: Path, tag: str, out: Path, repository: str | None = REPOSITORY
) -> subprocess.CompletedProcess[str]:
    command = [checkout / "ci" / "release.sh", tag, out, sys.executable]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GITHUB_")}
    environment |= {"TCS_EDGE_REPOSITORY": repository} if repository else {}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)


def metadata_of(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def test_a_release_has_a_wheel_an_sdist_and_their_hashes(checkout, tmp_path):
    done = release(checkout, f"v{__version__}", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    files = {path.name: path.read_bytes() for path in (tmp_path / "out" / "dist").iterdir()}
    assert sorted(files) == [f"tcs_edge-{__version__}-py3-none-any.whl", f"tcs_edge-{__version__}.tar.gz"]
    lines = (tmp_path / "out" / "SHA256SUMS").read_text().splitlines()
    assert dict(reversed(re.split(r"\s+", line)) for line in lines) == {
        name: hashlib.sha256(content).hexdigest() for name, content in files.items()
    }
    metadata = metadata_of(next((tmp_path / "out" / "dist").glob("*.whl")))
    addresses = dict(line.split(", ") for line in metadata.get_all("Project-URL"))
    assert addresses["Source"] == REPOSITORY
    assert addresses["Changelog"] == f"{REPOSITORY}/blob/v{__version__}/CHANGELOG.md"
    readme = metadata.get_payload()
    targets = re.findall(r"\]\(([^)\s]+)\)", readme)
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []
    assert f"![The report of a run]({REPOSITORY}/raw/v{__version__}/docs/start/report.png)" in readme
    pytest.importorskip("twine", reason="needs twine: pip install -e '.[dev]'")
    command = [sys.executable, "-m", "twine", "check", "--strict", *(tmp_path / "out" / "dist").iterdir()]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert checked.returncode == 0, checked.stdout


def test_a_release_needs_the_address_of_its_repository(checkout, tmp_path):
    done = release(checkout, f"v{__version__}", tmp_path / "out", repository=None)
    assert (done.returncode, "Set TCS_EDGE_REPOSITORY" in done.stderr) == (2, True)


def test_another_tag_no_changelog_or_changes_stop_a_release(checkout, tmp_path):
    for tag in ("v9.9.9", __version__, f"v{__version__}.post1"):
        done = release(checkout, tag, tmp_path / "out")
        assert (done.returncode, "the package is v" in done.stderr) == (2, True)
    (checkout / "new.txt").write_text("x")
    assert "the working tree has changes" in release(checkout, f"v{__version__}", tmp_path / "out").stderr
    changes = checkout / "CHANGELOG.md"
    changes.write_text(changes.read_text().replace(f"## {__version__}", "## Unreleased"))
    assert "has no section" in release(checkout, f"v{__version__}", tmp_path / "out").stderr
    assert not (tmp_path / "out").exists()
