"""A model hub on a local port, with the few routes that huggingface_hub uses."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse

import pytest

TOKEN = "hf_" + "secret" * 6
LFS_SUFFIXES = (".onnx", ".bin", ".safetensors", ".npz")


@dataclass
class Repo:
    """Commits of a repository, each with all its files; branches and tags name a commit."""

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes]) -> str:
        sha = hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[sha], self.refs["main"] = files, sha
        return sha

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[self.refs["main"]]


@dataclass
class Hub:
    """State of the hub. `fault` may answer a request itself, and then returns True."""

    endpoint: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    fault: Callable[[BaseHTTPRequestHandler], bool] = lambda _handler: False

    token: str = TOKEN

    def drop_from(self, part: str) -> None:
        """Close every connection without an answer, from the first request with `part` on."""
        gone = threading.Event()

        def fault(handler: BaseHTTPRequestHandler) -> bool:
            if part in f"{handler.command} {handler.path}":
                gone.set()
            if gone.is_set():
                handler.close_connection = True
                handler.connection.close()
            return gone.is_set()

        self.fault = fault


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def answer(self, status: int, document: object = None, content: bytes | None = None, **headers: str) -> None:
            body = json.dumps(document).encode() if content is None else content
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def serve(self) -> None:
            path = unquote(urlparse(self.path).path)
            hub.requests.append(f"{self.command} {path}")
            self.data = self.body()
            if not hub.fault(self):
                getattr(self, f"{self.command.lower()}_route")(path)

        do_GET = do_HEAD = do_POST = do_PUT = serve

        def allowed(self) -> bool:
            return self.headers.get("Authorization") == f"Bearer {TOKEN}"

        def repo(self, name: str) -> Repo | None:
            found = hub.repos.get(name)
            if found is None or (found.private and not self.allowed()):
                self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
                return None
            return found

        def get_route(self, path: str) -> None:
            if found := re.fullmatch(r"/api/models/([^/]+/[^/]+?)(?:/revision/(.+))?", path):
                self.info(found[1], found[2] or "main")
            elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                self.file(*found.groups())
            else:
                self.answer(404, {"error": "no such route"})

        head_route = get_route

        def commit_of(self, repo: Repo, revision: str) -> str | None:
            sha = repo.refs.get(revision, revision)
            if sha in repo.commits:
                return sha
            self.answer(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
            return None

        def info(self, name: str, revision: str) -> None:
            if (repo := self.repo(name)) and (sha := self.commit_of(repo, revision)):
                files = [
                    {"rfilename": path, "size": len(content), "blobId": hashlib.sha1(content).hexdigest()}
                    for path, content in repo.commits[sha].items()
                ]
                self.answer(200, {"id": name, "modelId": name, "sha": sha, "private": repo.private, "siblings": files})

        def file(self, name: str, revision: str, path: str) -> None:
            if (repo := self.repo(name)) and (sha := self.commit_of(repo, revision)):
                content = repo.commits[sha].get(path)
                if content is None:
                    self.answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound")
                    return
                etag = f'"{hashlib.sha256(content).hexdigest()}"'
                self.answer(200, content=content, ETag=etag, X_Repo_Commit=sha)

        def put_route(self, path: str) -> None:
            hub.objects[path.rpartition("/")[2]] = self.data
            self.answer(200, {})

        def post_route(self, path: str) -> None:
            if not self.allowed():
                self.answer(401, {"error": "Invalid username or password."})
                return
            if path == "/api/validate-yaml":  # the front matter of a model card
                self.answer(200, {"errors": [], "warnings": []})
            elif path == "/api/repos/create":
                asked = json.loads(self.data)
                name = f"{asked.get('organization') or 'someone'}/{asked['name']}"
                if name in hub.repos:
                    self.answer(409, {"error": "You already created this model repo", "url": f"{hub.endpoint}/{name}"})
                    return
                hub.repos[name] = Repo(asked.get("private") or asked.get("visibility") == "private")
                hub.repos[name].commit({".gitattributes": b"*.onnx filter=lfs\n"})
                self.answer(200, {"url": f"{hub.endpoint}/{name}", "name": name})
            elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", path):
                files = json.loads(self.data)["files"]
                modes = [("lfs" if file["path"].endswith(LFS_SUFFIXES) else "regular") for file in files]
                self.answer(200, {"files": [
                    {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}
                    for file, mode in zip(files, modes, strict=True)
                ]})  # fmt: skip
            elif path.endswith(".git/info/lfs/objects/batch"):
                objects = [
                    {**one, "authenticated": True, "actions": {"upload": {"href": f"{hub.endpoint}/put/{one['oid']}"}}}
                    for one in json.loads(self.data)["objects"]
                ]
                self.answer(200, {"transfer": "basic", "objects": objects})
            elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
                self.commit(found[1])
            else:
                self.answer(404, {"error": "no such route"})

        def commit(self, name: str) -> None:
            repo = hub.repos[name]
            lines = [json.loads(line) for line in self.data.splitlines()]
            if lines[0]["value"].get("parentCommit") not in (None, repo.refs["main"]):
                self.answer(412, {"error": "A commit has happened since."})
                return
            files = dict(repo.files)
            for line in lines[1:]:
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = hub.objects[value["oid"]]
                else:
                    del files[value["path"]]
            sha = repo.commit(files)
            url = f"{hub.endpoint}/{name}/commit/{sha}"
            self.answer(200, {"commitUrl": url, "commitOid": sha, "pullRequestUrl": None})

    return Handler


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A running hub; huggingface_hub uses it, with the token, and repeats failed requests at once."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    state = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    server.daemon_threads = True
    state.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", state.endpoint + template)
    monkeypatch.setattr(constants, "ENDPOINT", state.endpoint)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(_http.time, "sleep", lambda _seconds: None)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield state
    server.shutdown()
    server.server_close()
