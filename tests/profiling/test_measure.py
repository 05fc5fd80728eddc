"""`tcs-edge measure`: one line and an unchanged profile for every board that does not answer as it should.

Most tests put programs named ssh and scp into PATH that run on this machine. One test runs OpenSSH's real server, if
there is one: its path is in TCS_EDGE_SSHD, or sshd is in PATH.
"""

from __future__ import annotations

import getpass
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tcs_edge.errors import MissingError, UsageError
from tcs_edge.profiling.remote import Board
from tcs_edge.specs.target import load_target

MODEL = "test_efficientnet"
QUICK = ("--model", MODEL, "--img-size", 32, "--rounds", 3, "--seconds", 0.01, "--max-spread", 1e9, "--retries", 0)
TARGET = "x86-avx2"
SSHD = os.environ.get("TCS_EDGE_SSHD") or shutil.which("sshd") or ""

# Stands for ssh: the last argument is the command; it runs in the folder BOARD.
SSH = """#!{python}
import os, subprocess, sys
with open({log!r}, "a") as log:
    print(*sys.argv[1:], file=log)
if {when!r} in sys.argv[-1]:
    {before}
done = subprocess.run(["/bin/sh", "-c", sys.argv[-1]], cwd={board!r}, stdin=subprocess.DEVNULL)
sys.exit(done.returncode)
"""
SCP = """#!{python}
import shutil, sys
from pathlib import Path
rest = sys.argv[sys.argv.index("--") + 1:]
def local(text):
    host, colon, path = text.rpartition(":")
    return Path({board!r}) / path if colon else Path(text)
for source in map(local, rest[:-1]):
    to = local(rest[-1])
    if source.is_dir():
        shutil.copytree(source, to / source.name, dirs_exist_ok=True)
    else:
        shutil.copy(source, to / source.name if to.is_dir() else to)
"""

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the target of these tests is x86-64")


@pytest.fixture
def board(tmp_path, monkeypatch) -> Callable[..., Path]:
    """board(before="..."): put ssh and scp into PATH that run here; return the board's home folder.

    `before` is code for the commands that contain `when`.
    """

    def make(
        before: str = "pass", ssh: str | None = None, scp: str | None = None, when: str = "profile_device.py"
    ) -> Path:
        home, programs = tmp_path / "home", tmp_path / "bin"
        for folder in (home, programs):
            folder.mkdir(exist_ok=True)
        facts = {"python": sys.executable, "board": str(home), "log": str(tmp_path / "log"), "before": before}
        texts = {"ssh": ssh or SSH.format(**facts, when=when), "scp": scp or SCP.format(**facts)}
        for name, text in texts.items():
            (programs / name).write_text(text, encoding="utf-8")
            (programs / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
        return home

    return make


@pytest.fixture
def measure(cli, tmp_path) -> Callable[..., object]:
    def run(*options: object, target: str = TARGET):
        given = ("--ssh", "pi@board", "--target", target, "--out", tmp_path / "mine.json", "--python", sys.executable)
        return cli("measure", *given, *options)

    return run


def refusing(message: str, code: int = 255) -> str:
    return f"#!/bin/sh\necho '{message}' >&2\nexit {code}\n"


def one_line(result, tmp_path: Path) -> str:
    """Return the only line of an error, which left no profile behind."""
    assert not (tmp_path / "mine.json").exists()
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    return errors[0]


def test_a_board_is_measured_and_its_rows_are_merged(board, measure, tmp_path):
    home = board()
    result = measure(*QUICK)
    assert result.exit_code == 0, result.stderr
    profile = json.loads((tmp_path / "mine.json").read_text())
    rows = [row for row in profile["rows"] if row["model"] == MODEL]
    assert {row["source"] for row in rows} == {"measured"}
    assert {row["threads"] for row in rows} == {load_target(TARGET).threads}
    assert {row["architecture"] for row in rows} == {"x86_64"}
    assert f"({len(rows)} latencies measured" in result.stdout
    assert {row["runtime"] for row in rows} == {"onnxruntime", "openvino"}
    for runtime in ("onnxruntime", "openvino"):
        assert f"interval of a student in {runtime}: " in result.stdout
    assert list(home.iterdir()) == [], "nothing stays on the board"
    options = (tmp_path / "log").read_text()
    assert options.count("BatchMode=yes") == options.count("\n")
    other = measure(*QUICK)
    assert other.exit_code == 0, other.stderr
    again = json.loads((tmp_path / "mine.json").read_text())
    assert len(again["rows"]) == len(profile["rows"]), "measured rows replace earlier ones"


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("pi@board: Permission denied (publickey,password).", "ssh-copy-id pi@board"),
        ("@ WARNING: UNPROTECTED PRIVATE KEY FILE! @\npi@board: Permission denied (publickey).", "chmod 600"),
        ("No ED25519 host key is known for board.\nHost key verification failed.", "Connect once by hand"),
        ("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.", "ssh-keygen -R"),
        ("ssh: Could not resolve hostname board: Name or service not known", "Pass its address"),
        ("ssh: connect to host board port 22: Connection refused", "cannot be reached"),
        ("ssh: connect to host board port 22: Connection timed out", "cannot be reached"),
        ("Connection closed by 10.0.0.7 port 22", "Connection closed by 10.0.0.7"),
    ],
)
def test_a_connection_that_fails_is_one_line_with_advice(board, measure, tmp_path, message, advice):
    board(ssh=refusing(message))
    result = measure()
    assert result.exit_code == 4
    assert advice in one_line(result, tmp_path)


@pytest.mark.parametrize(
    ("ssh", "code", "advice"),
    [
        (refusing("sh: python3: not found", 127), 4, "has no program"),
        (refusing("Segmentation fault", 139), 4, "does not run: Segmentation fault"),
        ("#!/bin/sh\necho Welcome\n", 4, "does not run: Welcome"),
        (
            """#!/bin/sh\necho '{"architecture": "x86_64", "python": [3, 11], "missing": ["onnxruntime"]}'\n""",
            4,
            "lacks onnxruntime. Run there",
        ),
        ("""#!/bin/sh\necho '{"architecture": "x86_64", "python": [3, 7], "missing": []}'\n""", 4, "has Python 3.7"),
        (
            """#!/bin/sh\necho '{"architecture": "x86_64", "python": [2, 7], "missing": ["numpy", "onnxruntime"]}'\n""",
            4,
            "has Python 2.7. Measuring needs 3.9",
        ),
        ("""#!/bin/sh\necho '{"architecture": "armv7l", "python": [3, 11], "missing": []}'\n""", 2, "is armv7l, but"),
    ],
)
def test_a_board_that_cannot_measure_is_one_line_with_advice(board, measure, tmp_path, ssh, code, advice):
    board(ssh=ssh)
    result = measure()
    assert result.exit_code == code
    assert advice in one_line(result, tmp_path)


@pytest.mark.parametrize("drop", ["sys.exit(255)", "os.kill(os.getpid(), 9)"])
def test_a_connection_that_drops_merges_nothing_and_the_command_continues(board, measure, tmp_path, drop):
    home = board(before=drop)
    result = measure(*QUICK)
    assert result.exit_code == 4
    assert "connection" in one_line(result, tmp_path)
    (place,) = home.iterdir()
    assert (place / "models").is_dir()
    board()
    assert measure(*QUICK).exit_code == 0
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ("""d["machine"]["system"] = "Linux aarch64" """, 2, "(aarch64)"),
        ("""d["target"] = "x86-avx512" """, 2, "is of x86-avx512, not of x86-avx2"),
        ("""d["rows"][0]["p50_ms"] = 1e-9; d["rows"][0]["low_ms"] = 1e-9""", 2, ""),
        ("""d.pop("citations")""", 2, ""),
        ("""d = [] """, 2, ""),
    ],
)
def test_a_result_that_is_not_of_the_board_is_not_merged(board, measure, tmp_path, change, code, message):
    writer = tmp_path / "writer.py"
    writer.write_text(
        "import json, sys\nfrom pathlib import Path\n"
        f"row = {{'model': 'lcnet_050', 'img_size': 224, 'runtime': 'onnxruntime', 'threads': 1, 'precision': 'fp32',"
        " 'p50_ms': 2.0, 'low_ms': 2.0, 'high_ms': 2.1, 'source': 'measured', 'citation': 'm'}\n"
        f"d = {{'schema_version': 1, 'target': {TARGET!r}, 'machine': {{'cpu': 'c', 'system': 'Linux x86_64'}},"
        " 'notes': [], 'citations': {'m': 'm'}, 'rows': [row]}\n"
        f"{change}\n"
        "Path(sys.argv[1]).write_text(json.dumps(d))\n",
        encoding="utf-8",
    )
    place = "sys.argv[-1].split(' --out ')[1].split()[0]"
    home = tmp_path / "home"
    run = f"sys.exit(subprocess.run([sys.executable, {str(writer)!r}, {str(home)!r} + '/' + {place}]).returncode)"
    board(before=run)
    result = measure(*QUICK)
    assert result.exit_code == code, result.stderr
    assert message in one_line(result, tmp_path)


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ('scp: write remote "place/bundle.json": Failure', "the disk of pi@board is full"),
        ("scp: place//bundle.json: No space left on device", "the disk of pi@board is full"),
        ('scp: dest open "place/": Permission denied', "the home folder on pi@board is not writable"),
    ],
)
def test_a_copy_that_fails_names_the_cause(board, measure, tmp_path, message, advice):
    board(scp=refusing(message, 1))
    result = measure(*QUICK)
    assert result.exit_code == 4
    assert advice in one_line(result, tmp_path)


def test_a_home_folder_that_cannot_be_written_is_one_line(board, measure, tmp_path):
    message = "mkdir: cannot create directory: Read-only file system"
    board(before=f"print({message!r}, file=sys.stderr); sys.exit(1)", when="mkdir")
    result = measure(*QUICK)
    assert result.exit_code == 4
    assert "not writable" in one_line(result, tmp_path)


def test_a_board_that_still_measures_is_not_measured_twice(board, measure, tmp_path):
    board(before="sys.exit(3)")
    result = measure(*QUICK)
    assert result.exit_code == 2
    assert "still runs an earlier measurement" in one_line(result, tmp_path)


def test_a_damaged_profile_is_refused_before_the_board_is_reached(board, measure, tmp_path):
    board()
    (tmp_path / "mine.json").write_text("{")
    result = measure(*QUICK)
    assert result.exit_code == 2
    assert "mine.json cannot be read as JSON" in result.stderr
    assert (tmp_path / "mine.json").read_text() == "{"
    assert not (tmp_path / "log").exists()


def test_a_drop_after_the_result_arrived_does_not_lose_it(board, measure, tmp_path):
    home = board(before="sys.exit(255)", when="rm -rf")
    result = measure(*QUICK)
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "mine.json").is_file()
    (place,) = home.iterdir()
    assert f"the folder {place.name} stays on pi@board" in result.stderr


def test_the_date_is_that_of_this_machine(board, measure, tmp_path):
    board(before="sys.exit(1)")
    measure(*QUICK)
    assert f"--date {datetime.now(UTC).date()}" in (tmp_path / "log").read_text()


def test_a_path_below_home_is_found(board, measure, tmp_path):
    board()
    result = measure("--python", "~/no such python")
    assert "has no program no such python. " in one_line(result, tmp_path)


@pytest.mark.parametrize("host", ["pi@board:2222", "[::1]:2222"])
def test_a_port_in_the_host_is_named(host):
    with pytest.raises(UsageError, match=r"Pass --ssh .* --port 2222"):
        Board(host)


def test_a_board_that_is_too_busy_is_one_line(board, measure, tmp_path):
    board(before="sys.exit(1)")
    result = measure(*QUICK)
    assert result.exit_code == 1
    assert "recorded no latency" in one_line(result, tmp_path)


@pytest.mark.parametrize("host", ["-oProxyCommand=x", "a b", "", "pi@-x", "pi@", "pi@host;reboot", "pi@host/x"])
def test_a_host_that_ssh_would_misread_is_refused(host):
    with pytest.raises(UsageError, match="is not a host"):
        Board(host)


def test_a_missing_key_or_ssh_is_one_line(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="no such key file"):
        Board("pi@board", identity=tmp_path / "no")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match="ssh is not installed"):
        Board("pi@board")


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[int]:
    """A real sshd on a free port with a key of its own; ssh and scp know its host key. Yields the port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for name in ("host", "key", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    shutil.copy(tmp_path / "key.pub", tmp_path / "authorized")
    settings = (
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\nPidFile {tmp_path}/pid\nUsePAM no\n"
        f"AuthorizedKeysFile {tmp_path}/authorized\nStrictModes no\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\nSubsystem sftp internal-sftp\n"
    )
    (tmp_path / "sshd").write_text(settings, encoding="utf-8")
    (tmp_path / "client").write_text(f"Host *\n  UserKnownHostsFile {tmp_path}/known\n", encoding="utf-8")
    public = (tmp_path / "host.pub").read_text()
    (tmp_path / "known").write_text(f"[127.0.0.1]:{port} {public}", encoding="utf-8")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("ssh", "scp"):  # the real client, with the host key above
        (programs / name).write_text(f'#!/bin/sh\nexec {shutil.which(name)} -F {tmp_path}/client "$@"\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    running = subprocess.Popen([SSHD, "-D", "-E", tmp_path / "sshd.log", "-f", tmp_path / "sshd"])
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield port
    finally:
        running.terminate()
        running.wait(timeout=10)


@pytest.mark.skipif(not Path(SSHD).is_file(), reason="no sshd on this machine; set TCS_EDGE_SSHD")
def test_a_real_ssh_server_is_measured_and_refuses_strangers(server, cli, tmp_path):
    given = ("measure", "--target", TARGET, "--out", tmp_path / "mine.json", "--port", server)
    here = (*given, "--ssh", f"{getpass.getuser()}@127.0.0.1", "--python", sys.executable)
    stranger = cli(*here, "--identity", tmp_path / "stranger")
    assert (stranger.exit_code, "ssh-copy-id" in stranger.stderr) == (4, True), stranger.stderr
    result = cli(*here, "--identity", tmp_path / "key", *QUICK)
    assert result.exit_code == 0, result.stderr
    rows = json.loads((tmp_path / "mine.json").read_text())["rows"]
    assert {row["source"] for row in rows if row["model"] == MODEL} == {"measured"}
    nothing = cli(*here[:-1], "no-such-python", "--identity", tmp_path / "key")
    assert (nothing.exit_code, "has no program no-such-python" in nothing.stderr) == (4, True)
    (tmp_path / "known").write_text("")
    unknown = cli(*here, "--identity", tmp_path / "key")
    assert (unknown.exit_code, "Connect once by hand" in unknown.stderr) == (4, True)
