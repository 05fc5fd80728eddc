"""Measure the latency of the exported files and of PyTorch on this machine."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tcs_edge.data import Preprocess
from tcs_edge.errors import reason_of
from tcs_edge.runs.documents import CallsRecord
from tcs_edge.runs.schema import HostLatency, LatencyHere
from tcs_edge.runtimes.base import Runner
from tcs_edge.runtimes.open import opened_runners
from tcs_edge.runtimes.timing import time_interleaved
from tcs_edge.runtimes.torch import TorchRunner
from tcs_edge.specs.config import ResolvedConfig
from tcs_edge.utils.progress import busy
from tcs_edge.utils.quiet import quiet

WARMUP = 5
FEWEST, MOST = 20, 200
BUDGET_SECONDS = 10.0
DIGITS = 4  # of a millisecond: a tenth of a microsecond


def measure_latency(
    model: nn.Module, exports: Path, preprocess: Preprocess, options: ResolvedConfig
) -> tuple[LatencyHere, CallsRecord]:
    """Measure one image in every file of `exports` and in PyTorch, in turns, with `options.threads` threads each.

    With `options.compiled_latency`, also measure compiled PyTorch; compiling can take minutes. `remarks` names
    every runner that does not run, with the reason.

    Returns:
        Percentiles for the manifest, and all timed calls for the report.
    """
    image = np.random.default_rng(0).standard_normal((1, 3, preprocess.img_size, preprocess.img_size))
    with ExitStack() as stack, busy("measuring latency"):
        runners: list[Runner] = [TorchRunner(model)]
        if options.compiled_latency:
            runners.append(_compiled(model))
        opened = opened_runners(exports, options.precision, options.threads, formats=options.format)
        runners += [stack.enter_context(runner) for runner in opened]
        runs, remarks = _running(runners, image.astype(np.float32))
        samples = time_interleaved(runs, WARMUP, _repeats(runs))
    here = LatencyHere(
        machine=f"{platform.machine()}, {platform.system()}",
        threads=options.threads,
        runtimes={name: HostLatency(**sample.to_json()) for name, sample in samples.items()},
        remarks=remarks,
    )
    calls = {name: tuple(round(each, DIGITS) for each in sample.calls_ms) for name, sample in samples.items()}
    return here, CallsRecord(calls_ms=calls)


def _running(runners: list[Runner], image: np.ndarray) -> tuple[dict[str, Callable[[], object]], tuple[str, ...]]:
    """Return a call per runner, and a remark for each that does not run; validation has failed those already."""
    runs: dict[str, Callable[[], object]] = {}
    remarks = []
    for runner in runners:
        # Without a recent C++ compiler, torch.compile can raise any exception.
        try:
            with quiet("torch"):
                runner.run(image)
        except Exception as error:
            remarks.append(f"{runner.name} was not timed: {reason_of(error)}")
        else:
            runs[runner.name] = partial(runner.run, image)
    return runs, tuple(remarks)


def _compiled(model: nn.Module) -> TorchRunner:
    runner = TorchRunner(torch.compile(model.eval()))
    runner.name = "pytorch-compiled"
    return runner


def _repeats(runs: dict[str, Callable[[], object]]) -> int:
    """Return the number of timed calls of each that fit the budget."""
    started = time.perf_counter()
    for run in runs.values():
        run()
    return max(FEWEST, min(MOST, int(BUDGET_SECONDS / (time.perf_counter() - started))))
