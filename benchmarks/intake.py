"""Measure time and memory of the first and the second look at a folder of images.

python benchmarks/intake.py [--images 1000 10000 100000] [--work DIR]

The images are small generated JPEG files in 100 classes. The first look decodes and hashes all of them. The second one
only looks at the state of the files. Each look is a process of its own. Memory is what the process holds for the set
of images afterwards, and its peak above the start; both in bytes for each image.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

CLASSES, SIDE_PX = 100, 32
SAMPLE_S = 0.01


def make_images(folder: Path, count: int) -> None:
    """Write `count` different JPEG files of 32 px, in 100 class folders."""
    rng = np.random.default_rng(count)
    for label in range(CLASSES):
        place = folder / f"class{label:03d}"
        place.mkdir(parents=True)
        for number in range(count // CLASSES):
            coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
            coarse.resize((SIDE_PX, SIDE_PX)).save(place / f"photo_{label:03d}_{number:06d}.jpg", quality=80)


class Peak:
    """Largest resident memory of this process while a block runs."""

    def __enter__(self) -> Peak:
        self._own = psutil.Process()
        self.start = self.bytes = self._own.memory_info().rss
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            self.bytes = max(self.bytes, self._own.memory_info().rss)


def look(folder: Path) -> dict[str, float]:
    """Load the images of `folder` in this process; return seconds, CPU seconds and bytes for each image."""
    import tracemalloc

    from tcs_edge.data import load_images
    from tcs_edge.utils.allocator import return_freed_memory

    load_images(None)  # imports and their memory do not count
    gc.collect()
    return_freed_memory()
    with Peak() as peak:
        started, cpu = time.perf_counter(), time.process_time()
        images = load_images(folder)
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    count = len(images.train) + len(images.val) + len(images.test)
    del images
    gc.collect()
    tracemalloc.start()  # numpy reports its arrays too; it slows the load down, so it measures memory only
    images = load_images(folder)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0]
    return {
        "images": count, "classes": len(images.classes), "seconds": seconds, "cpu_seconds": cpu_seconds,
        "held": held / count, "peak": (peak.bytes - peak.start) / count,
    }  # fmt: skip


def measure(count: int, work: Path) -> list[dict[str, float]]:
    """Return the first and the second look at `count` images."""
    folder, cache = work / f"images-{count}", work / f"cache-{count}"
    make_images(folder, count)
    time.sleep(2.5)  # younger files would be hashed once more
    environment = os.environ | {"TCS_EDGE_CACHE": str(cache)}
    found = []
    for _ in range(2):
        command = [sys.executable, __file__, "--look", str(folder)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout))
    found[1]["store"] = sum(path.stat().st_size for path in cache.iterdir()) / count
    shutil.rmtree(folder)
    shutil.rmtree(cache)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--work", type=Path, help="folder for the images. Default: the system's temporary folder")
    parser.add_argument("--look", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.look:
        print(json.dumps(look(given.look)))
        return
    heads = ("first s", "its CPU s", "second s", "its CPU s", "held B/image", "peak B/image", "store B/image")
    widths = (9, 9, 9, 9, 13, 13, 13)
    print(" images", *(f"{head:>{width}}" for head, width in zip(heads, widths, strict=True)), flush=True)
    with tempfile.TemporaryDirectory(dir=given.work, prefix="intake-") as folder:
        for count in given.images:
            first, second = measure(count, Path(folder))
            facts = (first["seconds"], first["cpu_seconds"], second["seconds"], second["cpu_seconds"])
            memory = (second["held"], second["peak"], second["store"])
            cells = [f"{count:>7,}", *(f"{value:>9.2f}" for value in facts), *(f"{value:>13.0f}" for value in memory)]
            print(" ".join(cells), flush=True)


if __name__ == "__main__":
    main()
