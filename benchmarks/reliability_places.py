"""Cases of the system around a run: file systems, users, home folders, and the clock."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from reliability_case import Case, moment, needs_mounts
from reliability_lab import JOBS, LOST, REFUSED, SAME, WRONG, Lab, Result, last_line, mounted, unexpected

COMPRESS = JOBS["compress"]
FAKETIME = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/local/lib/faketime/libfaketimeMT.so.1",
)
# libfaketime that leaves the monotonic clock alone refuses to sleep by it, so sleep goes to the system directly.
SLEEP = """
#define _GNU_SOURCE
#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_nanosleep(clockid_t clock, int flags, const struct timespec *wanted, struct timespec *left)
{
    return syscall(SYS_clock_nanosleep, clock, flags, wanted, left) ? errno : 0;
}
"""
NOBODY = 65534
NO_ACCOUNT = 54321  # a user id without an entry in the list of users, as in many containers


def file_systems() -> Case:
    """Output, cache and temporary files on three file systems; a run folder that is a mount point."""

    def attempt(lab: Lab, what: str) -> Result:
        if what == "a bundle in a mount point":
            return _bundle_in_mount(lab)
        lab.learn(COMPRESS)
        lab.reset(COMPRESS)
        with ExitStack() as stack:
            stack.enter_context(mounted(lab.work, "size=1g"))
            stack.enter_context(mounted(lab.work / "cache", "size=1g"))
            temporary = lab.folder / "tmp"
            stack.enter_context(mounted(temporary, "size=1g"))
            if what == "three file systems":
                return lab.judge(COMPRESS, lab.fresh(*COMPRESS.command, TMPDIR=str(temporary)))
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
    lab.reset(job)
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
        "HOME is not set, no account, TCS_EDGE_CACHE": (None, NO_ACCOUNT),
        "HOME does not exist": ("/nonexistent/home", NOBODY),
        "HOME is a file": ("teacher.safetensors", NOBODY),
    }

    def attempt(lab: Lab, what: str) -> Result:
        lab.learn(COMPRESS)
        lab.reset(COMPRESS)
        cache = str(lab.work / "cache") if what.endswith("TCS_EDGE_CACHE") else None
        lab.work.chmod(0o777)
        home, user = homes[what]
        home = str(lab.folder / home) if home == "teacher.safetensors" else home
        variables = {"HOME": home, "XDG_CACHE_HOME": None, "TCS_EDGE_CACHE": cache}
        first = lab.fresh(*job.command, prefix=as_user(user) if user else [], **variables)
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
        fake = {"LD_PRELOAD": f"{_sleep_library(lab.folder)} {library}", "FAKETIME_TIMESTAMP_FILE": str(setting),
                "FAKETIME_CACHE_DURATION": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "DONT_FAKE_MONOTONIC": "1"}  # fmt: skip
        server = lab.other("clock", **fake)
        after_s = moment("clock", jump, lab.whole["compress"].seconds)
        timer = threading.Timer(after_s, setting.write_text, (jump,))
        timer.start()
        first = server.run(*COMPRESS.command)
        timer.join()
        result = lab.judge(COMPRESS, first)
        return replace(result, detail=f"{jump} after {after_s:.2f} s: {result.detail}")

    return Case("compress: the clock jumps (libfaketime)", lambda lab: jumps, attempt,
                lambda: None if library and shutil.which("cc") else "needs libfaketime and a C compiler")  # fmt: skip


def _sleep_library(folder: Path) -> Path:
    source, library = folder / "sleep.c", folder / "sleep.so"
    if not library.exists():
        source.write_text(SLEEP)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    return library
