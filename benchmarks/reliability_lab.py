"""Small jobs of tcs-edge in a folder of their own, and the verdict on what a disturbance left of each.

A job is one command and the folder entries that it makes. The lab runs it undisturbed first, and keeps the bytes that
the result must have. After a disturbance it runs the commands that the messages of tcs-edge name, and compares.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tcs_edge.utils.files import is_draft

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "siege"))
from kill_at import Forks, Outcome

COLORS = {"blue": (40, 80, 200), "green": (50, 190, 70), "red": (210, 60, 40)}
COUNTS = {"train": 6, "val": 4, "test": 6}
WEIGHTS = ("checkpoints/deployed.safetensors", "export/model.onnx", "export/openvino/model.bin")
SAME, REFUSED, LOST, WRONG, CRASH = "same", "refused", "lost", "wrong", "traceback"
REFUSALS = {1, 2, 3, 4}  # documented exit codes of tcs_edge.errors
STOPS = {129, 130, 143}
WORK = "work"  # everything that jobs write

COMPRESS = (
    "compress", "--target", "raspberrypi4", "--data", "photos", "--teacher", "timm/test_vit", "--teacher-weights",
    "teacher.safetensors", "--teacher-img-size", 64, "--student", "test_resnet", "--student-init", "random",
    "--img-size", 32, "--epochs", 3, "--batch-size", 6, "--lr", 1e-2, "--device", "cpu", "--threads", 1,
    "--workers", 0, "--cache-dir", "work/cache", "--out", "work/run",
)  # fmt: skip
BENCH = (
    "bench", "--data", "photos", "--methods", "ce", "--seeds", 1, "--budget", "2-epochs", "--student", "test_resnet",
    "--student-init", "random", "--img-size", 32, "--threads", 1, "--workers", 0, "--device", "cpu",
    "--out", "work/bench",
)  # fmt: skip
PROFILE = (
    "profile", "--target", "x86-avx2", "--out", "work/mine.json", "--model", "test_resnet", "--img-size", 32,
    "--runtime", "onnxruntime", "--threads", 1, "--rounds", 3, "--seconds", 0.01, "--max-spread", 99,
)  # fmt: skip
BUNDLE = ("bundle", "finished", "--out", "work/b", "--runtime", "onnxruntime", "--overwrite")


@dataclass(frozen=True)
class Result:
    """Verdict on one try, and its reason or its last message."""

    verdict: str
    detail: str = ""


@dataclass(frozen=True)
class Job:
    """One command.

    Args:
        state: everything in the folder that must equal the undisturbed result.
        go_on: run the commands that the messages name after an interruption; return their outcomes.
        given: entries that exist before the command: name in the working folder -> entry of the lab to copy.
    """

    name: str
    command: tuple[object, ...]
    state: Callable[[Path], object]
    go_on: Callable[[Lab, Job], list[Outcome]]
    given: tuple[tuple[str, str], ...] = ()


@dataclass
class Lab:
    """The folder of all jobs, with a server that runs commands in forks."""

    folder: Path
    forks: Forks
    closing: ExitStack
    expected: dict[str, object] = field(default_factory=dict)
    whole: dict[str, Outcome] = field(default_factory=dict)
    others: dict[str, Forks] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        return self.folder / WORK

    def run(self, *arguments: object, **how: Any) -> Outcome:
        return self.forks.run(*arguments, **how)

    def other(self, name: str, **variables: str) -> Forks:
        """Return another server, started at its first use."""
        if name not in self.others:
            self.others[name] = self.closing.enter_context(Forks(self.folder, **variables))
            self.others[name].run("targets")
        return self.others[name]

    def fresh(self, *arguments: object, prefix: Sequence[str] = (), **variables: str | None) -> Outcome:
        """Run a command in a process of its own, for conditions that hold from its start; None unsets a variable."""
        environment = os.environ | {"OMP_NUM_THREADS": "1"} | {k: v for k, v in variables.items() if v is not None}
        for name in (name for name, value in variables.items() if value is None):
            environment.pop(name, None)
        start = time.monotonic()
        done = subprocess.run(
            [*prefix, sys.executable, "-m", "tcs_edge", *map(str, arguments)], cwd=self.folder, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False, timeout=600,
        )  # fmt: skip
        return Outcome(done.returncode, done.stdout, (), time.monotonic() - start, False)

    def reset(self, job: Job) -> None:
        """Empty the working folder, which may be a mount point, and restore what the job starts from."""
        self.work.mkdir(exist_ok=True)
        for entry in self.work.iterdir():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        for name, source in job.given:
            copy = shutil.copytree if (self.folder / source).is_dir() else shutil.copy
            copy(self.folder / source, self.work / name)

    def learn(self, job: Job) -> Outcome:
        """Run the job undisturbed, once."""
        if job.name not in self.whole:
            if "trained" in dict(job.given).values():
                self.learn(JOBS["bench"])
            self.reset(job)
            self.copies(job).mkdir(parents=True)
            outcome = self.run(*job.command, copies=self.copies(job))
            if outcome.code:
                raise SystemExit(f"{job.name} fails undisturbed:\n{outcome.output}")
            self.whole[job.name], self.expected[job.name] = outcome, job.state(self.work)
            if job.name == "bench":
                shutil.copytree(self.work / "bench", self.folder / "trained",
                                ignore=shutil.ignore_patterns("table.*", "*.svg"))  # fmt: skip
        return self.whole[job.name]

    def copies(self, job: Job) -> Path:
        """Return the folder of copies of the working folder, as it was before each file event."""
        return self.folder.with_name(self.folder.name + "-copies") / job.name

    def restore(self, job: Job, number: str) -> None:
        """Restore the working folder as it was before a file event."""
        self.reset(replace(job, given=()))
        shutil.copytree(self.copies(job) / number, self.work, dirs_exist_ok=True)

    def judge(self, job: Job, first: Outcome, lift: Callable[[], None] = lambda: None) -> Result:
        """Judge what is left after `first`, go on, and judge the result.

        Args:
            lift: end the condition that disturbed the command.
        """
        if problem := unexpected(first):
            lift()
            return problem
        finished = first.code == 0
        if finished and job.state(self.work) != self.expected[job.name]:
            lift()
            return Result(WRONG, "the command succeeded with another result")
        lift()
        if not finished and (problem := self._passes_early(job)):
            return problem
        later = [] if self._complete(job) else job.go_on(self, job)
        for outcome in later:
            if outcome.hung or "Traceback" in outcome.output or outcome.code not in {0, *REFUSALS}:
                return Result(CRASH, f"going on: {last_line(outcome)}")
        if self._complete(job):
            if later and (left := left_over(self.work)):
                return Result(WRONG, f"left over: {', '.join(left)}")
            return Result(REFUSED if first.code in REFUSALS else SAME, last_line(first))
        final = later[-1] if later else first
        return Result(WRONG if final.code == 0 else LOST, last_line(final))

    def _complete(self, job: Job) -> bool:
        return job.state(self.work) == self.expected[job.name]

    def _passes_early(self, job: Job) -> Result | None:
        """Return a result if a run that is not whole passes the gate."""
        run = self.work / "run"
        if not (run / "manifest.json").is_file():
            return None
        gate = self.run("gate", "work/run", "--max-size-mb", 100)
        if "Traceback" in gate.output or gate.code not in (0, 1, 2):
            return Result(CRASH, f"gate: {last_line(gate)}")
        weights = weights_of(self.work) == self.expected[job.name][0]  # type: ignore[index]
        return Result(WRONG, "the gate passes other weights") if gate.code == 0 and not weights else None


def unexpected(outcome: Outcome) -> Result | None:
    """Return the result of a command that ended in none of the documented ways."""
    if outcome.hung:
        return Result(LOST, "hangs")
    if "Traceback" in outcome.output or outcome.code == 70:
        return Result(CRASH, last_line(outcome))
    if outcome.code < 0 and outcome.code not in (-9, -15, -1, -2):
        return Result(CRASH, f"signal {-outcome.code}: {last_line(outcome)}")
    errors = [line for line in outcome.output.splitlines() if line.lower().startswith("error: ")]
    if outcome.code in REFUSALS and len(errors) != 1:
        return Result(CRASH, f"{len(errors)} error lines: {last_line(outcome)}")
    if outcome.code not in REFUSALS | STOPS and outcome.code > 0:
        return Result(CRASH, f"exit code {outcome.code}: {last_line(outcome)}")
    return None


def last_line(outcome: Outcome) -> str:
    lines = [line for line in outcome.output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return f"exit {outcome.code}: {(errors or lines or ['no output'])[-1]}"


def names(folder: Path) -> frozenset[str]:
    """Return the relative names of everything in a folder, without locks and drafts."""
    found = (path for path in folder.rglob("*") if not is_draft(path.name) and not path.name.endswith("lock"))
    return frozenset(path.relative_to(folder).as_posix() for path in found)


def left_over(folder: Path) -> list[str]:
    """Return the traces of processes that ended; locks of the cache are no obstacle, but are traces as well."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*")
                  if is_draft(p.name) or p.name.endswith((".lock", ".earlier")))  # fmt: skip


def weights_of(work: Path, run: str = "run") -> list[bytes] | None:
    try:
        return [(work / run / name).read_bytes() for name in WEIGHTS]
    except OSError:
        return None


def run_state(work: Path) -> object:
    """Return weights, exports, file names, and the verdict of a run."""
    weights = weights_of(work)
    if weights is None or not (work / "run" / "manifest.json").is_file():
        return None
    verdict = json.loads((work / "run" / "manifest.json").read_text())["verdict"]
    return weights, names(work / "run"), verdict


def bundle_state(work: Path) -> object:
    root = work / "b"
    return {path.name: path.read_bytes() for path in root.iterdir()} if root.is_dir() else None


def baseline_state(work: Path) -> object:
    with suppress(OSError):
        return (work / "gate.json").read_bytes()
    return None


def profile_state(work: Path) -> object:
    """Return the measured rows without their times, and the names in the folder."""
    try:
        rows = json.loads((work / "mine.json").read_text())["rows"]
    except OSError:
        return None
    return sorted((r["model"], r["runtime"], r["img_size"], r["threads"]) for r in rows), names(work)


def bench_state(work: Path) -> object:
    """Return the results without their times, and the names in the folder."""
    results = {path.name: json.loads(path.read_text()) for path in (work / "bench").glob("ce-*.json")}
    found = {name: result["found"]["correct"] for name, result in results.items()}
    return (found, names(work / "bench")) if (work / "bench" / "table.json").is_file() else None


def go_on_run(lab: Lab, job: Job) -> list[Outcome]:
    """Resume, and do what the message of `--resume` names."""
    done = [lab.run("compress", "--resume", "work/run")]
    if "Run the same command again" in done[0].output or "no such run folder" in done[0].output:
        done.append(lab.run(*job.command))
    elif "Write it with: tcs-edge report" in done[0].output:
        done.append(lab.run("report", "work/run"))
    return done


def go_on_again(lab: Lab, job: Job) -> list[Outcome]:
    return [lab.run(*job.command)]


JOBS = {
    job.name: job
    for job in (
        Job("compress", COMPRESS, run_state, go_on_run),
        Job("bench", BENCH, bench_state, go_on_again),
        Job("bench, finished run", BENCH, bench_state, go_on_again, (("bench", "trained"),)),
        Job("profile", PROFILE, profile_state, go_on_again),
        Job("bundle", BUNDLE, bundle_state, go_on_again),
        Job("bundle over another", BUNDLE, bundle_state, go_on_again, (("b", "earlier"),)),
        Job("gate --update-baseline", ("gate", "finished", "--update-baseline", "work/gate.json"), baseline_state,
            go_on_again, (("gate.json", "earlier.json"),)),
    )
}  # fmt: skip


def make_inputs(lab: Lab) -> None:
    """Write images and a teacher with random weights; make a run, a bundle and a baseline to start from."""
    import timm
    import torch
    from safetensors.torch import save_file

    seed = 0
    for part, count in COUNTS.items():
        for name, color in COLORS.items():
            (lab.folder / "photos" / part / name).mkdir(parents=True)
            for index in range(count):
                seed += 1
                noise = np.random.default_rng(seed).normal(0, 45, (16, 16, 3))
                pixels = (np.array(color) + noise).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(lab.folder / "photos" / part / name / f"{index:02d}.png")
    torch.manual_seed(0)
    save_file(timm.create_model("test_vit", num_classes=0).state_dict(), lab.folder / "teacher.safetensors")
    (lab.folder / "teacher.safetensors").chmod(0o644)  # for the tries of another user
    lab.learn(JOBS["compress"])
    shutil.copytree(lab.work / "run", lab.folder / "finished")
    earlier = lab.run("bundle", "finished", "--out", "earlier", "--runtime", "openvino")
    assert earlier.code == 0, earlier.output
    baseline = lab.run("gate", "finished", "--update-baseline", "earlier.json")
    assert baseline.code == 0, baseline.output
    text = (lab.folder / "earlier.json").read_text()
    (lab.folder / "earlier.json").write_text(text + "\n")  # another file with the same meaning


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Callable[[str], None]]:
    """Mount a tmpfs on `folder` for the block; yield a function that mounts it again with other options."""
    folder.mkdir(exist_ok=True, parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield lambda again: subprocess.run(["mount", "-o", f"remount,{again}", folder], check=True) and None
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
