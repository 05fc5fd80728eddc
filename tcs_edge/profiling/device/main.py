"""Run the command line of a profiler bundle: measure its models on this device and write JSON."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

from .graphs import OPENERS, Key, UnusableRuntime
from .machine import describe_machine
from .results import profile_document, refusals, shown
from .rounds import Plan
from .session import OtherMeasurement, measure
from .telemetry import switch_off_telemetry

BUNDLE_FILE = "bundle.json"
MODELS = "models"
LINES = 20
LOCK_FILE = ".lock"
WAIT_SECONDS = 60.0  # until a process whose connection was closed notices it, as it prints its progress
RUNS_ALREADY = 3  # exit code: another process measures this bundle


class RunsAlready(Exception):
    """Another process measures this bundle, as one that outlived its connection does."""


def main(root: Path, arguments: list[str] | None = None) -> int:
    """Measure the bundle in `root`.

    Returns:
        0; 1 if a latency was not recorded; 2 for wrong usage or a full disk; 3 if another process measures it.
    """
    switch_off_telemetry()
    try:
        bundle = read_bundle(root)
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        return _fail(f"{BUNDLE_FILE} is damaged: {type(error).__name__}. Copy the bundle again.")
    options = _options(bundle, arguments)
    damaged = damaged_files(root, bundle)
    if damaged:
        return _fail(f"{damaged[0]} differs from the bundled file ({len(damaged)} such files). Copy the bundle again.")
    keys = [
        Key(graph["model"], graph["img_size"], runtime, threads, _as_deployed(bundle, runtime, graph["precision"]))
        for graph, runtime, threads in product(bundle["graphs"], options.runtime, options.threads)
    ]
    plan = Plan(options.rounds, options.seconds, options.max_spread, options.retries)
    work = root / "work"
    try:
        with _alone(work):
            state = measure(keys, lambda key: root / MODELS / key.graph_name, plan, work, _say, _track)
            machine = describe_machine(options.runtime)
            document = profile_document(bundle["target"], keys, state, plan, machine, options.date.isoformat())
            return _finish(document, refusals(keys, state, plan), options.out, bundle["merge"])
    except RunsAlready:
        return _fail(f"another process measures {root}. Wait until it ends, then start again.", RUNS_ALREADY)
    except OtherMeasurement as error:
        return _fail(f"{error}. Delete that folder and start again.")
    except UnusableRuntime as error:
        return _fail(str(error))
    except OSError as error:  # such as a full disk
        return _fail(f"{error.strerror or error}: {error.filename or root}. Make room there, and start again.")


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Own `work` for the block; two processes at once would slow each other down. Windows has no such lock.

    Raises:
        RunsAlready: another process owns it.
    """
    if sys.platform == "win32":
        yield
        return
    work.mkdir(parents=True, exist_ok=True)
    with (work / LOCK_FILE).open("w") as handle:
        end = time.monotonic() + WAIT_SECONDS
        while not _locked(handle.fileno()):
            if time.monotonic() > end:
                raise RunsAlready
            time.sleep(0.2)
        yield


def _locked(file: int) -> bool:
    """Lock an open file; return False if another process has it, and True on a file system without locks."""
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def read_bundle(root: Path) -> dict[str, Any]:
    """Read the description of the bundle.

    Raises:
        OSError, ValueError, RecursionError, KeyError, TypeError: it is missing or damaged.
    """
    bundle = json.loads((root / BUNDLE_FILE).read_text(encoding="utf-8"))
    texts = [bundle["target"], bundle["merge"]]
    numbers = list(bundle["threads"])
    for graph in bundle["graphs"]:
        texts += [graph["model"], graph["precision"], graph["file"], graph["sha256"]]
        numbers.append(graph["img_size"])
        if Path(graph["file"]).name != graph["file"]:
            raise ValueError("a model outside of the bundle")
    if not all(isinstance(text, str) for text in texts) or not all(type(number) is int for number in numbers):
        raise TypeError("a value of another type")
    return dict(bundle)


def _as_deployed(bundle: dict[str, Any], runtime: str, precision: str) -> str:
    """Return the precision in which `runtime` computes a graph by default on the target."""
    return str(bundle.get("float_precision", {}).get(runtime, precision)) if precision == "fp32" else precision


def damaged_files(root: Path, bundle: dict[str, Any]) -> list[str]:
    """Return the names of models that are missing or differ from the bundle's sha256."""
    return [
        graph["file"]
        for graph in bundle["graphs"]
        if not (root / MODELS / graph["file"]).is_file()
        or hashlib.sha256((root / MODELS / graph["file"]).read_bytes()).hexdigest() != graph["sha256"]
    ]


def _options(bundle: dict[str, Any], arguments: list[str] | None) -> argparse.Namespace:
    default = Plan()
    parser = argparse.ArgumentParser(description="Measure the models of this bundle on this device.")
    parser.add_argument("--out", type=Path, default=Path("result.json"), help="path of the result")
    parser.add_argument("--threads", type=int, nargs="+", default=bundle["threads"])
    parser.add_argument("--runtime", nargs="+", default=["onnxruntime"], choices=list(OPENERS))
    parser.add_argument("--rounds", type=int, default=default.rounds, help="visits to each model, at least 3")
    parser.add_argument("--seconds", type=float, default=default.seconds, help="length of one visit")
    parser.add_argument(
        "--max-spread", type=float, default=default.max_spread, help="allowed relative difference between rounds"
    )
    parser.add_argument("--retries", type=int, default=default.retries, help="repetitions for a noisy model")
    today = "date of the measurement, for a device with a wrong clock"
    parser.add_argument("--date", type=date.fromisoformat, default=date.today(), help=today)
    options = parser.parse_args(arguments)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if min(options.threads) < 1 or max(options.threads) > cores:
        parser.error(f"--threads must be between 1 and the {cores} cores that this process may use")
    if options.rounds < 3 or options.seconds <= 0 or options.max_spread <= 0 or options.retries < 0:
        parser.error("--rounds must be at least 3, --seconds and --max-spread positive, --retries not negative")
    return options


def _finish(document: dict[str, Any], refused: list[str], out: Path, merge: str) -> int:
    for line in shown(refused):
        _say(f"warning: {line}")
    if not document["rows"]:
        return _fail("no latency was recorded. Against noise, stop other work on the device or raise --max-spread.", 1)
    draft = out.with_name(f".{out.name}.draft")
    draft.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    draft.replace(out)
    _say(
        f"latencies: {len(document['rows'])}, written to {out}\n"
        f"next, on the computer: {merge.replace('result.json', out.name)}"
    )
    return 1 if refused else 0


def _track(items: Iterable[Any], description: str, total: int) -> Iterator[Any]:
    """Pass items through and print the progress from time to time."""
    for done, item in enumerate(items, start=1):
        yield item
        if done % max(1, total // LINES) == 0:
            _say(f"{description}: {done} of {total}")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _fail(text: str, code: int = 2) -> int:
    _say(f"error: {text}")
    return code
