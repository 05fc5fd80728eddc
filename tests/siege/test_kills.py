"""SIGKILL at file events: the next command completes the work bit for bit, or names the way out in one line."""

from __future__ import annotations

import importlib.util
import json
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tcs_edge.utils.files import is_draft, sha256_file

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and /proc/self/fd")

TARGET = "x86-avx2" if platform.machine() == "x86_64" else "raspberrypi5"
WEIGHTS, EXPORTS = "checkpoints/deployed.safetensors", ("export/model.onnx", "export/openvino/model.bin")
# Moments of one run, and how the work goes on. benchmarks/reliability.py kills at every event.
MOMENTS = {
    "before the first features": ("os.rename cache/features/", ".draft", "again"),
    "before the options": ("os.rename run/.config.resolved.draft", "", "again"),
    "in the second epoch": ("open run/metrics.jsonl", "", "resume"),
    "with a draft among the exports": ("os.rename run/export.unvalidated/openvino/.model.draft", "", "resume"),
    "between verdict and manifest": ("os.rename run/.manifest.draft", "", "resume"),
    "before the report": ("os.rename run/reports/.report.draft", "", "report"),
}


def load_tool() -> Any:
    spec = importlib.util.spec_from_file_location("kill_at", Path(__file__).with_name("kill_at.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules["kill_at"] = module  # for its dataclasses
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def forks(tmp_path_factory) -> Iterator[Any]:
    with load_tool().Forks(tmp_path_factory.mktemp("kills")) as started:
        yield started


@pytest.fixture
def place(forks) -> Iterator[Path]:
    """The working folder of `forks`, empty."""
    yield forks.folder
    for entry in forks.folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


@pytest.fixture(scope="module")
def command(tiny) -> list[str]:
    """A run that takes seconds, in the folder run/, with a new cache."""
    changes = {"student": "test_resnet", "img_size": 32, "epochs": 4, "cache_dir": "cache"}
    return [*tiny(**changes), "--out", "run"]


@pytest.fixture(scope="module")
def undisturbed(forks, command) -> Any:
    """Outcome, file names, and bytes of the weights and exports of a run that nothing disturbed."""
    outcome = forks.run(*command)
    assert outcome.code == 0, outcome.output
    found = outcome, names(forks.folder / "run"), contents(forks.folder / "run")
    shutil.rmtree(forks.folder / "run")
    shutil.rmtree(forks.folder / "cache")
    return found


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def contents(run: Path) -> list[bytes]:
    return [(run / name).read_bytes() for name in (WEIGHTS, *EXPORTS)]


def left_over(folder: Path) -> list[str]:
    """Traces of processes that ended."""
    return sorted(name for name in names(folder) if is_draft(Path(name).name) or name.endswith("lock"))


def number_of(events: tuple[str, ...], start: str, part: str, count: int = 1) -> int:
    """Return the number of the event, from 1."""
    return [number for number, event in enumerate(events, 1) if event.startswith(start) and part in event][count - 1]


def test_the_moment_of_a_signal_counts_the_work_of_children():
    """`bench` works in processes of its own: by the time of the command alone, most signals would never be sent."""
    busy = "import time\nwhile time.process_time() < 0.5: pass"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}]); print(flush=True); input()"
    tool, deadline = load_tool(), time.monotonic() + 30
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        while tool.cpu_seconds(parent.pid) < 0.3 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text(), "the child has ended"
        parent.stdout.readline()
        assert tool.cpu_seconds(parent.pid) >= 0.45  # in ticks of 10 ms, each rounded down
        parent.communicate(b"\n")
    assert tool.cpu_seconds(parent.pid) == 0


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_ends_as_an_undisturbed_one(forks, place, command, undisturbed, moment):
    (whole, files, expected), (start, part, way) = undisturbed, MOMENTS[moment]
    number = number_of(whole.events, start, part, count=2 if moment == "in the second epoch" else 1)
    assert forks.run(*command, kill_at=number).killed
    assert forks.run("gate", "run", "--max-size-mb", 100).code == (0 if way == "report" else 2)
    resumed = forks.run("compress", "--resume", "run")
    assert "Traceback" not in resumed.output
    if way == "again":
        assert resumed.code == 3
        assert "Run the same command again" in resumed.output or "no such run folder" in resumed.output
        resumed = forks.run(*command)
    if way == "report":
        assert resumed.code == 2
        assert "Only reports/report.html is missing. Write it with: tcs-edge report run" in resumed.output
        resumed = forks.run("report", "run")
    assert resumed.code == 0, resumed.output
    assert contents(place / "run") == expected
    assert names(place / "run") == files
    assert left_over(place) == []
    recorded = {record["path"] for record in json.loads((place / "run" / "manifest.json").read_text())["files"]}
    assert recorded == {name for name in files if (place / "run" / name).is_file()} - {
        "manifest.json", "tcs-edge-run.json", "reports/report.html",
    }  # fmt: skip
    assert forks.run("gate", "run", "--max-size-mb", 100).code == 0


@pytest.mark.slow
def test_a_bundle_is_replaced_whole_or_not_at_all(forks, place, finished):
    def tree(name: str) -> dict[str, bytes] | None:
        root = place / name
        return {path.name: path.read_bytes() for path in root.iterdir()} if root.is_dir() else None

    bundle = ("bundle", finished, "--out", "b", "--overwrite")
    assert forks.run("bundle", finished, "--out", "earlier", "--runtime", "openvino").code == 0
    shutil.copytree(place / "earlier", place / "b")
    whole = forks.run(*bundle)
    assert whole.code == 0, whole.output
    earlier, new = tree("earlier"), tree("b")
    swap = [number for number, event in enumerate(whole.events, 1) if "earlier" in event]
    for number in (5, 20, 50, *(n for n in range(swap[-17] - 2, swap[-17] + 4)), swap[-1]):
        shutil.rmtree(place / "b")
        shutil.copytree(place / "earlier", place / "b")
        assert forks.run(*bundle, kill_at=number).killed
        left = tree("b")
        assert left in (earlier, new) or left is None, whole.events[number - 1]
        refused = forks.run(*bundle[:-1])
        assert refused.code == 2
        assert [line.partition(". ")[0] for line in refused.error_lines] == ["error: b is not empty"]
        assert tree("b") == (left or earlier)
        assert forks.run(*bundle).code == 0
        assert tree("b") == new
        assert sorted(path.name for path in place.iterdir()) == ["b", "earlier"]


@pytest.mark.slow
def test_a_killed_revocation_leaves_nothing_to_deploy(forks, place, own_run):
    weights = own_run / "export" / "openvino" / "model.bin"
    weights.write_bytes(weights.read_bytes()[:-64])
    manifest = json.loads((own_run / "manifest.json").read_text())
    for record in manifest["files"]:
        if record["path"] == "export/openvino/model.bin":
            record |= {"bytes": weights.stat().st_size, "sha256": sha256_file(weights)}
    (own_run / "manifest.json").write_text(json.dumps(manifest))
    revoke = ("validate", "run", "--revoke")
    shutil.copytree(own_run, place / "run")
    whole = forks.run(*revoke)
    assert whole.code == 1, whole.output
    first = number_of(whole.events, "os.rename run/export", "")
    for number in (first, first + 1, first + 3, len(whole.events) - 5, len(whole.events)):
        shutil.rmtree(place / "run")
        shutil.copytree(own_run, place / "run")
        assert forks.run(*revoke, kill_at=number).killed
        again = forks.run(*revoke)
        assert (again.code, "Traceback" in again.output) == (1, False), again.output
        assert not (place / "run" / "export").exists()
        rejected = [path.name for path in (place / "run" / "export.REJECTED").rglob("*") if path.is_file()]
        assert rejected
        assert all(name.endswith(".rejected") for name in rejected)
        assert forks.run("gate", "run", "--max-size-mb", 100).code == 1
        assert left_over(place / "run") == []


def test_a_killed_update_leaves_a_whole_baseline(forks, place, finished):
    update = ("gate", finished, "--update-baseline", "ci/gate.json")
    whole = forks.run(*update)
    assert whole.code == 0, whole.output
    new = (place / "ci" / "gate.json").read_text()
    for number in range(1, len(whole.events) + 1):
        shutil.rmtree(place / "ci")
        if number % 2:
            (place / "ci").mkdir()
            (place / "ci" / "gate.json").write_text("earlier")
        killed = forks.run(*update, kill_at=number)
        assert killed.killed or number % 2, killed  # an existing folder needs fewer events
        path = place / "ci" / "gate.json"
        assert path.read_text() in ("earlier", new) if path.exists() else number % 2 == 0
        assert forks.run(*update).code == 0
        assert path.read_text() == new
        assert left_over(place) == []


@pytest.mark.slow
def test_a_killed_profile_goes_on(forks, place):
    profile = (
        "profile", "--target", TARGET, "--out", "mine.json", "--model", "test_resnet", "--img-size", 32,
        "--runtime", "onnxruntime", "--threads", 1, "--rounds", 3, "--seconds", 0.01, "--max-spread", 99,
    )  # fmt: skip
    whole = forks.run(*profile)
    assert whole.code == 0, whole.output
    (place / "mine.json").unlink()
    for start in ("os.rename mine.work/.test_resnet", "os.rename mine.work/.measured", "os.rename .mine.draft"):
        assert forks.run(*profile, kill_at=number_of(whole.events, start, "")).killed
        again = forks.run(*profile)
        assert again.code == 0, again.output
        assert [path.name for path in place.iterdir()] == ["mine.json"]
        (place / "mine.json").unlink()
