"""HTTP service of a bundle: answers under load, refuses what is too large, too slow or no image, and stays up."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from PIL import Image

from tests.bundle.service import Running, serving

pytest.importorskip("waitress", reason="needs waitress: pip install -e '.[dev]'")
IMAGE = "image/jpeg"


@pytest.fixture
def service(bundled, tmp_path) -> Iterator[Running]:
    with serving(bundled, tmp_path / "log") as running:
        yield running


@pytest.fixture
def photo(photos) -> bytes:
    return (photos / "test" / "red" / "00.jpg").read_bytes()


def saved(size: tuple[int, int], kind: str = "PNG") -> bytes:
    content = io.BytesIO()
    Image.new("RGB", size, (200, 60, 40)).save(content, kind)
    return content.getvalue()


def metric(service: Running, name: str) -> float:
    _, text = service.ask("GET", "/metrics")
    return float(re.search(rf"^tcs_edge_{re.escape(name)} (\S+)$", text, re.MULTILINE)[1])


def test_the_service_answers_as_tcs_edge_predict(service, cli, finished, photos, photo):
    status, answer = service.predict(photo, "?top=3")
    told = json.loads(cli("predict", finished, "--json", "--top", 3, photos / "test" / "red" / "00.jpg").stdout)[
        "predictions"
    ][0]
    assert status == 200
    assert [guess["label"] for guess in answer["guesses"]] == [guess["label"] for guess in told["guesses"]]
    assert answer["guesses"][0]["probability"] == pytest.approx(told["guesses"][0]["probability"], abs=1e-5)
    assert answer["unknown"] == told["unknown"]
    assert answer["ms"].keys() == {"wait", "decode", "preprocess", "model"}
    status, health = service.ask("GET", "/healthz")
    assert (status, health["status"], health["model_file_ok"]) == (200, "ok", True)
    assert metric(service, 'requests_total{path="/predict",status="200"}') == 1
    assert metric(service, 'part_ms_count{part="model"}') == 1
    assert sum("refused" in line for line in service.log()) == 0


BOMB = Path(__file__).parent  # a folder, to have a body that names a path
BAD = {
    "no body": (lambda: b"", "", 400, "the body is empty"),
    "text": (lambda: b"hello", "", 400, "cannot read the image: damaged"),
    "a path": (lambda: str(BOMB).encode(), "", 400, "cannot read the image: damaged"),
    "a cut image": (lambda: saved((64, 64), "JPEG")[:200], "", 400, "cannot read the image"),
    "too many pixels": (lambda: saved((6000, 5000)), "", 400, "more than 25000000"),
    "a pixel of floats": (lambda: floats(), "", 400, "floating-point pixels"),
    "no classes": (lambda: saved((9, 9)), "?top=0", 400, "top, a whole number"),
    "another parameter": (lambda: saved((9, 9)), "?file=/etc/passwd", 400, "the only parameter is top"),
}


def floats() -> bytes:
    content = io.BytesIO()
    Image.new("F", (2, 2)).save(content, "TIFF")
    return content.getvalue()


def test_bad_requests_are_one_line_each_and_the_service_stays_up(service, photo):
    for body, query, status, why in BAD.values():
        before = len(service.log())
        found, answer = service.predict(body(), query)
        assert (found, why in answer["error"]) == (status, True), answer
        assert len(service.log()) == before + 1
        assert why in service.log()[-1]
    for method, path, status in (
        ("GET", "/predict", 405), ("POST", "/healthz", 405), ("GET", "/../../etc/passwd", 404),
        ("GET", "/model.onnx", 404),
        ("GET", "//etc/passwd", 404), ("DELETE", "/", 404),
    ):  # fmt: skip
        assert service.ask(method, path)[0] == status, path
    form = b"--x\r\nContent-Disposition: form-data; name=a; filename=a.jpg\r\n\r\n" + photo + b"\r\n--x--\r\n"
    assert service.ask("POST", "/predict", form, **{"Content-Type": "multipart/form-data; boundary=x"})[0] == 415
    assert service.predict(photo)[0] == 200
    assert all(line.isprintable() for line in service.log())


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (("Content-Length: -5",), 400),
        (("Content-Length: abc",), 400),
        (("Content-Length: 3", "Content-Length: 4"), 400),
        (("Content-Length: 1000000000000",), 413),
        (("User-Agent: a\x1b[31m\x07", "Content-Length: 3"), 400),
        (("Transfer-Encoding: chunked", "", "-5"), 400),
    ],
)
def test_a_head_that_the_server_refuses_is_one_line(service, photo, lines, status):
    before = len(service.log())
    connection = send_head(service.port, "POST /predict HTTP/1.1", *lines)
    with suppress(OSError):
        connection.sendall(photo)  # the rest of a refused request is no request of its own
    with suppress(OSError):
        assert int(connection.recv(100).split()[1]) == status
        while connection.recv(1000):
            pass
    connection.close()
    service.wait_for(f": {status} ")
    time.sleep(0.5)
    assert len(service.log()) == before + 1, service.log()[before:]
    assert service.predict(photo)[0] == 200


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1)])
def test_tiny_and_long_images_are_classified(service, size):
    status, answer = service.predict(saved(size))
    assert (status, len(answer["guesses"])) == (200, 1)


def send_head(port: int, *lines: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.sendall("\r\n".join((*lines, "Host: a", "", "")).encode())
    return connection


def test_an_upload_of_500_mb_is_refused_before_it_is_sent(service, photo):
    memory = psutil.Process(service.process.pid).memory_info().rss
    with send_head(service.port, "POST /predict HTTP/1.1", "Content-Length: 500000000") as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
    chunks = send_head(service.port, "POST /predict HTTP/1.1", "Transfer-Encoding: chunked")
    with chunks, suppress(OSError):  # without a length, the upload stops at the limit
        for _ in range(100):
            chunks.sendall(b"f4240\r\n" + bytes(1_000_000) + b"\r\n")
    service.wait_for("413")
    assert psutil.Process(service.process.pid).memory_info().rss - memory < 40e6
    assert service.predict(photo)[0] == 200


def test_clients_that_hang_are_closed_and_hold_up_nobody(bundled, tmp_path, photo):
    with serving(bundled, tmp_path / "log", "--timeout", 2) as service:
        half = [send_head(service.port, "POST /predict HTTP/1.1", "Content-Length: 1000") for _ in range(30)]
        silent = [socket.create_connection(("127.0.0.1", service.port), timeout=30) for _ in range(10)]
        assert service.predict(photo)[0] == 200
        started = time.monotonic()
        while time.monotonic() - started < 20:  # a byte now and then does not extend the time
            time.sleep(0.5)
            try:
                half[0].sendall(b"x")
            except OSError:
                break
        assert 1 < time.monotonic() - started < 15
        half[0].close()
        for connection in (*half[1:], *silent):
            assert connection.recv(100) == b""
            connection.close()
        assert sum("was not complete within 2 s" in line for line in service.log()) == 30
        assert service.predict(photo)[0] == 200


def test_fifty_clients_get_answers_between_bad_ones(service, photo):
    bodies = [photo, b"hello", photo[:150], saved((1, 1))]

    def client(number: int) -> Counter:
        kept = http.client.HTTPConnection("127.0.0.1", service.port, timeout=120)
        found: Counter = Counter()
        for turn in range(8):
            body = bodies[(number + turn) % len(bodies)]
            kept.request("POST", "/predict", body)
            answer = kept.getresponse()
            found[body, answer.status] += 1
            answer.read()
        kept.close()
        return found

    with ThreadPoolExecutor(50) as pool:
        total = sum(pool.map(client, range(50)), Counter())
    assert total == {(bodies[0], 200): 100, (bodies[1], 400): 100, (bodies[2], 400): 100, (bodies[3], 200): 100}
    assert metric(service, "waiting") == 0
    assert metric(service, 'requests_total{path="/predict",status="200"}') == 200


def test_too_many_waiting_requests_are_refused_at_once(bundled, tmp_path):
    large = saved((4000, 4000))
    with serving(bundled, tmp_path / "log", "--max-waiting", 2) as service:
        with ThreadPoolExecutor(12) as pool:
            found = Counter(status for status, _ in pool.map(service.predict, [large] * 12))
        assert found.keys() == {200, 503}
        assert found[200] >= 2
        assert "too many requests wait" in service.wait_for("503")
        assert service.predict(large)[0] == 200


def test_an_answer_that_takes_too_long_is_refused(bundled, tmp_path, photo):
    with serving(bundled, tmp_path / "log", "--timeout", 0.05, "--max-megapixels", 50) as service:
        with ThreadPoolExecutor(4) as pool:
            found = [status for status, _ in pool.map(service.predict, [saved((6000, 6000))] * 4)]
        assert 503 in found
        assert "no answer within 0.05 s" in service.wait_for("no answer")


def test_two_services_on_one_port(bundled, service, photo):
    command = [sys.executable, str(bundled / "serve.py"), "--port", str(service.port)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (second.returncode, len(second.stderr.splitlines())) == (1, 1)
    assert "Another program uses the port. Pass another --port" in second.stderr
    assert service.predict(photo)[0] == 200


def test_a_replaced_model_is_refused_by_its_hash(own_bundle, tmp_path, photo):
    model = own_bundle / "model.onnx"
    good = model.read_bytes()
    with serving(own_bundle, tmp_path / "log") as service:
        before = service.predict(photo)[1]["guesses"]
        model.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        assert "refused model.onnx" in service.wait_for("sha256")
        assert service.ask("GET", "/healthz")[1]["model_file_ok"] is False
        assert metric(service, "model_file_ok") == 0
        assert service.predict(photo)[1]["guesses"] == before
        again = subprocess.run(
            [sys.executable, str(own_bundle / "serve.py"), "--port", "0"], capture_output=True, text=True, timeout=60
        )
        assert (again.returncode, len(again.stderr.splitlines())) == (1, 1)
        assert "the model has another hash than in bundle.json: model.onnx" in again.stderr
        model.unlink()
        model.write_bytes(good)
        service.wait_for("the loaded file again")
        assert service.ask("GET", "/healthz")[1]["model_file_ok"] is True
        assert len(service.log()) == 3


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")  # noqa: PTH110
def test_a_full_disk_stops_no_answer(bundled, tmp_path, photo):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, str(bundled / "serve.py"), "--port", str(port), "--log", "/dev/full"]
    process = subprocess.Popen(command)
    service = Running(process, port, tmp_path / "none")
    try:
        for _ in range(300):
            with suppress(OSError):
                service.ask("GET", "/healthz")
                break
            time.sleep(0.1)
        assert service.predict(b"no image")[0] == 400
        assert service.predict(photo)[0] == 200
        assert metric(service, "log_lines_lost_total") == 2
    finally:
        process.kill()
        process.wait()


def test_a_service_manager_ends_the_service_with_code_0(service):
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(30) == 0
    assert service.log()[-1].endswith("stopped")


def test_the_folder_stays_as_it_was(bundled, service, photo):
    before = {path.name for path in bundled.iterdir()}
    service.predict(photo)
    assert {path.name for path in bundled.iterdir()} == before
    assert "__pycache__" not in before


def test_the_first_answer_comes_within_seconds(bundled, tmp_path, photo):
    started = time.monotonic()
    with serving(bundled, tmp_path / "log") as service:
        assert service.predict(photo)[0] == 200
    assert time.monotonic() - started < 20, "under 2 s on an idle machine"


def test_memory_stays_constant(service, photo):
    process = psutil.Process(service.process.pid)
    kept = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)

    def requests(count: int) -> int:
        for turn in range(count):
            kept.request("POST", "/predict", photo if turn % 4 else b"hello")
            kept.getresponse().read()
        return process.memory_info().rss

    after_warm_up = requests(400)
    assert requests(1200) - after_warm_up < 5e6
    kept.close()
