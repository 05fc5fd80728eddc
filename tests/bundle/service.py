"""A bundle's service in its own process, for tests."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Running:
    """A service in its own process."""

    def __init__(self, process: subprocess.Popen, port: int, log: Path) -> None:
        self.process, self.port, self._log = process, port, log

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict | str]:
        """Return status and body of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        is_json = answer.getheader("Content-Type") == "application/json"
        return answer.status, json.loads(text) if is_json and text else text

    def predict(self, body: bytes, query: str = "") -> tuple[int, dict]:
        return self.ask("POST", f"/predict{query}", body)

    def log(self) -> list[str]:
        return self._log.read_text(encoding="utf-8").splitlines()

    def wait_for(self, part: str, seconds: float = 30.0) -> str:
        """Return the first line of the log that contains `part`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for line in self.log():
                if part in line:
                    return line
            time.sleep(0.05)
        raise AssertionError(f"{part!r} is not in {self.log()}")


@contextmanager
def serving(folder: Path, log: Path, *options: object) -> Iterator[Running]:
    command = [sys.executable, folder / "serve.py", "--port", 0, "--threads", 1, *options]
    with log.open("w") as stderr:
        process = subprocess.Popen([str(part) for part in command], stderr=stderr, cwd=log.parent)
    running = Running(process, 0, log)
    try:
        running.port = int(re.search(r":(\d+)$", running.wait_for(" on http://"))[1])
        yield running
    finally:
        process.kill()
        process.wait()
