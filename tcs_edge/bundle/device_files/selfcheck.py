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
import types
from datetime import datetime, timezone
from importlib.util import spec_from_loader
from pathlib import Path

HERE = Path(__file__).resolve().parent
SUMS, RESULT = "SHA256SUMS", "selfcheck.json"
CLASSES = "classes.json"  # of add_class.py
SUMS_LINE = re.compile(r"([0-9a-f]{64})  ([^\s/\\:][^/\\:]*)")
MOST_SUMS_BYTES = 1_000_000
PACKAGES = {"numpy": "numpy", "pillow": "PIL"}


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
    """Return True for SHA256SUMS, a result of this script or of add_class.py, and the environment that runs it."""
    if entry.name in (SUMS, RESULT, CLASSES) or (out.name == entry.name and out.resolve().parent == HERE):
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


def result(name: str, passed: bool, detail: str) -> dict:
    """Return one check as JSON."""
    return {"name": name, "passed": bool(passed), "detail": plain(detail)}


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
            checks += model_checks(folder, threads, seconds, rows)
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


def model_checks(folder: Path, threads: "int | None", seconds: float, rows: list) -> list:
    """Import the checked modules, compare the model with the golden answers, and append the latency to `rows`."""
    modules = CheckedModules(folder)
    sys.meta_path.insert(0, modules)
    try:
        from edge_checks import check_model

        return [result(*found) for found in check_model(folder, threads, seconds, rows)]
    finally:
        sys.meta_path.remove(modules)


class CheckedModules:
    """Import the modules edge_* from the bytes that have the listed hash, and never from `__pycache__`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        """Return the spec of a module of the bundle; None for others."""
        return spec_from_loader(name, self) if name.startswith("edge_") else None

    def create_module(self, spec: object) -> None:
        """Leave the creation to Python."""

    def exec_module(self, module: types.ModuleType) -> None:
        """Run a module.

        Raises:
            ValueError: it changed since it was checked, or is not listed.
        """
        path = self._folder / f"{module.__name__}.py"
        source = path.read_bytes()
        if hashlib.sha256(source).hexdigest() != listed_hashes(self._folder).get(path.name):
            raise ValueError(f"{path.name} changed during the check")
        module.__file__ = str(path)
        exec(compile(source, module.__file__, "exec"), module.__dict__)


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
