"""Decoding in threads with a limit on memory in flight."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest
from PIL import Image

from tcs_edge.data import load_images, parallel
from tcs_edge.data.decode import decoded_bytes
from tcs_edge.data.images import content_hash
from tcs_edge.data.parallel import ByteBudget, map_images


def test_results_come_in_order():
    def work(item):
        time.sleep(0.002 * (5 - item % 5))
        return item * item

    assert list(map_images(work, range(40), lambda item: 1)) == [item * item for item in range(40)]


@pytest.mark.parametrize("cores", [1, 3, 32])
def test_usable_cores_and_the_budget_limit_the_work_in_flight(monkeypatch, cores):
    monkeypatch.setattr(parallel, "usable_cores", lambda: cores)
    monkeypatch.setattr(parallel, "BYTES_IN_FLIGHT", 100)
    lock, state = threading.Lock(), {"now": 0, "bytes": 0, "most": 0, "most_bytes": 0}

    def work(cost):
        with lock:
            state["now"] += 1
            state["bytes"] += min(cost, 100)
            state["most"] = max(state["most"], state["now"])
            state["most_bytes"] = max(state["most_bytes"], state["bytes"])
        time.sleep(0.003)
        with lock:
            state["now"] -= 1
            state["bytes"] -= min(cost, 100)

    list(map_images(work, [10, 30, 500, 5, 60, 60, 1, 100] * 8, lambda cost: cost))
    assert state["most"] <= cores
    assert state["most_bytes"] <= 100


def test_a_failure_gives_its_bytes_back(monkeypatch):
    monkeypatch.setattr(parallel, "BYTES_IN_FLIGHT", 10)

    def work(item):
        raise ValueError(item)

    with pytest.raises(ValueError, match="0"):
        list(map_images(work, range(5), lambda item: 10))


def test_closing_drops_the_remaining_items(monkeypatch):
    monkeypatch.setattr(parallel, "usable_cores", lambda: 1)
    done = []

    def work(item):
        time.sleep(0.005)
        done.append(item)

    with closing(map_images(work, range(1000), lambda item: 1)) as results:
        next(results)
    assert len(done) < 100


def test_bytes_above_the_budget_are_taken_alone():
    budget = ByteBudget(10)
    assert budget.take(50) == 10
    budget.give_back(10)
    assert (budget.take(4), budget.take(6)) == (4, 6)


def test_the_check_of_a_folder_uses_the_usable_cores(tmp_path, fill, monkeypatch):
    for seed, name in enumerate(("cat", "dog")):
        fill(tmp_path / name, 10, seed)
    threads = set()
    monkeypatch.setattr(os, "cpu_count", lambda: 32)
    monkeypatch.setattr(parallel, "usable_cores", lambda: 2)
    monkeypatch.setattr(
        "tcs_edge.data.check.content_hash", lambda path: threads.add(threading.get_ident()) or content_hash(path)
    )
    load_images(tmp_path)
    assert 1 <= len(threads) <= 2


def test_the_estimate_follows_pixels_and_mode(tmp_path):
    for name, mode in (("a.png", "RGB"), ("b.png", "RGBA"), ("c.jpg", "RGB")):
        Image.new(mode, (100, 50)).save(tmp_path / name)
    Image.new("RGB", (100, 50)).save(tmp_path / "d.jpg", progressive=True)
    (tmp_path / "e.jpg").write_text("text")
    costs = [decoded_bytes(tmp_path / name, check) for check in (False, True) for name in ("a.png", "b.png", "c.jpg")]
    assert costs == [40_000, 80_000, 40_000, 40_000, 80_000, 5000]
    assert decoded_bytes(tmp_path / "d.jpg", check_only=True) == 30_000
    assert decoded_bytes(tmp_path / "e.jpg") == decoded_bytes(tmp_path / "gone.jpg") == 0


MEASURE = """
import sys
from pathlib import Path
from tcs_edge.data import Preprocess, load_images, parallel
from tcs_edge.data.cache import crop_all
parallel.usable_cores = lambda: 32
images = load_images(Path(sys.argv[1])).train
crop_all(images, range(len(images)), Preprocess(64), "cropping")
status = Path("/proc/self/status").read_text()
print(int(status.split("VmHWM:")[1].split()[0]) // 1000)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory in /proc")
def test_memory_does_not_grow_with_the_number_of_cores(tmp_path):
    for row, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        for index in range(12):
            photo = Image.new("RGB", (4000, 3000), (20 * index, 100 * row, 50))
            photo.save(tmp_path / name / f"{index}.jpg", quality=30)
    done = subprocess.run([sys.executable, "-c", MEASURE, tmp_path], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1000, "24 photos of 96 MB each would need 2300 MB at once"
