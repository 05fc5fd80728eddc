"""Download of weights through a local endpoint of the model hub (HF_ENDPOINT), in a process of its own."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

REPO, FILE, COMMIT = "timm/tiny.test", "model.safetensors", "0" * 40
CONTENT = b"weights of a test" * 1000
FETCH = f"""
import sys
from tcs_edge.errors import TcsEdgeError
from tcs_edge.models.hub import HubFile, fetch
try:
    print(fetch(HubFile({REPO!r}, sys.argv[1], None), "student 'tiny'", "--student-init"))
except TcsEdgeError as error:
    sys.exit(str(error))
"""


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's protocol that serves one file."""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        self.server.asked.append((self.command, self.path))
        found = self.path in ("/", f"/{REPO}/resolve/main/{FILE}")
        self.send_response(200 if found else 404)
        if not found:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("ETag", f'"{hashlib.sha256(CONTENT).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(CONTENT) if found else 0))
        self.end_headers()
        if with_body and found:
            self.wfile.write(CONTENT)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def fetched(hub, home, name: str = FILE) -> subprocess.CompletedProcess[str]:
    endpoint = f"http://127.0.0.1:{hub.server_address[1]}"
    hidden = ("http_proxy", "https_proxy", "all_proxy", "hf_hub_offline", "hf_hub_cache", "hf_token")
    own = {name: value for name, value in os.environ.items() if name.lower() not in hidden}
    environment = own | {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", FETCH, name]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_weights_come_from_the_endpoint_once(hub, tmp_path):
    first = fetched(hub, tmp_path)
    assert first.returncode == 0, first.stderr
    path = first.stdout.strip()
    assert path.startswith(str(tmp_path))
    assert Path(path).read_bytes() == CONTENT
    assert ("GET", f"/{REPO}/resolve/main/{FILE}") in hub.asked
    hub.asked.clear()
    assert fetched(hub, tmp_path).stdout.strip() == path
    assert hub.asked == [], "the second process uses the cache"


def test_a_file_that_the_hub_lacks_is_one_line(hub, tmp_path):
    done = fetched(hub, tmp_path, "other.safetensors")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("the weights of student 'tiny' could not be downloaded")
    assert f"Download other.safetensors of {REPO} (http://127.0.0.1:" in line
