"""Answer HTTP requests with the model: POST /predict, GET /healthz, GET /metrics. No request names a file."""

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError
from pathlib import Path
from urllib.parse import parse_qs

from edge_images import open_rgb
from edge_model import Classifier, sha256
from edge_output import named, reason
from PIL import Image, UnidentifiedImageError

IMAGE_WORKERS = 2  # one decodes while the other waits for the model
LOOK_SECONDS = 2.0
OK, BAD_REQUEST, NOT_FOUND, NOT_ALLOWED = "200 OK", "400 Bad Request", "404 Not Found", "405 Method Not Allowed"
WRONG_TYPE, BUSY = "415 Unsupported Media Type", "503 Service Unavailable"
FAULT = "500 Internal Server Error"
PARTS = ("decode", "preprocess", "model", "wait")
BUCKETS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000)


class Refused(Exception):
    """A request that gets no prediction: the HTTP status, and the reason in one line."""

    def __init__(self, status: str, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


class Metrics:
    """Counts of requests, predictions and times, as text for Prometheus."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started = time.time()
        self._requests: Counter = Counter()
        self._classes: Counter = Counter()
        self._unknown = 0
        self._buckets = {part: [0] * (len(BUCKETS_MS) + 1) for part in PARTS}
        self._sums_ms = dict.fromkeys(PARTS, 0.0)

    def count_request(self, path: str, status: str) -> None:
        """Count a request by its path and its status."""
        with self._lock:
            self._requests[path, status[:3]] += 1

    def count_prediction(self, label: str, unknown: bool, times_ms: dict) -> None:
        """Count a prediction with the milliseconds of its parts."""
        with self._lock:
            self._classes[label] += 1
            self._unknown += unknown
            for part, value in times_ms.items():
                place = next((row for row, most in enumerate(BUCKETS_MS) if value <= most), len(BUCKETS_MS))
                self._buckets[part][place] += 1
                self._sums_ms[part] += value

    def text(self, waiting: int, model_ok: bool, lost_lines: int) -> str:
        """Return the metrics in the text format of Prometheus 0.0.4."""
        with self._lock:
            lines = [
                *_metric("requests_total", "counter", "requests by path and status", (
                    (f'{{path="{path}",status="{status}"}}', count)
                    for (path, status), count in sorted(self._requests.items()))),
                *_metric("predictions_total", "counter", "predictions by class", (
                    (f'{{label="{_escaped(label)}"}}', count) for label, count in sorted(self._classes.items()))),
                *_metric("unknown_total", "counter", "images below the threshold", [("", self._unknown)]),
                *_metric("waiting", "gauge", "predictions that wait or run", [("", waiting)]),
                *_metric("model_file_ok", "gauge", "1 if the model on disk is the loaded one", [("", int(model_ok))]),
                *_metric("log_lines_lost_total", "counter", "log lines that were not written", [("", lost_lines)]),
                *_metric("start_time_seconds", "gauge", "start of the service", [("", f"{self._started:.3f}")]),
                *_metric("part_ms", "histogram", "milliseconds of the parts of a prediction", self._times()),
            ]  # fmt: skip
        return "\n".join(lines) + "\n"

    def _times(self) -> list:
        rows = []
        for part in PARTS:
            total = 0
            for row, most in enumerate((*BUCKETS_MS, "+Inf")):
                total += self._buckets[part][row]
                rows.append((f'_bucket{{part="{part}",le="{most}"}}', total))
            rows += [(f'_sum{{part="{part}"}}', f"{self._sums_ms[part]:.3f}"), (f'_count{{part="{part}"}}', total)]
        return rows


def _metric(name: str, kind: str, text: str, rows) -> list:
    full = f"tcs_edge_{name}"
    return [f"# HELP {full} {text}", f"# TYPE {full} {kind}", *(f"{full}{suffix} {value}" for suffix, value in rows)]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class ModelFiles:
    """Watches the files of the loaded model. A replaced file is refused: the loaded model goes on answering."""

    def __init__(self, files: "dict[Path, str]", say: Callable[[str], None]) -> None:
        self._files, self._say, self._refused = files, say, set()
        self._seen = {path: _facts(path) for path in files}

    @property
    def ok(self) -> bool:
        """True if every file on disk is the loaded one."""
        return not self._refused

    def look(self) -> None:
        """Compare the files with the loaded ones. Changed files are hashed, and reported once."""
        for path, seen in self._seen.items():
            facts = _facts(path)
            if facts != seen:
                self._seen[path] = facts
                self._judge(path)

    def _judge(self, path: Path) -> None:
        try:
            same = sha256(path) == self._files[path]
        except OSError:
            same = False
        if same and path in self._refused:
            self._refused.discard(path)
            self._say(f"{path.name} is the loaded file again")
        elif not same:
            self._refused.add(path)
            self._say(
                f"error: refused {path.name}: it was replaced or removed, and its sha256 is not the loaded one. "
                "The loaded model goes on answering. Copy the bundle again and restart the service."
            )

    def watch(self) -> None:
        """Look every `LOOK_SECONDS`, in a thread that ends with the program."""

        def run() -> None:
            while True:
                time.sleep(LOOK_SECONDS)
                self.look()

        threading.Thread(target=run, daemon=True, name="model files").start()


def _facts(path: Path) -> "tuple | None":
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_size, facts.st_mtime_ns, facts.st_ino


class Service:
    """WSGI application."""

    def __init__(
        self, classifier: Classifier, say: Callable[[str], None], lost_lines: Callable[[], int],
        most_waiting: int, wait_seconds: float, most_pixels: int,
    ) -> None:  # fmt: skip
        """Prepare the application.

        Args:
            say: writes one line to the log. lost_lines: number of lines that could not be written.
            most_waiting: predictions that may wait or run; others are refused at once with 503.
            wait_seconds: longest time of a prediction, waiting included; after it, 503.
            most_pixels: larger images are refused with 400.
        """
        self.metrics, self.files = Metrics(), ModelFiles(classifier.files, say)
        self._classifier, self._say, self._lost_lines = classifier, say, lost_lines
        self._wait_seconds, self._most_pixels = wait_seconds, most_pixels
        self._most_waiting, self._waiting, self._lock = most_waiting, 0, threading.Lock()
        self._pool = ThreadPoolExecutor(IMAGE_WORKERS, "image")
        self._routes = {
            "/predict": ("POST", self._predict),
            "/healthz": ("GET", self._health),
            "/metrics": ("GET", self._metrics),
        }

    def warm_up(self) -> None:
        """Load the decoders, and run the model once. Otherwise the first answer is slow."""
        Image.init()
        side = self._classifier.steps["img_size"]
        self._classifier.timed_probabilities(Image.new("RGB", (side, side)))

    def __call__(self, environ: dict, start_response: Callable) -> "list[bytes]":
        """Answer one request. Every refusal and fault is one line in the log."""
        path = environ.get("PATH_INFO", "")
        known = path if path in self._routes else "other"
        kind, more = "application/json", []
        try:
            status, kind, body = self._answer(environ, path)
        except Refused as refusal:
            status, body = refusal.status, _json({"error": refusal.why})
            more = [("Retry-After", "1")] if status == BUSY else []
            self._say(f"refused {environ.get('REMOTE_ADDR', '')} {known}: {status[:3]} {refusal.why}")
        except Exception as error:  # of a runtime
            status, body = FAULT, _json({"error": "the model failed"})
            self._say(f"error: {known}: {type(error).__name__}: {reason(error)}")
        self.metrics.count_request(known, status)
        if environ.get("REQUEST_METHOD") == "HEAD":
            body = b""
        start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body))), *more])
        return [body]

    def _answer(self, environ: dict, path: str) -> "tuple[str, str, bytes]":
        if path not in self._routes:
            raise Refused(NOT_FOUND, f"no such path. Known: {', '.join(self._routes)}")
        method, work = self._routes[path]
        if environ["REQUEST_METHOD"] not in (method, "HEAD" if method == "GET" else method):
            raise Refused(NOT_ALLOWED, f"use {method}")
        return work(environ)

    def _health(self, _: dict) -> "tuple[str, str, bytes]":
        about = self._classifier.about
        document = {"status": "ok", "student": about["student"], "precision": about["precision"]}
        document |= {"model_sha256": about["model_sha256"], "model_file_ok": self.files.ok}
        return OK, "application/json", _json(document)

    def _metrics(self, _: dict) -> "tuple[str, str, bytes]":
        text = self.metrics.text(self._waiting, self.files.ok, self._lost_lines())
        return OK, "text/plain; version=0.0.4; charset=utf-8", text.encode()

    def _predict(self, environ: dict) -> "tuple[str, str, bytes]":
        top = _top(environ.get("QUERY_STRING", ""))
        if environ.get("CONTENT_TYPE", "").startswith("multipart/"):
            raise Refused(WRONG_TYPE, "send the bytes of one image as the body, not a form")
        content = environ["wsgi.input"].read()
        if not content:
            raise Refused(BAD_REQUEST, "the body is empty. Send the bytes of one image")
        with self._lock:
            if self._waiting >= self._most_waiting:
                raise Refused(BUSY, "too many requests wait")
            self._waiting += 1
        work = self._pool.submit(self._classified, content, top, time.perf_counter())
        work.add_done_callback(self._done)
        try:
            return OK, "application/json", _json(work.result(self._wait_seconds))
        except TimeoutError:
            work.cancel()
            raise Refused(BUSY, f"no answer within {self._wait_seconds:g} s") from None

    def _done(self, _: Future) -> None:
        with self._lock:
            self._waiting -= 1

    def _classified(self, content: bytes, top: int, received: float) -> dict:
        started = time.perf_counter()
        try:
            image = open_rgb(content, self._most_pixels)
        except UnidentifiedImageError:
            raise Refused(BAD_REQUEST, "cannot read the image: damaged, or of an unknown format") from None
        except Exception as error:  # decoders raise any exception on hostile bytes
            raise Refused(BAD_REQUEST, f"cannot read the image: {reason(error)[:200]}") from None
        decoded = time.perf_counter()
        shares, preprocess_ms, model_ms = self._classifier.timed_probabilities(image)
        guesses = self._classifier.best(shares, top)
        unknown = self._classifier.is_unknown(guesses)
        times = {
            "wait": 1e3 * (started - received), "decode": 1e3 * (decoded - started),
            "preprocess": preprocess_ms, "model": model_ms,
        }  # fmt: skip
        self.metrics.count_prediction(guesses[0][0], unknown, times)
        milliseconds = {name: round(value, 3) for name, value in times.items()}
        return {"schema_version": 1, "guesses": named(guesses), "unknown": unknown, "ms": milliseconds}


def _top(query: str) -> int:
    values = parse_qs(query, keep_blank_values=True, max_num_fields=10) if len(query) < 1000 else {"": [""]}
    text = values.pop("top", ["1"])[-1]
    if values or not (text.isascii() and text.isdecimal() and int(text[:6]) >= 1 and len(text) <= 6):
        raise Refused(BAD_REQUEST, "the only parameter is top, a whole number from 1 to 999999")
    return int(text)


def _json(document: dict) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode() + b"\n"


class Log:
    """Lines on stderr or in a file. A full disk loses lines, which are counted, and stops nothing."""

    def __init__(self, path: "Path | None" = None) -> None:
        self.lost = 0
        self._lock, self._torn = threading.Lock(), False
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644) if path else 2

    def say(self, text: str) -> None:
        """Write one line with the time in UTC."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in f"{stamp} {text}") + "\n"
        content = line.encode("utf-8", "backslashreplace")
        with self._lock:
            start = b"\n" if self._torn else b""
            try:
                written = os.write(self._descriptor, start + content)
            except OSError:
                self.lost += 1
                return
            self._torn = written < len(start + content)
            self.lost += self._torn
