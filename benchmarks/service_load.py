"""Measure the HTTP service of a bundle: first answer, one client, fifty clients, and memory over many requests.

    python benchmarks/service_load.py --bundle bundle/ --images eurosat/test --requests 100000

The clients are threads of this process on the same machine, so they take some of its cores. Every tenth body of the
memory test is no image. Prints one line per figure. Exits 1 if the memory grew by more than `MOST_GROWTH_MB`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

PORT, CLIENTS, SECONDS, ALONE, STEP = 8767, 50, 15.0, 500, 5000
IMAGES = 120
MOST_GROWTH_MB = 5.0


def main() -> int:
    arguments = parse_arguments()
    files = sorted(path for path in arguments.images.rglob("*") if path.suffix.lower() in (".jpg", ".png"))
    bodies = [path.read_bytes() for path in files[:: max(1, len(files) // IMAGES)]]
    command = [sys.executable, str(arguments.bundle / "serve.py"), "--port", str(PORT), "--threads", "1"]
    started = time.perf_counter()
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as service:
        try:
            first_answer(bodies[0])
            tell(f"start to first answer: {time.perf_counter() - started:.2f} s")
            one_client(bodies)
            many_clients(bodies)
            grown_mb = memory(psutil.Process(service.pid), bodies, arguments.requests)
        finally:
            service.terminate()
    return int(grown_mb > MOST_GROWTH_MB)


def first_answer(body: bytes) -> None:
    """Ask until the service listens and answers."""
    while True:
        try:
            ask(connection(), body)
            return
        except ConnectionRefusedError:
            time.sleep(0.01)


def one_client(bodies: list[bytes]) -> None:
    """Print the wall time of a request on a kept connection, beside the parts that the service names."""
    kept, wall_ms, parts_ms = connection(), [], []
    for turn in range(ALONE):
        started = time.perf_counter()
        answer = ask(kept, bodies[turn % len(bodies)])
        wall_ms.append(1e3 * (time.perf_counter() - started))
        parts_ms.append(json.loads(answer)["ms"])
    parts = (f"{name} {statistics.median(one[name] for one in parts_ms):.2f}" for name in parts_ms[0])
    rate = 1e3 * ALONE / sum(wall_ms)
    tell(f"one client: median {statistics.median(wall_ms):.2f} ms ({', '.join(parts)}), {rate:.0f} answers/s")


def many_clients(bodies: list[bytes]) -> None:
    """Print the answers a second to `CLIENTS` clients with kept connections."""
    end = time.perf_counter() + SECONDS

    def answers(client: int) -> int:
        kept, count = connection(), 0
        while time.perf_counter() < end:
            ask(kept, bodies[client % len(bodies)])
            count += 1
        return count

    with ThreadPoolExecutor(CLIENTS) as clients:
        total = sum(clients.map(answers, range(CLIENTS)))
    tell(f"{CLIENTS} clients: {total / SECONDS:.0f} answers/s")


def memory(service: psutil.Process, bodies: list[bytes], requests: int) -> float:
    """Print the resident memory every `STEP` requests; return its growth in 10^6 bytes."""
    kept, resident_mb = connection(), [service.memory_info().rss / 1e6]
    for turn in range(1, requests + 1):
        ask(kept, b"no image" if turn % 10 == 0 else bodies[turn % len(bodies)])
        if turn % STEP == 0 or turn == requests:
            resident_mb.append(service.memory_info().rss / 1e6)
            tell(f"{turn} requests: {resident_mb[-1]:.1f} MB, {service.num_fds()} open files")
    return resident_mb[-1] - resident_mb[0]


def connection() -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)


def ask(kept: http.client.HTTPConnection, body: bytes) -> bytes:
    """Return the answer to one image; a body that is no image gets 400."""
    kept.request("POST", "/predict", body)
    answer = kept.getresponse()
    content = answer.read()
    if answer.status != (400 if body == b"no image" else 200):
        raise RuntimeError(f"status {answer.status}: {content[:200]!r}")
    return content


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True, help="folder of JPEG or PNG images, at any depth")
    parser.add_argument("--requests", type=int, default=100_000)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
