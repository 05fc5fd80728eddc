"""Compare the model and its preprocessing with the golden answers, and measure the latency on this device."""

import sys
import time
from pathlib import Path

import numpy as np
from edge_model import Classifier
from edge_preprocess import preprocess
from PIL import Image

MAX_PIXEL_DIFF = 1e-5  # of a normalized pixel, far below one gray level (about 0.02)
# Most that bundle.json may allow the logits, as a share of the largest, by arithmetic.
MAX_REL_DIFF = {"f32": 1e-4, "f16-weights": 2e-2, "f16": 2e-2, "bf16": 1e-1, "int8": 1.0}
REPETITIONS = 5
WARM_UP_SECONDS = 1.0
FEWEST_RUNS = 20  # per repetition, also on slow devices
Check = tuple[str, bool, str]  # name, passed, detail


def check_model(folder: Path, threads: "int | None", seconds: float, rows: list) -> "list[Check]":
    """Check preprocessing and outputs against the golden ones, and append the measured latency to `rows`."""
    classifier = Classifier(folder, threads)
    with np.load(folder / "golden.npz", allow_pickle=False) as stored:
        golden = dict(stored)
    arithmetic = golden_arithmetic(classifier)
    limit = classifier.about["max_rel_diff"][arithmetic]
    if not 0 < limit <= MAX_REL_DIFF[arithmetic]:
        raise ValueError(f"bundle.json allows a difference of {limit:g}, more than {MAX_REL_DIFF[arithmetic]:g}")
    logits, embeddings = classifier.outputs(golden["inputs"])
    known = len(classifier.labels) - len(classifier.added.names if classifier.added else ())
    if logits.shape[1:] != (known,):
        raise ValueError(f"the model has {logits.shape[1]} classes, labels.txt has {known}")
    checks = [
        check_preprocessing(golden, classifier.steps),
        check_outputs(golden["logits"], logits, limit),
    ]
    if "embeddings" in golden or embeddings is not None or classifier.embedding_size:
        checks.append(check_embeddings(golden.get("embeddings"), embeddings, classifier.embedding_size, limit))
    rows.append(latency_row(classifier, golden["inputs"][:1], seconds))
    return checks


def check_preprocessing(golden: dict, steps: dict) -> Check:
    """Check that preprocessing turns the golden images into the golden inputs."""
    worst = 0.0
    for row, expected in enumerate(golden["inputs"]):
        made = preprocess(Image.fromarray(golden[f"image_{row:03d}"]), steps)
        if made.shape != expected.shape:
            return ("preprocessing", False, f"inputs have shape {made.shape}, expected {expected.shape}")
        worst = max(worst, float(np.abs(made - expected).max()))
    return ("preprocessing", worst <= MAX_PIXEL_DIFF, f"largest difference {worst:.2g}, allowed {MAX_PIXEL_DIFF}")


def check_outputs(expected: np.ndarray, logits: np.ndarray, limit: float) -> Check:
    """Check logits (N, classes) against the golden ones; a class may change only if rounding can explain it."""
    if logits.shape != expected.shape or not np.isfinite(logits).all():
        return ("outputs", False, f"shape {logits.shape}, or a logit is NaN or Inf")
    scale = float(np.abs(expected).max())
    difference = float(np.abs(logits - expected).max()) / scale if scale else float(np.abs(logits).max())
    rows, before, after = np.arange(len(expected)), expected.argmax(axis=1), logits.argmax(axis=1)
    margin = float((expected[rows, before] - expected[rows, after]).max())
    passed = difference <= limit and margin <= 2 * limit * scale
    flips = int((before != after).sum())
    return ("outputs", passed, f"largest difference {difference:.2g}, allowed {limit:g}; {flips} classes changed")


def check_embeddings(expected: "np.ndarray | None", embeddings: "np.ndarray | None", size: int, limit: float) -> Check:
    """Check embeddings (N, k) against the golden ones."""
    if expected is None or embeddings is None or embeddings.shape != expected.shape or expected.shape[1:] != (size,):
        shapes = [None if values is None else values.shape for values in (embeddings, expected)]
        return ("embeddings", False, f"shape {shapes[0]}, golden {shapes[1]}, bundle.json states {size} values")
    if not np.isfinite(embeddings).all():
        return ("embeddings", False, "a value is NaN or Inf")
    scale = float(np.abs(expected).max())
    difference = float(np.abs(embeddings - expected).max()) / (scale or 1.0)
    return ("embeddings", difference <= limit, f"largest difference {difference:.2g}, allowed {limit:g}")


def golden_arithmetic(classifier) -> str:
    """Return the arithmetic that sets the limit of the logits; int8 kernels differ between processors."""
    return "int8" if classifier.about["precision"] == "int8" else classifier.arithmetic


def latency_row(classifier, image, seconds: float) -> dict:
    """Measure the latency of one input (1, 3, S, S); return a row in the format of a latency profile."""
    about = classifier.about
    return {
        "model": about["student"], "img_size": about["img_size"], "batch": 1,
        "runtime": about["runtime"], "runtime_version": classifier.runtime_version,
        "threads": classifier.threads, "precision": about["precision"], "arithmetic": classifier.arithmetic,
        **measure(lambda: classifier.logits(image), seconds),
        "process_peak_memory_mb": process_peak_memory_mb(), "source": "measured",
    }  # fmt: skip


def measure(run, seconds: float) -> dict:
    """Measure `run()` in ms: percentiles over all calls, and the lowest and highest median of a repetition."""
    repeat(run, WARM_UP_SECONDS, 3)
    parts = [repeat(run, seconds / REPETITIONS, FEWEST_RUNS) for _ in range(REPETITIONS)]
    every, medians = np.concatenate(parts), [float(np.median(part)) for part in parts]
    p50, p90, p99 = (float(np.percentile(every, share)) for share in (50, 90, 99))
    return {
        "p50_ms": p50, "p90_ms": p90, "p99_ms": p99,
        "low_ms": min(*medians, p50), "high_ms": max(*medians, p50), "runs": len(every),
    }  # fmt: skip


def repeat(run, seconds: float, fewest: int) -> list:
    """Return the milliseconds of each call, for `seconds` and at least `fewest` calls."""
    times, end = [], time.perf_counter() + seconds
    while len(times) < fewest or time.perf_counter() < end:
        started = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - started))
    return times


def process_peak_memory_mb() -> "float | None":
    """Return the peak memory of this process in 10^6 bytes; None if the system does not report it."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
