"""Run the inputs of one reader in this process: with atheris, or with changes that new messages guide."""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import signal
import struct
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

from mutate import MAX_BYTES, mutate
from readers import Reader, corpus, seeded

MOST_SECONDS = 10.0  # of CPU time for one input
MOST_MEMORY = 3 * 2**30  # bytes beside what the process had at the start
MOST_MESSAGE = 2000  # characters of an error
MOST_POOL = 3000
SHOWN = 160
HEAD = struct.Struct("<QQQ")


class TooSlow(BaseException):
    """An input took more than `MOST_SECONDS`."""


class Session:
    """Counts and findings of one fork.

    Args:
        folder: for the files of the reader, and for the input at work, which the parent reads after a crash.
        findings: folder for the inputs of uncaught errors.
    """

    def __init__(self, reader: Reader, folder: Path, kept: Path, findings: Path, runs: int) -> None:
        self.reader, self.folder, self.kept, self.runs = reader, folder, kept, runs
        self.findings = findings.absolute()
        self.result, self._place = folder / "result.json", folder / "input"
        self._place.write_bytes(HEAD.pack(0, 0, 0))
        self._handle = os.open(self._place, os.O_RDWR)
        self._found: dict[str, list[Any]] = {}
        self.inputs = self.values = 0
        self.slowest = 0.0
        self.messages: set[str] = set()

    def run(self, engine: str, seed: int, keep: Path | None) -> NoReturn:
        """Run all inputs, write the result and end the process."""
        work = self.folder / "work"
        work.mkdir()
        start = corpus(self.reader, work, self.kept)
        self._read = self.reader.make(work)
        self._expected = _expected()
        signal.signal(signal.SIGPROF, _stop)
        grown = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + MOST_MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (grown, grown))
        # Messages of libraries on hostile files; the result goes into a file.
        sink = os.open(self.folder / "stderr", os.O_WRONLY | os.O_CREAT)
        os.dup2(sink, 2)
        os.dup2(sink, 1)
        for content in start:
            self.attempt(content)
        (self._atheris if engine == "atheris" else self._mutations)(start, seed, keep)
        self.finish()

    def finish(self) -> NoReturn:
        """Write the result and end the process."""
        self.result.write_text(json.dumps(self._document()))
        os._exit(0)

    def _document(self) -> dict[str, Any]:
        return {
            "inputs": self.inputs, "values": self.values, "slowest_ms": 1e3 * self.slowest, "findings": self._found,
        }  # fmt: skip

    def attempt(self, content: bytes) -> str | None:
        """Read one input; return what came of it in words, None for a value."""
        # The parent reads this after a crash.
        os.pwrite(self._handle, HEAD.pack(self.inputs, self.values, len(content)) + content, 0)
        self.inputs += 1
        began = time.process_time()
        try:
            signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
            self._read(content)
            self.values += 1
            return None
        except self._expected as error:
            return self._outcome(error, content)
        except BaseException as error:
            return self._record(_kind(error), content)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            self.slowest = max(self.slowest, time.process_time() - began)

    def _outcome(self, error: Exception, content: bytes) -> str:
        message = str(error)
        if not message or len(message) > MOST_MESSAGE:
            where = _kind(error).rpartition(" at ")[2]
            return self._record(f"a message of none or too many characters at {where}", content)
        return f"{type(error).__name__} {re.sub(r'[0-9.]+|/[^ ]*|.[^ ]*[^ a-z,.:()][^ ]*', '#', message)[:SHOWN]}"

    def _record(self, kind: str, content: bytes) -> str:
        if kind not in self._found:
            self._found[kind] = [0, _stored(self.findings, self.reader.name, content)]
        self._found[kind][0] += 1
        return kind

    def _mutations(self, start: list[bytes], seed: int, keep: Path | None) -> None:
        draw, pool = seeded(self.reader.name, seed), list(start)
        while self.inputs < self.runs:
            newest = pool[-40:] if draw.random() < 0.2 else pool
            content = mutate(self.reader.kind, draw.choice(newest), draw)
            outcome = self.attempt(content)
            if outcome is not None and outcome not in self.messages and len(pool) < MOST_POOL:
                self.messages.add(outcome)
                pool.append(content)
                if keep:
                    _stored(keep, self.reader.name, content)

    def _atheris(self, start: list[bytes], seed: int, keep: Path | None) -> None:
        import random

        import atheris

        places = [self.folder / "new", self.folder / "seeds"]
        for place in places:
            place.mkdir()
        for content in start:
            _stored(places[1], "", content)

        def change(content: bytes, size: int, number: int) -> bytes:
            return mutate(self.reader.kind, bytes(content), random.Random(number))[:size]

        def one(content: bytes) -> None:
            self.attempt(content)
            if self.inputs >= self.runs:
                if keep:
                    for path in places[0].rglob("*"):
                        _stored(keep, self.reader.name, path.read_bytes())
                self.finish()

        options = {
            "seed": seed, "max_len": MAX_BYTES, "len_control": 0, "rss_limit_mb": 0, "verbosity": 0,
            "timeout": 100_000,  # `attempt` has a limit of its own
            "artifact_prefix": f"{self.folder}/",
        }  # fmt: skip
        words = [f"-{name}={value}" for name, value in options.items()]
        atheris.Setup([sys.argv[0], *words, *map(str, places)], one, custom_mutator=change)
        atheris.Fuzz()

    def done(self) -> int:
        """Return the number of inputs that the fork has begun; for the parent."""
        return int(HEAD.unpack(self._place.read_bytes()[: HEAD.size])[0])

    def crashed(self, status: int) -> dict[str, Any]:
        """Return the result of a fork that died, with its last input as a finding; for the parent."""
        inputs, values, size = HEAD.unpack(self._place.read_bytes()[: HEAD.size])
        content = self._place.read_bytes()[HEAD.size : HEAD.size + size]
        said = (self.folder / "stderr").read_bytes()[-2000:].decode(errors="replace") if inputs else ""
        name = signal.Signals(-status).name if status < 0 else f"exit {status}"
        kind = f"the process ended: {name} {said[-SHOWN:]!r}"
        self._found = {kind: [1, _stored(self.findings, self.reader.name, content)]}
        self.inputs, self.values = inputs + 1, values
        return self._document()


def _expected() -> type[Exception]:
    from tcs_edge.errors import TcsEdgeError

    return TcsEdgeError


def _stop(*_: object) -> NoReturn:
    raise TooSlow


def _kind(error: BaseException) -> str:
    """Return type and innermost frame of tcs_edge, with the start of the message if the type says little."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/tcs_edge/" in frame.filename] or frames
    place = f"{Path(own[-1].filename).name}:{own[-1].lineno} {own[-1].name}"
    told = f" ({str(error)[:SHOWN]})" if isinstance(error, AssertionError) else ""
    return f"{type(error).__name__}{told.encode(errors='backslashreplace').decode()} at {place}"


def _stored(folder: Path, reader: str, content: bytes) -> str:
    path = folder / reader / hashlib.sha256(content).hexdigest()[:16]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path)
