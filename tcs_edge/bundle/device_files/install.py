#!/usr/bin/env python3
"""Install the packages of this folder into a virtual environment of its own, and check the model.

    python3 -I install.py [--camera] [--service [--port 8080] [--host 127.0.0.1]]

The environment is `.venv` in this folder. Nothing else of the system changes, except with --service: it writes one
systemd unit, and needs root. Exit code 1: a step failed; its own message is above.
"""

# Until this folder is out of the import path, only built-in modules may be imported: a venv.py beside the program
# would run.
import sys

if __name__ == "__main__":
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        del sys.path[:1]
    import os.path

    folder = os.path.dirname(os.path.realpath(__file__))  # noqa: PTH120
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != folder]
    sys.dont_write_bytecode = True

import argparse
import os
import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
OPENCV = "opencv-python-headless==4.12.0.88"
UNIT = "tcs-edge-classifier.service"
MOVE = "Move the folder, such as to /opt/classifier."
PINNED = ("-r", str(HERE / "requirements.txt"))
NETWORK = "Check the network, and the free space."
UNITS = Path("/etc/systemd/system")
OLDEST, NEWEST = (3, 11), (3, 13)


class StepFailed(Exception):
    """A step of the installation failed: the problem and the fix."""


def environment(folder: Path, camera: bool) -> Path:
    """Make the virtual environment, or use the one that is there; return its Python.

    With a camera, an installed picamera2 of the system is used, which pip cannot install.
    """
    place = folder / ".venv"
    python = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        system = ["--system-site-packages"] if camera and find_spec("picamera2") else []
        run([sys.executable, "-I", "-m", "venv", *system, str(place)], "Run: sudo apt install python3-venv")
    return python


def run(command: list, advice: str) -> None:
    """Run a command, with its messages on this terminal.

    Raises:
        StepFailed: it failed.
    """
    if subprocess.run(command, check=False).returncode:
        raise StepFailed(f"{' '.join(command[:5])} ... failed. {advice}")


def install_camera(python: Path, pip: list) -> None:
    """Install OpenCV, unless picamera2 of the system works in the environment.

    Raises:
        StepFailed: pip failed.
    """
    probe = subprocess.run([str(python), "-I", "-c", "import picamera2"], capture_output=True, check=False)
    if probe.returncode:
        run([*pip, OPENCV, *PINNED], NETWORK)
    print(f"camera: {'OpenCV' if probe.returncode else 'picamera2'}")


def unit_text(folder: Path, host: str, port: int) -> str:
    """Return the systemd unit for this folder.

    Raises:
        StepFailed: the path of the folder, or the host, has characters that a unit cannot hold.
    """
    if not re.fullmatch(r"[\w./+@:-]+", str(folder), re.ASCII):
        raise StepFailed(f"systemd needs a path of plain letters: {folder}. {MOVE}")
    closed = next((part for part in (folder, *folder.parents) if part.stat().st_mode & 0o5 != 0o5), None)
    if closed:
        raise StepFailed(f"the service's user cannot read {closed}. {MOVE}")
    if not re.fullmatch(r"[\w.:-]+", host, re.ASCII):
        raise StepFailed(f"not a host: {host}")
    text = (folder / "classifier.service").read_text(encoding="utf-8")
    return text.replace("@FOLDER@", str(folder)).replace("@OPTIONS@", f"--host {host} --port {port}")


def install_service(folder: Path, host: str, port: int, units: Path = UNITS) -> None:
    """Write the systemd unit, enable it and start it.

    Raises:
        StepFailed: no systemd, or no right to write the unit.
    """
    text = unit_text(folder, host, port)
    if not units.is_dir():
        raise StepFailed(f"this system has no {units}. Start serve.py with your own service manager.")
    try:
        (units / UNIT).write_text(text, encoding="utf-8")
    except OSError as error:
        raise StepFailed(f"cannot write {units / UNIT}: {error.strerror}. Run the command with sudo.") from error
    run(["systemctl", "daemon-reload"], f"The unit is {units / UNIT}.")
    run(["systemctl", "enable", "--now", UNIT], f"See: journalctl -u {UNIT}")
    print(f"service: http://{host}:{port}, log: journalctl -u {UNIT}")


def main() -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description="Install this folder into a virtual environment of its own.")
    parser.add_argument("--camera", action="store_true", help="also for classify.py --camera")
    parser.add_argument("--service", action="store_true", help="also write and start a systemd unit; needs root")
    parser.add_argument("--host", default="127.0.0.1", help="address of the service; 0.0.0.0: every network")
    parser.add_argument("--port", type=int, default=8080, help="port of the service")
    parser.add_argument("--no-check", action="store_true", help="do not run selfcheck.py")
    arguments = parser.parse_args()
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        wanted = " to ".join(".".join(map(str, version)) for version in (OLDEST, NEWEST))
        print(f"warning: tested with Python {wanted}; this is {sys.version.split()[0]}", file=sys.stderr)
    try:
        python = environment(HERE, arguments.camera)
        pip = [str(python), "-I", "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
        run([*pip, *PINNED], NETWORK)
        if arguments.camera:
            install_camera(python, pip)
        if not arguments.no_check:
            run([str(python), "-I", str(HERE / "selfcheck.py"), "--seconds", "2"], "The model must not be used.")
        if arguments.service:
            install_service(HERE, arguments.host, arguments.port)
    except (StepFailed, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"installed. Try: {python} -I {HERE / 'classify.py'} PHOTO.jpg")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
