"""Write answers as text, CSV or JSON, and messages to stderr. A full disk stops neither a loop nor a service."""

import csv
import io
import json
import os
import sys
import warnings
from pathlib import Path

FIELDS = {"files": ("time", "image"), "camera": ("time", "frame")}
TIMES = ("fps", "capture_ms", "preprocess_ms", "model_ms")


def prepare_screen() -> None:
    """Let stdout and stderr take every character, and leave out Pillow's warnings: an image is read or refused."""
    for stream in (sys.stdout, sys.stderr):  # file names may have characters that a pipe's encoding lacks
        stream.reconfigure(errors="backslashreplace")
    warnings.filterwarnings("ignore", module=r"PIL\.", append=True)


def say(text: str) -> None:
    """Print one line to stderr; drop it if stderr cannot be written."""
    try:
        sys.stderr.write(plain(text) + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass


def plain(text: object) -> str:
    """Return text in one line, with control characters escaped, for a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def reason(error: Exception) -> str:
    """Return the message of an exception in one line."""
    return plain(" ".join(str(getattr(error, "strerror", None) or error).split())) or type(error).__name__


class Output:
    """Lines of answers on stdout or in a file, each written as soon as it is complete.

    Attributes:
        lost: number of lines that could not be written.
    """

    def __init__(self, style: str, path: "Path | None" = None, source: str = "files", top: int = 1) -> None:
        """Open the output.

        Args:
            style: "text", "csv", "jsonl" or "json".
            path: file to append to; None writes to stdout.
            source: "files" or "camera", which sets the columns.

        Raises:
            OSError: the file cannot be opened.
        """
        self.style, self.lost, self._torn = style, 0, False
        self.encoding = "utf-8" if path else sys.stdout.encoding
        if path:
            self._file = path.open("ab", buffering=0)
        else:
            self._file = open(sys.stdout.fileno(), "wb", buffering=0, closefd=False)  # noqa: SIM115
        guesses = [f"{name}_{place}" for place in range(1, top + 1) for name in ("label", "probability")]
        self._columns = [*FIELDS[source], *guesses, "unknown", *(TIMES if source == "camera" else ()), "error"]
        self._needs_header = style == "csv" and (path is None or path.stat().st_size == 0)

    def write(self, answer: dict, going_on: bool = False) -> None:
        """Write one answer.

        Args:
            answer: with "guesses" and "unknown", or with "reason"; other entries become columns.
            going_on: count a line that cannot be written, and say so once.

        Raises:
            BrokenPipeError: the reader of stdout is gone.
            OSError: not written, and not `going_on`.
        """
        try:
            if self._needs_header:
                self.put(_row(self._columns))
                self._needs_header = False
            self.put(self._formatted(answer))
        except BrokenPipeError:
            raise
        except OSError as error:
            if not going_on:
                raise
            if not self.lost:
                say(f"error: cannot write results: {reason(error)}. Going on; lines are lost until it can be written.")
            self.lost += 1

    def _formatted(self, answer: dict) -> str:
        if self.style == "jsonl":
            return json_line(answer, self.encoding) + "\n"
        if self.style == "text":
            return text_line(answer) + "\n"
        cells = {**answer, "error": answer.get("reason", "")}
        for place, guess in enumerate(answer.get("guesses", ()), 1):
            cells |= {f"label_{place}": guess["label"], f"probability_{place}": f"{guess['probability']:.6f}"}
        return _row([cells.get(name, "") for name in self._columns])

    def put(self, text: str) -> None:
        """Write text.

        Raises:
            OSError: not written, or not all of it.
        """
        # A line cut by a full disk is ended first, so that it spoils no other line.
        content = (b"\n" if self._torn else b"") + text.encode(self.encoding, "backslashreplace")
        written = 0
        try:
            while written < len(content):
                written += self._file.write(content[written:])
        finally:
            self._torn = (self._torn and not written) or 0 < written < len(content)


def _row(cells: list) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([plain(cell) for cell in cells])
    return line.getvalue()


def json_line(document: dict, encoding: str, indent: "int | None" = None) -> str:
    """Return JSON text, with escapes for what an encoding other than UTF-8 may lack."""
    unicode = encoding.replace("-", "").lower() == "utf8"
    return json.dumps(document, indent=indent, ensure_ascii=not unicode)


def text_line(answer: dict) -> str:
    """Return an answer as one line for people."""
    guesses = ", ".join(f"{guess['label']} {guess['probability']:.1%}" for guess in answer["guesses"])
    name = answer.get("image", answer.get("time"))
    return plain(f"{name}: {'unknown, nearest ' if answer['unknown'] else ''}{guesses}")


def named(guesses: list) -> list:
    """Return pairs of class and probability as JSON."""
    return [{"label": name, "probability": share} for name, share in guesses]


def silence_stdout() -> None:
    """Send stdout to the null device after its reader is gone. Otherwise Python prints an error at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
