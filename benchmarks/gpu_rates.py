"""Parts of the GPU check: training rates, memory, waits of the host, torch.compile."""

from __future__ import annotations

import gc
import math
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import accelerate
import timm
import torch
import torchvision
from gpu_figures import (
    AMP,
    BATCH,
    CUDA,
    DEVICE,
    MEMORY_LIMITS,
    PRECISIONS,
    RATE_LIMITS,
    ROWS,
    SIZE,
    SMALL,
    STEPS,
    Rows,
    left,
    part,
    seconds,
    show,
    shown,
    sync,
)
from gpu_networks import device, make_method, make_student, random_batches, train

from tcs_edge.students.build import feature_dim
from tcs_edge.students.features import features_before_training
from tcs_edge.training import trainer
from tcs_edge.training.accelerator import make_accelerator


@part("env", 1)
def env() -> dict[str, Any]:
    """Versions, and the defaults that the device leads to."""
    facts = {
        "python": sys.version.split()[0],
        **{module.__name__: module.__version__ for module in (torch, torchvision, timm, accelerate)},
        "cuda": torch.version.cuda,
        "gpu": torch.cuda.get_device_name() if CUDA else "none",
        "cores": os.cpu_count(),
        "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
        "tf32_conv": torch.backends.cudnn.allow_tf32,
    }
    for name, value in facts.items():
        show(name, value)
    chosen = make_accelerator("auto").device
    show("device of 'auto'", chosen, ok=not CUDA or chosen.type == "cuda")
    show("precision of --amp auto", make_accelerator(DEVICE, "auto").mixed_precision, "bf16 on an H100")
    return facts


@part("student-features", 15)
def student_features() -> int:
    """Features of an untrained student on the device; the width of its features can be read afterwards too."""
    backbone, _ = make_student()
    got = features_before_training(backbone, (images for images, *_ in random_batches(2, 8)), device(), "test")
    show("features before training", str(got.shape), ok=got.shape[0] == 16)
    show("  backbone is then on", next(backbone.parameters()).device)
    width = feature_dim(backbone, SIZE)
    show("feature width afterwards", width, ok=width == got.shape[1])
    return width


def rate(name: str, amp: str = "no", compiled: bool = False, ema: float = 0.0) -> dict[str, Any]:
    """Rates, peak memory and losses of three epochs of `STEPS`; the first epoch warms up and is not counted."""
    gc.collect()
    if CUDA:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    backbone, width = make_student()
    method = make_method(name, width)
    batches = random_batches(4, where=DEVICE)
    ends, losses = [], []

    def log(metrics: dict[str, Any]) -> None:
        sync()
        ends.append(time.perf_counter())
        losses.append(metrics["loss"])

    def epoch(number: int) -> Iterator[Rows]:
        return (batches[step % 4] for step in range(STEPS))

    started = time.perf_counter()
    train(backbone, method, epoch, STEPS, 3, BATCH, amp=amp, compile=compiled, ema_decay=ema, log=log)
    steps_per_s = 2 * STEPS / (ends[2] - ends[0])
    return {
        "steps_per_s": steps_per_s,
        "images_per_s": steps_per_s * BATCH,
        "first_epoch_s": ends[0] - started,
        "losses": losses,
        "peak_mb": torch.cuda.max_memory_allocated() / 1e6 if CUDA else None,
    }


@part("rates", 90)
def rates() -> dict[str, Any]:
    """Training of ce, tcs and kd at each precision, twice in turn; limits on step rate and peak memory of tcs."""
    first = {amp: {name: rate(name, amp) for name in ("ce", "tcs", "kd")} for amp in PRECISIONS}
    for amp, found in first.items():
        for name, one in found.items():
            memory = f"peak {one['peak_mb']:.0f} MB, " if CUDA else ""
            finite = all(map(math.isfinite, one["losses"]))
            show(
                f"train {name} amp={amp}", one["images_per_s"], f"img/s, {memory}losses {shown(one['losses'])}", finite
            )
    for amp, found in first.items():
        again = {name: rate(name, amp) for name in found}
        for other, limit in RATE_LIMITS.items():
            ratios = [one["tcs"]["steps_per_s"] / one[other]["steps_per_s"] for one in (found, again)]
            kept = min(ratios) >= limit if CUDA else None
            show(f"step rate tcs / {other}, amp={amp}", min(ratios), f"rounds {shown(ratios)}, limit >= {limit}", kept)
        for other, limit in MEMORY_LIMITS.items() if CUDA else ():
            ratio = found["tcs"]["peak_mb"] / found[other]["peak_mb"]
            note = f"limit <= {limit}, with the targets of {ROWS} images"
            show(f"peak memory tcs / {other}, amp={amp}", ratio, note, ratio <= limit)
    averaged, hashed = rate("tcs", AMP, ema=0.999), rate("tcs-lsh", AMP)
    show(f"train tcs with EMA, amp={AMP}", averaged["images_per_s"], "img/s")
    show(f"train tcs mimic=lsh, amp={AMP}", hashed["images_per_s"], "img/s, hashing anew at each of 20 prunings")
    return {"rates": first, "ema": averaged, "lsh": hashed}


@part("layout", 20)
def layout() -> dict[str, float]:
    """Rates of a bare training step by memory format, cuDNN benchmark and TF32, and of copies to the device."""
    found = {}

    def bare_step(
        name: str,
        memory_format: torch.memory_format = torch.channels_last,
        amp: bool = True,
        benchmark: bool = False,
        tf32: bool = False,
    ) -> None:
        torch.backends.cudnn.benchmark, torch.backends.cuda.matmul.allow_tf32 = benchmark, tf32
        model = make_student()[0].to(device(), memory_format=memory_format).train()
        images = torch.randn(BATCH, 3, SIZE, SIZE, device=device()).contiguous(memory_format=memory_format)
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)

        def step() -> None:
            optimizer.zero_grad()
            with torch.autocast(DEVICE, torch.bfloat16, enabled=amp):
                loss = model(images).float().square().mean()
            loss.backward()
            optimizer.step()

        seconds(step, 3)
        repeat = 2 if SMALL else 15
        found[name] = repeat * BATCH / seconds(step, repeat)
        show(f"bare step, {name}", found[name], "img/s")
        torch.backends.cudnn.benchmark, torch.backends.cuda.matmul.allow_tf32 = False, False

    bare_step("bf16 channels_last")
    bare_step("bf16 contiguous", torch.contiguous_format)
    bare_step("bf16 channels_last, cuDNN benchmark", benchmark=True)
    bare_step("fp32 channels_last", amp=False)
    bare_step("fp32 channels_last, TF32 matmul", amp=False, tf32=True)
    for dtype in (torch.float32, torch.uint8):
        for pinned in (False, True) if CUDA else (False,):
            images = torch.zeros(BATCH, 3, SIZE, SIZE, dtype=dtype)
            copy = (images.pin_memory() if pinned else images).to
            seconds(lambda copy=copy: copy(device(), non_blocking=True), 1)
            name = f"copy to the device, {dtype}, {'pinned' if pinned else 'pageable'}"
            found[name] = 5 * BATCH / seconds(lambda copy=copy: copy(device(), non_blocking=True), 5)
            show(name, found[name], "img/s")
    return found


@part("syncs", 20)
def syncs() -> dict[str, dict[str, int]]:
    """Source lines that make the host wait for the GPU, counted over the 12 steps of the second epoch."""
    if not CUDA:
        show("syncs", "skipped", "needs CUDA")
        return {}
    found = {}
    batches = random_batches(2, 32)

    def epoch(number: int) -> Iterator[Rows]:
        for step in range(12):
            if number == 1 and step == 0:
                torch.cuda.set_sync_debug_mode("warn")
            yield batches[step % 2]
        torch.cuda.set_sync_debug_mode("default")

    for name, amp in (("ce", "bf16"), ("tcs", "bf16"), ("kd", "bf16"), ("tcs", "fp16")):
        backbone, width = make_student()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            train(backbone, make_method(name, width), epoch, 12, 2, 32, amp=amp)
        waits = [one for one in caught if "synchroniz" in str(one.message).lower()]
        lines = Counter(f"{Path(one.filename).name}:{one.lineno}" for one in waits)
        found[f"{name} {amp}"] = dict(lines)
        note = ", ".join(f"{line} x{count}" for line, count in lines.most_common(6))
        show(f"host waits in 12 steps, {name} {amp}", len(waits), note)
    return found


@part("compile", 110)
def compiled() -> dict[str, Any]:
    """Step rate with torch.compile over the plain one, its first epoch, and its graph breaks."""
    from torch._dynamo.utils import counters

    trainer.COMPILER = os.environ.get("COMPILER") or trainer.COMPILER
    found = {}
    for name in ("tcs",) if SMALL else ("tcs", "ce", "kd"):
        if left() < 70:
            show(f"compile {name}", "skipped", f"{left():.0f} s left")
            continue
        counters.clear()
        plain, fast = rate(name, AMP), rate(name, AMP, compiled=True)
        breaks, frames = dict(counters["graph_break"]), dict(counters["frames"])
        found[name] = fast
        note = f"first epoch {fast['first_epoch_s']:.0f} s, graph breaks {sum(breaks.values())}, frames {frames}"
        show(f"compiled / plain, {name} amp={AMP}", fast["steps_per_s"] / plain["steps_per_s"], note)
        torch._dynamo.reset()
    return found
