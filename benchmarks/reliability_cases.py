"""Disturbances: each case lists its tries, and each try disturbs one job and returns the verdict."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from reliability_lab import (
    JOBS,
    LOST,
    REFUSED,
    SAME,
    WRONG,
    Forks,
    Job,
    Lab,
    Outcome,
    Result,
    last_line,
    left_over,
    mounted,
    unexpected,
    weights_of,
)

COMPRESS = JOBS["compress"]
FAKETIME = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/local/lib/faketime/libfaketimeMT.so.1",
)
NOBODY = 65534
NO_ACCOUNT = 54321  # a user id without an entry in the list of users, as in many containers
STOP_SIGNALS = {"SIGTERM": signal.SIGTERM, "SIGHUP": signal.SIGHUP, "SIGINT": signal.SIGINT}
LIMIT_LEVELS = {
    "RLIMIT_NOFILE": (1, 2, 3, 4, 5, 6, 8, 12, 16, 24),
    "RLIMIT_FSIZE": (20_000, 50_000, 100_000, 300_000, 700_000, 1_000_000, 1_400_000, 1_490_000),
    "RLIMIT_AS": tuple(mb * 1_000_000 for mb in (0, 1, 3, 5, 10, 20, 30, 40, 60, 80, 100, 150, 200, 300, 500)),
}


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Args:
        tries: return the names of all tries; it may run the job undisturbed to count its events.
        attempt: disturb the job once; return the verdict.
        needs: return the reason why this system cannot run the case, or None.
    """

    name: str
    tries: Callable[[Lab], list[str]]
    attempt: Callable[[Lab, str], Result]
    needs: Callable[[], str | None] = lambda: None


def moment(case: str, number: str, seconds: float) -> float:
    """Return a moment of the try, uniform over a duration in seconds, the same in every measurement."""
    return random.Random(f"{case} {number}").uniform(0, seconds)


def counted(count: int) -> Callable[[Lab], list[str]]:
    return lambda lab: [str(number) for number in range(1, count + 1)]


def states_at_events(job: Job) -> Case:
    """Every different state of the folder before a file event: what is there after SIGKILL at that event."""

    def tries(lab: Lab) -> list[str]:
        lab.learn(job)
        return sorted((path.name for path in lab.copies(job).iterdir()), key=int)

    def attempt(lab: Lab, number: str) -> Result:
        lab.restore(job, number)
        event = f"before {lab.whole[job.name].events[int(number) - 1]}"
        result = lab.judge(job, Outcome(-signal.SIGKILL, "", (), 0.0, False))
        return replace(result, detail=f"{event}: {result.detail}")

    return Case(f"{job.name}: every state at a file event", tries, attempt)


def signals_at_moments(job: Job, name: str, number: int, count: int, twice: bool = False) -> Case:
    case = f"{job.name}: {name} at random moments"

    def attempt(lab: Lab, one: str) -> Result:
        after_s = moment(case, one, 0.9 * lab.learn(job).seconds)  # without the work for copies
        lab.reset(job)
        again = [(number, after_s + 0.2)] if twice else []
        first = lab.run(*job.command, signals=[(number, after_s), *again])
        result = lab.judge(job, first)
        seen = f" after {first.events[-1]}" if first.events else ""
        return replace(result, detail=f"{after_s:.2f} s of CPU time{seen}: {result.detail}")

    return Case(case, counted(count), attempt)


def limits(name: str) -> Case:
    case = {"RLIMIT_NOFILE": "few file handles", "RLIMIT_FSIZE": "small file size limit",
            "RLIMIT_AS": "little memory"}[name]  # fmt: skip

    def attempt(lab: Lab, level: str) -> Result:
        lab.learn(COMPRESS)
        lab.reset(COMPRESS)
        return lab.judge(COMPRESS, lab.run(*COMPRESS.command, limits={name: int(level)}))

    return Case(f"compress: {case} ({name})", lambda lab: [str(level) for level in LIMIT_LEVELS[name]], attempt)


def needs_mounts() -> str | None:
    return None if os.geteuid() == 0 and Path("/proc/self/ns/mnt").exists() else "needs root, to mount file systems"


def full_disk() -> Case:
    def attempt(lab: Lab, level: str) -> Result:
        lab.learn(COMPRESS)
        lab.reset(COMPRESS)
        used = 5_200_000  # run and cache together
        with mounted(lab.work, f"size={max(4096, int(used * (int(level) - 0.5) / 20))}") as again:
            first = lab.run(*COMPRESS.command)
            return lab.judge(COMPRESS, first, lift=lambda: again("size=1g"))

    return Case("compress: full disk, 20 fill levels (tmpfs)", counted(20), attempt, needs_mounts)


def read_only() -> Case:
    def attempt(lab: Lab, what: str) -> Result:
        lab.learn(COMPRESS)
        lab.reset(COMPRESS)
        place = {"the folder": lab.work, "the cache": lab.work / "cache", "a stopped run": lab.work}[what]
        with mounted(place, "size=1g") as again:
            if what == "a stopped run":
                lab.run(*COMPRESS.command, kill_at=len(lab.whole["compress"].events) // 2)
            again("ro")
            words = ("compress", "--resume", "work/run") if what == "a stopped run" else COMPRESS.command
            return lab.judge(COMPRESS, lab.run(*words), lift=lambda: again("rw"))

    return Case("compress: read-only folder", lambda lab: ["the folder", "the cache", "a stopped run"], attempt,
                needs_mounts)  # fmt: skip


def shared_memory() -> Case:
    workers = replace(COMPRESS, command=(*COMPRESS.command, "--workers", 2))

    def attempt(lab: Lab, options: str) -> Result:
        lab.learn(COMPRESS)
        lab.reset(COMPRESS)
        with mounted(Path("/dev/shm"), options):
            first = lab.run(*workers.command)
        return lab.judge(COMPRESS, first)

    return Case("compress: /dev/shm read-only, tiny, or small", lambda lab: ["ro", "size=64k", "size=8m"], attempt,
                needs_mounts)  # fmt: skip


def killed_worker() -> Case:
    workers = replace(COMPRESS, name="compress, workers",
                      command=(*COMPRESS.command, "--workers", 2, "--epochs", 20))  # fmt: skip

    def attempt(lab: Lab, number: str) -> Result:
        lab.learn(workers)
        lab.reset(workers)
        after_s = moment("worker", number, 0.7 * lab.whole[workers.name].seconds)
        first = lab.run(*workers.command, signals=[(signal.SIGKILL, after_s)], victim="child")
        return lab.judge(workers, first)

    return Case("compress: a killed data worker", counted(6), attempt)


def two_at_once() -> Case:
    def attempt(lab: Lab, name: str) -> Result:
        lab.learn(COMPRESS)
        lab.reset(COMPRESS)
        what, _, _ = name.partition(" ")
        commands = [COMPRESS.command, COMPRESS.command]
        if what == "cache":
            commands[1] = (*COMPRESS.command, "--out", "work/other")
        if what == "resume":
            lab.run(*COMPRESS.command, kill_at=len(lab.whole["compress"].events) // 2)
            commands = [("compress", "--resume", "work/run")] * 2
        both = _together(lab.forks, lab.other("second"), commands)
        return _judge_two(lab, what, both)

    tries = [f"{what} {number}" for what in ("run", "resume", "cache") for number in (1, 2, 3)]
    return Case("compress: two at once on one run, on one cache", lambda lab: tries, attempt)


def _together(first: Forks, second: Forks, commands: list[tuple[object, ...]]) -> list[Outcome]:
    found: dict[int, Outcome] = {}

    def run(number: int, forks: Forks) -> None:
        found[number] = forks.run(*commands[number])

    threads = [threading.Thread(target=run, args=one) for one in enumerate((first, second))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[0], found[1]]


def _judge_two(lab: Lab, what: str, both: list[Outcome]) -> Result:
    for outcome in both:
        if problem := unexpected(outcome):
            return problem
    if sorted(outcome.code for outcome in both) != ([0, 0] if what == "cache" else [0, 2]):
        return Result(WRONG, " and ".join(map(last_line, both)))
    if what == "cache":
        if weights_of(lab.work, "other") != weights_of(lab.work):
            return Result(WRONG, "the second run has other weights")
        shutil.rmtree(lab.work / "other")
    if COMPRESS.state(lab.work) != lab.expected["compress"]:
        return Result(WRONG, "another result")
    if left := left_over(lab.work):
        return Result(WRONG, f"left over: {', '.join(left)}")
    return Result(SAME, last_line(max(both, key=lambda outcome: outcome.code)))


def file_systems() -> Case:
    """Output, cache and temporary files on three file systems; a run folder that is a mount point."""

    def attempt(lab: Lab, what: str) -> Result:
        lab.learn(COMPRESS)
        lab.reset(COMPRESS)
        with ExitStack() as stack:
            stack.enter_context(mounted(lab.work, "size=1g"))
            stack.enter_context(mounted(lab.work / "cache", "size=1g"))
            temporary = lab.folder / "tmp"
            stack.enter_context(mounted(temporary, "size=1g"))
            if what == "three file systems":
                return lab.judge(COMPRESS, lab.fresh(*COMPRESS.command, TMPDIR=str(temporary)))
            if what == "a bundle in a mount point":
                return _bundle_in_mount(lab)
            stack.enter_context(mounted(lab.work / "run", "size=1g"))
            first = lab.run(*COMPRESS.command)
            if what == "a mount point as run, overwritten" and not first.code:
                first = lab.run(*COMPRESS.command, "--overwrite")
            return lab.judge(COMPRESS, first)

    tries = ["three file systems", "a mount point as run", "a mount point as run, overwritten",
             "a bundle in a mount point"]  # fmt: skip
    return Case("rename across file systems", lambda lab: tries, attempt, needs_mounts)


def _bundle_in_mount(lab: Lab) -> Result:
    job = JOBS["bundle over another"]
    lab.learn(job)
    bundle = lab.work / "b"
    with ExitStack() as stack:
        stack.enter_context(mounted(lab.work, "size=1g"))
        stack.enter_context(mounted(bundle, "size=1g"))
        shutil.copytree(lab.folder / "earlier", bundle, dirs_exist_ok=True)
        before = job.state(lab.work)
        first = lab.run(*job.command)
        if problem := unexpected(first):
            return problem
        after = job.state(lab.work)
    if first.code == 0:
        return Result(SAME if after == lab.expected[job.name] else WRONG, last_line(first))
    return Result(REFUSED if after == before else LOST, last_line(first))


def users() -> Case:
    def attempt(lab: Lab, what: str) -> Result:
        lab.learn(COMPRESS)
        lab.reset(COMPRESS)
        prefix, command = as_user(NOBODY), COMPRESS.command
        lab.work.chmod(0o755)
        os.chown(lab.work, NOBODY, NOBODY)
        if what == "a folder of root":
            os.chown(lab.work, 0, 0)
        if what == "a stopped run of root":
            lab.run(*COMPRESS.command, kill_at=len(lab.whole["compress"].events) // 2)
            command = ("compress", "--resume", "work/run")
        first = lab.fresh(*command, prefix=prefix, HOME="/nonexistent", TMPDIR="/tmp")
        return lab.judge(COMPRESS, first, lift=lambda: os.chown(lab.work, 0, 0))

    tries = ["an own folder", "a folder of root", "a stopped run of root"]
    return Case("compress: a user without root's rights", lambda lab: tries, attempt, needs_mounts)


def as_user(number: int) -> list[str]:
    """Return a command prefix that drops the rights of root."""
    return ["setpriv", f"--reuid={number}", f"--regid={number}", "--clear-groups"]


def no_home() -> Case:
    """Without --cache-dir, so that the default place is used."""
    at = COMPRESS.command.index("--cache-dir")
    command = (*COMPRESS.command[:at], *COMPRESS.command[at + 2 :])
    job = replace(COMPRESS, name="compress, default cache", command=command)

    homes = {
        "HOME is not set": (None, 0),
        "HOME is not set, no account": (None, NO_ACCOUNT),
        "HOME does not exist": ("/nonexistent/home", NOBODY),
        "HOME is a file": ("teacher.safetensors", NOBODY),
    }

    def attempt(lab: Lab, what: str) -> Result:
        lab.learn(COMPRESS)
        lab.reset(COMPRESS)
        unset: dict[str, str | None] = {"XDG_CACHE_HOME": None, "TCS_EDGE_CACHE": None}
        lab.work.chmod(0o777)
        home, user = homes[what]
        home = str(lab.folder / home) if home == "teacher.safetensors" else home
        first = lab.fresh(*job.command, prefix=as_user(user) if user else [], HOME=home, **unset)
        return lab.judge(COMPRESS, first)

    return Case("compress: no home folder", lambda lab: list(homes), attempt, needs_mounts)


def clock() -> Case:
    library = next((path for path in (os.environ.get("TCS_EDGE_FAKETIME", ""), *FAKETIME) if Path(path).is_file()), "")
    jumps = ["-3d", "+400d", "-20y", "+15y", "-1h", "+1h"]

    def attempt(lab: Lab, jump: str) -> Result:
        lab.learn(COMPRESS)
        lab.reset(COMPRESS)
        setting = lab.folder / "faketime"
        setting.write_text("+0")
        fake = {"LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": str(setting), "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}  # fmt: skip
        server = lab.other("clock", **fake)
        after_s = moment("clock", jump, lab.whole["compress"].seconds)
        timer = threading.Timer(after_s, setting.write_text, (jump,))
        timer.start()
        first = server.run(*COMPRESS.command)
        timer.join()
        result = lab.judge(COMPRESS, first)
        return replace(result, detail=f"{jump} after {after_s:.2f} s: {result.detail}")

    return Case("compress: the clock jumps (libfaketime)", lambda lab: jumps, attempt,
                lambda: None if library else "needs libfaketime")  # fmt: skip


CASES: tuple[Case, ...] = (
    states_at_events(COMPRESS),
    states_at_events(JOBS["bundle"]),
    states_at_events(JOBS["bundle over another"]),
    states_at_events(JOBS["gate --update-baseline"]),
    *(signals_at_moments(COMPRESS, name, number, 10) for name, number in STOP_SIGNALS.items()),
    full_disk(),
    *(limits(name) for name in LIMIT_LEVELS),
    read_only(),
    shared_memory(),
    killed_worker(),
    two_at_once(),
    file_systems(),
    users(),
    no_home(),
    clock(),
    states_at_events(JOBS["profile"]),
    signals_at_moments(COMPRESS, "SIGTERM twice", signal.SIGTERM, 10, twice=True),
    signals_at_moments(COMPRESS, "SIGKILL", signal.SIGKILL, 100),
    states_at_events(JOBS["bench, finished run"]),
    signals_at_moments(JOBS["bench"], "SIGKILL", signal.SIGKILL, 10),
)
