#!/usr/bin/env python3
"""Check on this device that the model equals the validated one, and measure its latency.

    python3 -I selfcheck.py [--threads N] [--seconds S] [--out selfcheck.json]

Checks every file's sha256, the preprocessing of the golden images and the logits of the golden inputs, then
measures the latency of one image. Exits 0 if all checks pass, otherwise 1. Writes the results as JSON.

Nothing of this folder is imported or opened before its hash is checked, and nothing that SHA256SUMS does not list. The
option -I of Python also leaves out PYTHONPATH.
"""

# Until this folder is out of the import path, only built-in modules may be imported: `from __future__` opens a file.
import sys

if __name__ == "__main__":
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        del sys.path[:1]
    import os.path

    folder = os.path.dirname(os.path.realpath(__file__))  # noqa: PTH120
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != folder]

import argparse
import hashlib
import json
import math
import os
import platform
import re
import stat
import tempfile
import time
import types
from datetime import datetime, timezone
from pathlib import Path

HERE = Path(__file__).resolve().parent
SUMS, RESULT = "SHA256SUMS", "selfcheck.json"
SUMS_LINE = re.compile(r"([0-9a-f]{64})  ([^\s/\\:][^/\\:]*)")
MOST_SUMS_BYTES = 1_000_000
PACKAGES = {"numpy": "numpy", "pillow": "PIL"}
MAX_PIXEL_DIFF = 1e-5  # of a normalized pixel, far below one gray level (about 0.02)
# Most that bundle.json may allow the logits, as a share of the largest, by arithmetic.
MAX_REL_DIFF = {"f32": 1e-4, "f16-weights": 2e-2, "f16": 2e-2, "bf16": 1e-1, "int8": 1.0}
REPETITIONS = 5
WARM_UP_SECONDS = 1.0
FEWEST_RUNS = 20  # per repetition, also on slow devices


class NotListed(Exception):
    """A file of the folder differs from SHA256SUMS, or that file cannot be used."""


def listed_hashes(folder: Path) -> dict:
    """Return the sha256 by file name of SHA256SUMS, which may name only files in the folder itself.

    Raises:
        NotListed: the file is missing, not a regular file, or has a line that is not `HASH  NAME`.
    """
    path = folder / SUMS
    if not is_plain_file(path) or path.lstat().st_size > MOST_SUMS_BYTES:
        raise NotListed(f"{SUMS} is missing, or not a regular file")
    hashes = {}
    for number, line in enumerate(path.read_bytes().decode("utf-8", "replace").splitlines(), 1):
        found = SUMS_LINE.fullmatch(line)
        if not found or found[2] in (".", "..", SUMS) or found[2] in hashes:
            raise NotListed(f"{SUMS} is damaged: line {number} is not the hash and the name of a file in this folder")
        hashes[found[2]] = found[1]
    if not hashes:
        raise NotListed(f"{SUMS} is empty")
    return hashes


def check_files(folder: Path, out: Path) -> dict:
    """Check that the folder has the files of SHA256SUMS with their hashes, and no others.

    Args:
        out: the result of an earlier self-check, which may be in the folder.
    """
    try:
        hashes = listed_hashes(folder)
        wrong = [name for name in hashes if sha256(folder / name) != hashes[name]]
        others = [entry.name for entry in folder.iterdir() if entry.name not in hashes and not is_allowed(entry, out)]
    except (NotListed, OSError) as error:
        return result("files", False, f"{error}. Copy the bundle again")
    details = [f"changed or missing: {named(wrong)}"] if wrong else []
    details += [f"not in {SUMS}: {named(others)}. Move them out of this folder"] if others else []
    return result("files", not details, "; ".join(details))


def is_allowed(entry: Path, out: Path) -> bool:
    """Return True for SHA256SUMS, a result of this script, and the virtual environment that runs it."""
    if entry.name in (SUMS, RESULT) or (out.name == entry.name and out.resolve().parent == HERE):
        return is_plain_file(entry)
    environment = Path(sys.prefix).resolve()
    return sys.prefix != sys.base_prefix and not entry.is_symlink() and entry in (environment, *environment.parents)


def is_plain_file(path: Path) -> bool:
    """Return True for a regular file that is not a link."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (OSError, ValueError):
        return False


def sha256(path: Path) -> "str | None":
    """Return the hash of a regular file; None for anything else."""
    if not is_plain_file(path):
        return None
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def named(names: list) -> str:
    """Join file names for a message, at most ten."""
    return ", ".join(map(plain, sorted(names)[:10])) + (", ..." if len(names) > 10 else "")


def plain(text: object) -> str:
    """Return text in one line, with control characters escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(str(text).split()))


def check_preprocessing(predict: types.ModuleType, golden: dict, steps: dict) -> dict:
    """Check that preprocessing turns the golden images into the golden inputs."""
    import numpy as np
    from PIL import Image

    worst = 0.0
    for row, expected in enumerate(golden["inputs"]):
        made = predict.preprocess(Image.fromarray(golden[f"image_{row:03d}"]), steps)
        if made.shape != expected.shape:
            return result("preprocessing", False, f"inputs have shape {made.shape}, expected {expected.shape}")
        worst = max(worst, float(np.abs(made - expected).max()))
    return result("preprocessing", worst <= MAX_PIXEL_DIFF, f"largest difference {worst:.2g}, allowed {MAX_PIXEL_DIFF}")


def check_outputs(expected, logits, limit: float) -> dict:
    """Check logits (N, classes) against the golden ones; a class may change only if rounding can explain it."""
    import numpy as np

    if logits.shape != expected.shape or not np.isfinite(logits).all():
        return result("outputs", False, f"shape {logits.shape}, or a logit is NaN or Inf")
    scale = float(np.abs(expected).max())
    difference = float(np.abs(logits - expected).max()) / scale if scale else float(np.abs(logits).max())
    rows, before, after = np.arange(len(expected)), expected.argmax(axis=1), logits.argmax(axis=1)
    margin = float((expected[rows, before] - expected[rows, after]).max())
    passed = difference <= limit and margin <= 2 * limit * scale
    flips = int((before != after).sum())
    return result("outputs", passed, f"largest difference {difference:.2g}, allowed {limit:g}; {flips} classes changed")


def result(name: str, passed: bool, detail: str) -> dict:
    """Return one check as JSON."""
    return {"name": name, "passed": bool(passed), "detail": plain(detail)}


def measure(run, seconds: float) -> dict:
    """Measure `run()` in ms: percentiles over all calls, and the lowest and highest median of a repetition."""
    import numpy as np

    repeat(run, WARM_UP_SECONDS, 3)
    parts = [repeat(run, seconds / REPETITIONS, FEWEST_RUNS) for _ in range(REPETITIONS)]
    every, medians = np.concatenate(parts), [float(np.median(part)) for part in parts]
    p50, p90, p99 = (float(np.percentile(every, share)) for share in (50, 90, 99))
    return {
        "p50_ms": p50, "p90_ms": p90, "p99_ms": p99,
        "low_ms": min(*medians, p50), "high_ms": max(*medians, p50), "runs": len(every),
    }  # fmt: skip


def repeat(run, seconds: float, fewest: int) -> list:
    """Return the milliseconds of each call, for `seconds` and at least `fewest` calls."""
    times, end = [], time.perf_counter() + seconds
    while len(times) < fewest or time.perf_counter() < end:
        started = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - started))
    return times


def process_peak_memory_mb() -> "float | None":
    """Return the peak memory of this process in 10^6 bytes; None if the system does not report it."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def describe_machine() -> dict:
    """Describe this device, with the versions of the packages that the checks loaded."""
    loaded = {name: getattr(sys.modules.get(package), "__version__", None) for name, package in PACKAGES.items()}
    return {
        "device": device_name(), "architecture": platform.machine(), "system": platform.platform(),
        "cores": os.cpu_count(), "python": platform.python_version(), **loaded,
    }  # fmt: skip


def device_name() -> str:
    """Return the system's name of the board or the processor."""
    board = Path("/proc/device-tree/model")
    if board.is_file():
        return board.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    processor = Path("/proc/cpuinfo")
    for line in processor.read_text(encoding="utf-8").splitlines() if processor.is_file() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def examine(folder: Path, threads: "int | None", seconds: float, out: Path) -> dict:
    """Run the whole self-check; return one JSON document."""
    checks, rows, about = [check_files(folder, out)], [], {}
    # Changed files are not loaded, because they are untrusted.
    if checks[0]["passed"]:
        try:
            about = described(folder)
            checks += check_model(folder, threads, seconds, rows)
        except ImportError as error:
            checks.append(result("runs", False, f"{error}. Run: python3 -m pip install -r requirements.txt"))
        except Exception as error:  # any exception of a runtime is a failed check
            checks.append(result("runs", False, f"{type(error).__name__}: {error}"))
    return {
        "schema_version": 1,
        "kind": "tcs-edge selfcheck",
        "verdict": "pass" if all(check["passed"] for check in checks) else "fail",
        "measured": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "target": about.get("target"),
        "model_sha256": about.get("model_sha256", []),
        "machine": describe_machine(),
        "checks": checks,
        "rows": rows,
    }


def described(folder: Path) -> dict:
    """Return bundle.json, after a check that it describes the model in this folder.

    Raises:
        ValueError: not JSON, or the model's hashes are not in SHA256SUMS.
    """
    hashes = listed_hashes(folder)
    about = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    stated = about["model_sha256"]
    if not set(stated) <= set(hashes.values()) or hashes.get(about["model"]) not in stated:
        raise ValueError("bundle.json describes another model than the one in this folder")
    return about


def check_model(folder: Path, threads: "int | None", seconds: float, rows: list) -> list:
    """Check preprocessing and outputs against the golden ones, and append the measured latency to `rows`."""
    import numpy as np

    predict = checked_module(folder, "predict.py")
    classifier = predict.Classifier(folder, threads)
    with np.load(folder / "golden.npz", allow_pickle=False) as stored:
        golden = dict(stored)
    arithmetic = golden_arithmetic(classifier)
    limit = classifier.about["max_rel_diff"][arithmetic]
    if not 0 < limit <= MAX_REL_DIFF[arithmetic]:
        raise ValueError(f"bundle.json allows a difference of {limit:g}, more than {MAX_REL_DIFF[arithmetic]:g}")
    logits = classifier.logits(golden["inputs"])
    if logits.shape[1:] != (len(classifier.labels),):
        raise ValueError(f"the model has {logits.shape[1]} classes, labels.txt has {len(classifier.labels)}")
    checks = [
        check_preprocessing(predict, golden, classifier.steps),
        check_outputs(golden["logits"], logits, limit),
    ]
    rows.append(latency_row(classifier, golden["inputs"][:1], seconds))
    return checks


def checked_module(folder: Path, name: str) -> types.ModuleType:
    """Import a script from the bytes that have the listed hash, and never from `__pycache__`.

    Raises:
        ValueError: the script changed since it was checked.
    """
    source = (folder / name).read_bytes()
    if hashlib.sha256(source).hexdigest() != listed_hashes(folder).get(name):
        raise ValueError(f"{name} changed during the check")
    module = types.ModuleType(Path(name).stem)
    module.__file__ = str(folder / name)
    exec(compile(source, module.__file__, "exec"), module.__dict__)
    return module


def golden_arithmetic(classifier) -> str:
    """Return the arithmetic that sets the limit of the logits; int8 kernels differ between processors."""
    return "int8" if classifier.about["precision"] == "int8" else classifier.arithmetic


def latency_row(classifier, image, seconds: float) -> dict:
    """Measure the latency of one input (1, 3, S, S); return a row in the format of a latency profile."""
    about = classifier.about
    return {
        "model": about["student"], "img_size": about["img_size"], "batch": 1,
        "runtime": about["runtime"], "runtime_version": classifier.runtime_version,
        "threads": classifier.threads, "precision": about["precision"], "arithmetic": classifier.arithmetic,
        **measure(lambda: classifier.logits(image), seconds),
        "process_peak_memory_mb": process_peak_memory_mb(), "source": "measured",
    }  # fmt: skip


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all; a link at `path` is replaced, not followed."""
    descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(text)
        Path(draft).chmod(0o644)
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink()
        raise


def positive(kind: type):
    """Return a converter for the text of an option to a finite number of type `kind` above 0."""

    def convert(text: str):
        number = kind(text)
        if not 0 < number < math.inf:
            raise ValueError
        return number

    convert.__name__ = "positive number"
    return convert


def main() -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        description="Check the model in this folder on this device, and measure its latency."
    )
    parser.add_argument("--threads", type=positive(int), help="default: the target's number of threads")
    parser.add_argument("--seconds", type=positive(float), default=10.0, help="duration of the latency measurement")
    parser.add_argument("--out", type=Path, default=Path(RESULT), help="path of the JSON file")
    arguments = parser.parse_args()
    for stream in (sys.stdout, sys.stderr):  # messages may have characters that a pipe's encoding lacks
        stream.reconfigure(errors="backslashreplace")
    document = examine(HERE, arguments.threads, arguments.seconds, arguments.out)
    for check in document["checks"]:
        print(f"{'ok    ' if check['passed'] else 'FAILED'} {check['name']}  {check['detail']}")
    for row in document["rows"]:
        print(
            f"latency p50 {row['p50_ms']:.2f} ms, p90 {row['p90_ms']:.2f} ms, p99 {row['p99_ms']:.2f} ms "
            f"({row['threads']} threads, {row['runtime']} {row['runtime_version']}, {row['runs']} runs)"
        )
    print(f"verdict: {document['verdict']}")
    try:
        write_whole(arguments.out, json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    except (OSError, ValueError) as error:
        print(f"error: cannot write {arguments.out}: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
        return 1
    print(f"result: {arguments.out}")
    return 0 if document["verdict"] == "pass" else 1


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
