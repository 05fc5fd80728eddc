"""Measure every candidate with onnxruntime on this machine and write a profile.

    python benchmarks/measure_candidates.py --work-dir DIR --target x86-avx512 --out profiles/x86-avx512.json

Random weights (latency does not depend on them), fp32, batch 1. All graphs are exported first; then each
round visits every model, size and thread count once, so that slow drift of the machine hits all alike.
Runs that another process interrupted are left out. p50 is the median over rounds of each round's median;
the band is the lowest and the highest of them. The exports and the finished rounds lie in --work-dir: an
interrupted run continues where it stopped. Run it at high priority (nice -n -20) where the machine is shared,
and with a high autogroup priority (/proc/self/autogroup) where the system groups processes.
"""

from __future__ import annotations

import argparse
import platform
import resource
import time
import warnings
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import nn

from tcs_edge.errors import TcsEdgeError
from tcs_edge.files import atomic_path, read_json, write_json
from tcs_edge.specs.profile import LatencyRow, Profile, save_profile
from tcs_edge.students.build import build_student, deployable, feature_dim
from tcs_edge.students.candidates import CANDIDATES

SIZES = (32, 64, 96, 128, 160, 192, 224)
# No candidate, but the transformer that ncnn's benchmark holds: the anchor for transformers elsewhere.
REFERENCES = [("vit_base_patch32_384", 384)]
CLASSES = 10
WARMUP_RUNS = 5
MIN_RUNS, MAX_RUNS = 10, 200

Key = tuple[str, int, int]


def export(name: str, img_size: int, path: Path) -> None:
    """Write the deployed student (backbone and one Linear) as ONNX with a static batch of 1."""
    backbone = deployable(build_student(name, img_size, "random", seed=0))
    model = nn.Sequential(backbone, nn.Linear(feature_dim(backbone, img_size), CLASSES)).eval()
    image = torch.zeros(1, 3, img_size, img_size)
    # The TorchScript exporter takes 1 s where the default one takes 10; after onnxruntime's own graph
    # optimisation both run equally fast.
    with atomic_path(path) as draft, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (image,), str(draft), dynamo=False, opset_version=17, input_names=["image"])


def export_all(work: Path, inputs: list[tuple[str, int]]) -> dict[str, str]:
    """Export what is not exported yet; returns the reason of each failure by model name."""
    failed: dict[str, str] = {}
    for name, img_size in inputs:
        path = graph_path(work, name, img_size)
        if path.exists() or name in failed:
            continue
        started = time.perf_counter()
        try:
            export(name, img_size, path)
        except (TcsEdgeError, RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
            failed[name] = f"{img_size} px: {' '.join(str(error).split())[:200]}"
        print(f"export {name} {img_size} px: {time.perf_counter() - started:.1f} s", flush=True)
    return failed


def graph_path(work: Path, name: str, img_size: int) -> Path:
    return work / "onnx" / f"{name}-{img_size}.onnx"


def time_graph(path: Path, img_size: int, threads: int, seconds: float) -> list[float]:
    """Latencies in ms of single runs, after warming up."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {"image": np.random.default_rng(0).standard_normal((1, 3, img_size, img_size), dtype=np.float32)}
    for _ in range(WARMUP_RUNS):
        session.run(None, feed)
    samples: list[tuple[int, float]] = []
    stop = time.perf_counter() + seconds
    while len(samples) < MIN_RUNS or (time.perf_counter() < stop and len(samples) < MAX_RUNS):
        preempted, started = preemptions(), time.perf_counter()
        session.run(None, feed)
        elapsed = time.perf_counter() - started
        samples.append((preemptions() - preempted, elapsed * 1e3))
    return undisturbed(samples)


def preemptions() -> int:
    """How often the system took a core away from this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def undisturbed(samples: list[tuple[int, float]]) -> list[float]:
    """The runs that no other process interrupted, or the least interrupted third where those are too few."""
    clean = [ms for interruptions, ms in samples if interruptions == 0]
    if len(clean) >= len(samples) // 3:
        return clean
    return [ms for _, ms in sorted(samples)[: len(samples) // 3]]


def run_round(work: Path, number: int, keys: list[Key], seconds: float) -> dict[Key, list[float]]:
    """One visit to every key, in an order of its own; what an earlier run has measured is read back."""
    path = work / f"round-{number}.json"
    samples = read_json(path, schema_version=1)["samples_ms"] if path.exists() else {}
    order = np.random.default_rng(number).permutation(len(keys))
    missing = [keys[index] for index in order if "|".join(map(str, keys[index])) not in samples]
    for done, (name, img_size, threads) in enumerate(missing, start=1):
        graph = graph_path(work, name, img_size)
        samples[f"{name}|{img_size}|{threads}"] = time_graph(graph, img_size, threads, seconds)
        if done % 50 == 0 or done == len(missing):
            write_json(path, {"schema_version": 1, "samples_ms": samples})
            print(f"round {number}: {done} of {len(missing)}", flush=True)
    return {key: samples["|".join(map(str, key))] for key in keys}


def row(key: Key, rounds: list[list[float]]) -> LatencyRow:
    """The profile row of one model, size and thread count from its rounds of samples."""
    name, img_size, threads = key
    medians = [float(np.median(samples)) for samples in rounds]
    p50 = float(np.median(medians))
    pooled = np.concatenate(rounds)
    p90, p99 = (max(p50, float(np.quantile(pooled, q))) for q in (0.90, 0.99))
    return LatencyRow(
        model=name,
        img_size=img_size,
        runtime="onnxruntime",
        threads=threads,
        precision="fp32",
        p50_ms=round(p50, 4),
        low_ms=round(min(medians), 4),
        high_ms=round(max(medians), 4),
        p90_ms=round(p90, 4),
        p99_ms=round(p99, 4),
        source="measured",
        citation="measured",
    )


def machine() -> dict[str, str]:
    """What the figures depend on: the processor and the versions."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return {
        "cpu": model,
        "system": f"{platform.system()} {platform.machine()}, virtual machine",
        "python": platform.python_version(),
        "onnxruntime": ort.__version__,
        "torch": torch.__version__,
        "onnx": onnx.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.15)
    parser.add_argument("--models", nargs="+", default=list(CANDIDATES))
    args = parser.parse_args()

    torch.set_num_threads(1)
    inputs = list(product(args.models, SIZES)) + REFERENCES
    failed = export_all(args.work_dir, inputs)
    keys = [(name, size, count) for name, size in inputs for count in args.threads if name not in failed]
    rounds = [run_round(args.work_dir, number, keys, args.seconds) for number in range(args.rounds)]
    profile = Profile(
        target=args.target,
        machine=machine(),
        notes=tuple(f"left out: {name}, its export failed at {why}" for name, why in failed.items()),
        citations={
            "measured": "benchmarks/measure_candidates.py: random weights, batch 1, "
            f"{args.rounds} interleaved rounds of {MIN_RUNS} to {MAX_RUNS} runs "
            f"after {WARMUP_RUNS} warm-up runs, runs that other processes "
            "interrupted left out; band = lowest and highest median of a round"
        },
        rows=tuple(row(key, [samples[key] for samples in rounds]) for key in keys),
    )
    save_profile(profile, args.out)
    print(f"{len(profile.rows)} rows -> {args.out}; left out: {failed or 'none'}")


if __name__ == "__main__":
    main()
