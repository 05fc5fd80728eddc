"""Parts of the GPU check: results on the device against the CPU, resumed runs, several processes."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from gpu_figures import (
    CUDA,
    DEVICE,
    FEW_ROWS,
    PRECISIONS,
    ROWS,
    WORK,
    part,
    show,
    shown,
)
from gpu_networks import device, make_method, make_simkd, make_student, random_batches, train
from torch import Tensor, nn

from tcs_edge.methods import Batch
from tcs_edge.training import trainer
from tcs_edge.training.modes import deterministic


@contextlib.contextmanager
def without_tf32() -> Iterator[None]:
    """Full float32 in convolutions and products."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@part("agreement", 40)
def agreement() -> dict[str, Any]:
    """Losses of three steps on the device against float32 on the CPU, from the same weights, batches and seeds.

    Only the first loss has a limit: AdamW's first steps have the size of the learning rate whatever the gradient, so
    that rounding shows in the weights.
    """
    found = {}
    batches = random_batches(3, 16, rows=FEW_ROWS)

    def losses(where: str, name: str, amp: str = "no") -> tuple[list[float], dict[str, Tensor]]:
        backbone, width = make_student()
        logged: list[float] = []
        method = make_method(name, width, FEW_ROWS)

        def log(metrics: dict[str, Any]) -> None:
            logged.append(metrics["loss"])

        train(backbone, method, lambda epoch: batches[epoch : epoch + 1], 1, 3, 16, where, amp=amp, log=log)
        return logged, {name: value.detach().float().cpu() for name, value in backbone.state_dict().items()}

    for name in ("ce", "tcs", "tcs-lsh"):
        expected, weights = losses("cpu", name)
        kernels = [key for key, value in weights.items() if value.ndim > 1]
        for amp, limit in {"no": 1e-4, "bf16": 3e-2, "fp16": 1e-2}.items():
            if amp not in PRECISIONS:
                continue
            with without_tf32():
                got, moved = losses(DEVICE, name, amp)
            first = abs(got[0] - expected[0]) / abs(expected[0])
            worst = max(float((moved[key] - weights[key]).norm() / (weights[key].norm() + 1e-6)) for key in kernels)
            found[f"{name} {amp}"] = {"first_loss": first, "worst_kernel": worst}
            note = f"losses {shown(got, 5)} / {shown(expected, 5)}, worst kernel {worst:.2e}, limit <= {limit:g}"
            show(f"{DEVICE} {amp} against cpu fp32, {name}: first loss", first, note, first <= limit)
    return found


@part("resume", 40)
def resume() -> dict[str, Any]:
    """Weights of a run that stopped after two of four epochs and went on, against a run without a break.

    Deterministic runs are equal to the bit; of others, the difference of two whole runs sets the limit.
    """
    found = {}
    trainer.SECONDS_BETWEEN_CHECKPOINTS = -1.0  # a checkpoint after every epoch
    batches = random_batches(4, 16, rows=FEW_ROWS)

    class Stop(Exception):
        """Ends a run early."""

    def weights(path: Path, amp: str, repeatable: bool, stop_after: int = 0, again: bool = False) -> dict[str, Tensor]:
        backbone, width = make_student()
        method = make_method("tcs", width, FEW_ROWS)

        def log(metrics: dict[str, Any]) -> None:
            if stop_after and metrics["epoch"] > stop_after:
                raise Stop

        with contextlib.suppress(Stop), deterministic(repeatable):
            train(
                backbone, method, lambda epoch: batches, 4, 4, 16, amp=amp, ema_decay=0.9, deterministic=repeatable,
                checkpoint=path, resume=again, log=log,
            )  # fmt: skip
        states = {"backbone": backbone.state_dict(), "method": method.state_dict()}
        return {f"{part}.{key}": value.float().cpu() for part, state in states.items() for key, value in state.items()}

    for amp, repeatable in (("no", True), ("bf16", True), ("fp16", False), ("bf16", False)):
        if amp not in PRECISIONS:
            continue
        with tempfile.TemporaryDirectory(dir=WORK) as folder:
            whole, twin = (weights(Path(folder) / name, amp, repeatable) for name in ("whole", "twin"))
            weights(Path(folder) / "broken", amp, repeatable, stop_after=2)
            resumed = weights(Path(folder) / "broken", amp, repeatable, again=True)
        difference, noise = (
            max(float((whole[key] - one[key]).abs().max()) for key in whole) for one in (resumed, twin)
        )
        found[f"{amp} deterministic={repeatable}"] = {"difference": difference, "noise": noise}
        limit = max(noise * 3, 0 if repeatable else 1e-4)
        note = f"two whole runs: {noise:.2e}, limit <= {limit:.2g}"
        show(
            f"resumed, amp={amp} deterministic={repeatable}: largest difference", difference, note, difference <= limit
        )
    return found


@part("deterministic", 25)
def deterministic_methods() -> dict[str, str]:
    """Each method with --deterministic: it runs, or PyTorch names the operation that it refuses."""
    found = {}
    for name in ("ce", "tcs", "tcs-lsh", "kd", "simkd"):
        try:
            if name == "simkd":
                backbone, method = make_simkd()
            else:
                backbone, width = make_student()
                method = make_method(name, width, FEW_ROWS)
            batches = random_batches(2, 8, rows=FEW_ROWS)
            with deterministic(True):
                train(backbone, method, lambda epoch, rows=batches: rows, 2, 1, 8, deterministic=True)
            found[name] = "runs"
        except Exception as error:
            found[name] = f"{type(error).__name__}: {str(error)[:160]}"
        show(f"--deterministic {name}", found[name][:60], ok=found[name] == "runs" or "deterministic" in found[name])
    return found


@part("wrapped", 25)
def wrapped() -> float:
    """One process under DistributedDataParallel; cached targets must not be among the buffers it broadcasts."""
    distributed = torch.distributed
    with tempfile.TemporaryDirectory(dir=WORK) as folder:
        backend = "nccl" if CUDA else "gloo"
        distributed.init_process_group(backend, init_method=f"file://{folder}/rendezvous", rank=0, world_size=1)
        try:
            backbone, width = make_student()
            trainee = trainer.Trainee(backbone, make_method("tcs", width)).to(device())
            parallel = nn.parallel.DistributedDataParallel(trainee, device_ids=[0] if CUDA else None)
            losses = parallel(Batch(*random_batches(1, 8, DEVICE)[0]))
            losses.total.backward()
            show("loss under DDP", float(losses.total.detach()), ok=bool(losses.total.isfinite()))
            broadcast, state = (
                sum(one.numel() * one.element_size() for one in tensors) / 1e6
                for tensors in (parallel.modules_buffers, trainee.state_dict().values())
            )
            note = f"MB for {ROWS} images, limit: {state:.1f} MB of a checkpoint"
            show("buffers broadcast before every forward pass", broadcast, note, broadcast < state)
            return broadcast
        finally:
            distributed.destroy_process_group()
