"""Reach a board with the system's ssh and scp, without questions: every failure is one error with its fix."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tcs_edge.errors import MissingError, UsageError

SSH_FAILED = 255  # exit code of ssh itself
NOT_FOUND = (126, 127)  # of a shell that cannot start the program
CONNECT_SECONDS = 15
ALIVE_SECONDS, ALIVE_COUNT = 15, 4  # a connection without an answer for a minute is dropped
OLDEST_PYTHON = (3, 9)
HOST = re.compile(r"([^\s@/-][^\s@/]*@)?[A-Za-z0-9_\[\]:%.][A-Za-z0-9_\[\]:%.-]*")

PORT_IN_HOST = re.compile(r"([^:\[\]]+|\[.*\]):(\d+)")

# Python 2 runs it too, so that its version is stated.
FACTS = (
    "import json, platform, sys; u = getattr(__import__('importlib', fromlist=['util']), 'util', None); "
    "f = lambda m: u is not None and u.find_spec(m) is not None; "
    "print(json.dumps({'architecture': platform.machine(), 'python': list(sys.version_info[:2]), "
    "'missing': [m for m in ('numpy', 'onnxruntime') if not f(m)], 'openvino': f('openvino')}))"
)


@dataclass(frozen=True)
class Board:
    """A board that ssh reaches.

    Attributes:
        host: as for ssh: "pi@192.168.1.7", or a name from ~/.ssh/config.
        port: None for ssh's own.
        identity: file of the private key; None for ssh's own.
        python: Python's program on the board, such as ".venv/bin/python", relative to the home folder.
    """

    host: str
    port: int | None = None
    identity: Path | None = None
    python: str = "python3"

    def __post_init__(self) -> None:
        """Check the names.

        Raises:
            UsageError: a host that ssh would read as an option, or a missing key.
            MissingError: no ssh or scp on this machine.
        """
        if not HOST.fullmatch(self.host):
            raise UsageError(f"--ssh {self.host[:60]!r} is not a host. Write USER@HOST, such as pi@raspberrypi.local.")
        if found := PORT_IN_HOST.fullmatch(self.host):
            raise UsageError(f"--ssh {self.host[:60]!r} has a port. Pass --ssh {found[1][:60]} --port {found[2][:9]}.")
        if not self.python.strip() or self.python.startswith("-"):
            raise UsageError(f"--python {self.python!r} is not a program. Write python3, or the path of one.")
        if self.identity is not None and not self.identity.is_file():
            raise UsageError(f"no such key file: {self.identity}. Check --identity.")
        for program in ("ssh", "scp"):
            if shutil.which(program) is None:
                raise MissingError(f"{program} is not installed. Install the OpenSSH client.")

    def facts(self) -> BoardFacts:
        """Return the board's architecture and Python.

        Raises:
            MissingError: the board cannot be reached, or it lacks Python, numpy or onnxruntime.
        """
        done = self.run(f"{shlex.quote(self.python)} -c {shlex.quote(FACTS)}")
        if done.returncode in NOT_FOUND:
            raise MissingError(
                f"{self.host} has no program {self.python}. Install Python there, or pass --python PATH."
            )
        try:
            found = json.loads(done.stdout.strip().splitlines()[-1])
            facts = BoardFacts(
                str(found["architecture"]),
                tuple(found["python"]),
                tuple(found["missing"]),
                found.get("openvino") is True,
            )
        except (ValueError, IndexError, KeyError, TypeError):
            reason = _last_line(done.stderr) or _last_line(done.stdout) or f"code {done.returncode}"
            raise MissingError(
                f"{self.python} on {self.host} does not run: {reason}. Check it there, or pass --python PATH."
            ) from None
        if facts.python < OLDEST_PYTHON:
            version = ".".join(map(str, facts.python))
            raise MissingError(f"{self.host} has Python {version}. Measuring needs 3.9 or newer: pass --python PATH.")
        if facts.missing:
            packages = " and ".join(facts.missing)
            raise MissingError(
                f"{self.python} on {self.host} lacks {packages}. Run there: {self.python} -m pip install "
                f"{' '.join(facts.missing)}, or pass --python of a virtual environment that has it."
            )
        return facts

    def run(self, command: str, shown: bool = False) -> subprocess.CompletedProcess[str]:
        """Run `command` in the board's shell.

        Args:
            shown: let the board's stderr through to this process's stderr.

        Raises:
            MissingError: ssh itself failed.
        """
        done = subprocess.run(
            ["ssh", *self._options("-p"), "--", self.host, command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=None if shown else subprocess.PIPE,
            text=True, errors="replace", check=False,
        )  # fmt: skip
        if done.returncode == SSH_FAILED or done.returncode < 0:  # below 0: ssh itself was killed
            raise MissingError(self._why(done.stderr or ""))
        return done

    def send(self, folder: Path, place: str) -> None:
        """Copy the content of `folder` into the board's new or existing folder `place`.

        Raises:
            MissingError: the connection failed, the board's disk is full, or its home folder is not writable.
        """
        made = self.run(f"mkdir -p {shlex.quote(place)}")
        if made.returncode:
            raise MissingError(self._why(made.stderr))
        self._copy([*(str(entry) for entry in sorted(folder.iterdir()))], self._there(f"{place}/"))

    def fetch(self, place: str, path: Path) -> None:
        """Copy the board's file `place` to `path`.

        Raises:
            MissingError: the connection failed, or there is no such file.
        """
        self._copy([self._there(place)], str(path))

    def _copy(self, sources: Sequence[str], to: str) -> None:
        done = subprocess.run(
            ["scp", "-r", "-q", *self._options("-P"), "--", *sources, to],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip
        if done.returncode:
            raise MissingError(self._why(done.stderr))

    def _there(self, place: str) -> str:
        user, at, host = self.host.rpartition("@")
        bare = f"[{host}]" if ":" in host and not host.startswith("[") else host
        return f"{user}{at}{bare}:{place}"

    def _options(self, port: str) -> list[str]:
        options = {
            "BatchMode": "yes", "ConnectTimeout": str(CONNECT_SECONDS), "ServerAliveInterval": str(ALIVE_SECONDS),
            "ServerAliveCountMax": str(ALIVE_COUNT),
        }  # fmt: skip
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        words += [port, str(self.port)] if self.port is not None else []
        return words + (["-i", str(self.identity), "-o", "IdentitiesOnly=yes"] if self.identity else [])

    def _why(self, stderr: str) -> str:
        """Return problem and fix for a failed connection, from ssh's own words."""
        for pattern, problem in SSH_PROBLEMS:
            if pattern.search(stderr):
                return problem.format(host=self.host)
        reason = _last_line(stderr) or "the connection was dropped"
        return f"the connection to {self.host} failed: {reason}. Check it with: ssh {self.host} true"


@dataclass(frozen=True)
class BoardFacts:
    """Architecture of a board as it names it, its Python's version, the packages that Python lacks, and OpenVINO."""

    architecture: str
    python: tuple[int, ...]
    missing: tuple[str, ...]
    has_openvino: bool


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""


SSH_PROBLEMS = (
    (re.compile(r"REMOTE HOST IDENTIFICATION HAS CHANGED"),
     "the host key of {host} is not the known one, so it may be another board. Find out why, then run: "
     "ssh-keygen -R HOST"),
    (re.compile(r"Host key verification failed|No .* host key is known"),
     "the host key of {host} is unknown. Connect once by hand and compare the fingerprint: ssh {host}"),
    (re.compile(r"UNPROTECTED PRIVATE KEY FILE"),
     "ssh refuses the key for {host}, because others can read its file. Run: chmod 600 FILE"),
    (re.compile(r"Permission denied \("),  # and the methods that the server offers
     "{host} asks for a password, or refuses the key. Put your key there: ssh-copy-id {host}, or pass --identity. "
     "A key with a passphrase needs ssh-add"),
    (re.compile(r"Too many authentication failures"),
     "{host} refuses the keys of your agent. Pass --identity FILE"),
    (re.compile(r"Could not resolve|Name or service not known"),
     "the name of {host} is unknown in this network. Pass its address: --ssh USER@ADDRESS"),
    (re.compile(r"Connection refused|No route to host|timed out(?! waiting)|Network is unreachable"),
     "{host} cannot be reached. Switch it on, enable ssh there, and check --port"),
    # With the protocol SFTP, scp gives no other reason for a full disk.
    (re.compile(r"No space left on device|Disk quota exceeded|write remote .*: Failure"),
     "the disk of {host} is full. Free some space there"),
    (re.compile(r"Permission denied|Read-only file system"),
     "the home folder on {host} is not writable. Check it with: ssh {host} touch test"),
)  # fmt: skip
