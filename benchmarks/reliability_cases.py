"""Disturbances: each case lists its tries, and each try disturbs one job and returns the verdict."""

from __future__ import annotations

import shutil
import signal
import threading
from dataclasses import replace
from pathlib import Path

from reliability_case import Case, counted, moment, needs_mounts
from reliability_lab import (
    JOBS,
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
from reliability_places import clock, file_systems, no_home, users

COMPRESS = JOBS["compress"]
STOP_SIGNALS = {"SIGTERM": signal.SIGTERM, "SIGHUP": signal.SIGHUP, "SIGINT": signal.SIGINT}
LIMIT_LEVELS = {
    "RLIMIT_NOFILE": (1, 2, 3, 4, 5, 6, 8, 12, 16, 24),
    "RLIMIT_FSIZE": (20_000, 50_000, 100_000, 300_000, 700_000, 1_000_000, 1_400_000, 1_490_000),
    "RLIMIT_AS": tuple(mb * 1_000_000 for mb in (0, 1, 3, 5, 10, 20, 30, 40, 60, 80, 100, 150, 200, 300, 500)),
}


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
        while True:
            lab.reset(job)
            signals = [(number, after_s), (number, after_s + 0.2)] if twice else [(number, after_s)]
            first = lab.run(*job.command, signals=signals)
            if first.unsent < len(signals):
                break
            after_s *= 0.8  # the command was faster than usual
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
