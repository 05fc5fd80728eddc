"""Training loop of all methods.

The result is the last epoch and never the best one: the validation accuracy is logged for the reader and
selects nothing. The teacher's outputs are in the method's cached targets. Mixup and weight averaging
are here, since they are the same for every method.
"""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from tcs_edge.errors import TrainingDiverged
from tcs_edge.methods import Batch, Losses, Method
from tcs_edge.methods.rows import to_device
from tcs_edge.specs.training import TrainOptions
from tcs_edge.training.checkpoints import Progress, load_checkpoint, save_checkpoint
from tcs_edge.training.ema import WeightAverage
from tcs_edge.training.mixup import draw_mix
from tcs_edge.training.out_of_memory import fitting_batch_named
from tcs_edge.training.pace import Pace, Rows, bar_pace, pace_text
from tcs_edge.training.schedule import Schedule
from tcs_edge.utils.durations import format_seconds
from tcs_edge.utils.progress import for_bar, track
from tcs_edge.utils.ranks import current, gathered

logger = logging.getLogger(__name__)


# Reading a loss waits for the device, so losses are checked once per window of this number of steps.
FINITE_WINDOW = 10
# Writing the state takes up to a second, which would slow short epochs down if it were more frequent.
SECONDS_BETWEEN_CHECKPOINTS = 20.0
# Largest number of validations: an epoch of few labeled images is shorter than a validation.
VALIDATIONS = 20
# fp16's scaler starts at 65536 and halves at every overflow. Below one, training cannot recover.
SMALLEST_LOSS_SCALE = 1.0
COMPILER = "inductor"
RANK_STREAM = 2**40 + 15  # between the seeds of two processes


@dataclass(frozen=True)
class Data:
    """Source of batches: training batches by epoch, their number, and validation batches."""

    train: Callable[[int], Iterable[Rows]]
    steps_per_epoch: int
    val: Callable[[], Iterable[Rows]]


class Trainee(nn.Module):
    """Backbone and method as one module, so that accelerate can wrap it as a whole."""

    def __init__(self, backbone: nn.Module, method: Method) -> None:
        super().__init__()
        self.backbone = backbone
        self.method = method

    def forward(self, batch: Batch) -> Losses:
        return self.method.losses(self.backbone, batch)


def train(
    backbone: nn.Module,
    method: Method,
    data: Data,
    schedule: Schedule,
    seed: int,
    accelerator: Accelerator,
    checkpoint: Path | None = None,
    resume: bool = False,
    options: TrainOptions = TrainOptions(),
    log: Callable[[dict[str, Any]], None] = lambda metrics: None,
) -> None:
    """Train `backbone` and `method` in place for the whole schedule.

    Args:
        checkpoint: file for the state between epochs; None writes none.
        resume: continue from `checkpoint`; the result equals an uninterrupted run.
        options: options of mixup, averaging and compiling. With averaging, `backbone` and `method` end with the
            averaged weights.
        log: called with one dict of JSON values per epoch.

    Raises:
        TrainingDiverged: a loss, or a weight after an epoch, was NaN or Inf; the last checkpoint is kept.
    """
    trainee = Trainee(backbone, method)
    # One kernel for all weights, several times faster on a CPU. With fp16 it would replace the scaler's steps.
    fused = None if accelerator.scaler else True
    optimizer = torch.optim.AdamW(_parameter_groups(trainee, schedule), lr=schedule.lr, fused=fused)
    trainee.to(accelerator.device, memory_format=torch.channels_last)
    average = WeightAverage(trainee, options.ema_decay) if options.ema_decay else None
    done = load_checkpoint(checkpoint, trainee, optimizer, average) if resume and checkpoint else Progress()
    method.restore_history(done.history)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        wrapped, optimizer = accelerator.prepare(trainee, optimizer)
    if done.loss_scale and accelerator.scaler:
        accelerator.scaler.load_state_dict(done.loss_scale)
    if options.compile:
        wrapped.compile(backend=COMPILER)  # in place, so that the names of weights do not change
    todo = (schedule.epochs - done.epochs_done) * data.steps_per_epoch
    ticks = iter(track(range(todo), "distill", todo))
    run = _Run(wrapped, trainee, optimizer, average, data, schedule, options, seed, accelerator, ticks)
    saved_at = time.monotonic()
    latest: dict[str, Any] = {}
    for epoch in range(done.epochs_done, schedule.epochs):
        log(metrics := run.epoch(epoch))
        latest |= metrics
        last = epoch + 1 == schedule.epochs
        if accelerator.is_main_process:
            # The bar disappears at the end, so the last line stays outside of it.
            in_bar = None if last else for_bar(_bar_text(latest, schedule.epochs))
            logger.info(_epoch_line(metrics, schedule.epochs), extra=in_bar)
        if checkpoint and accelerator.is_main_process and (last or _due(saved_at)):
            scale = accelerator.scaler.state_dict() if accelerator.scaler else {}
            progress = Progress(epoch + 1, (epoch + 1) * data.steps_per_epoch, method.history(), scale)
            save_checkpoint(checkpoint, trainee, optimizer, average, progress)
            saved_at = time.monotonic()
    if average:
        average.keep()


def _epoch_line(metrics: dict[str, Any], epochs: int) -> str:
    accuracy = f", validation accuracy {100 * metrics['val_accuracy']:.1f} %" if "val_accuracy" in metrics else ""
    seconds = format_seconds(metrics["seconds"])
    return (
        f"epoch {metrics['epoch']} of {epochs}: loss {metrics['loss']:.3f}{accuracy}, {seconds}, {pace_text(metrics)}"
    )


def _bar_text(latest: dict[str, Any], epochs: int) -> str:
    """Text of the progress bar, with the latest measured accuracy and the pace of the last epoch."""
    accuracy = f" val {100 * latest['val_accuracy']:.1f} %" if "val_accuracy" in latest else ""
    return f"epoch {latest['epoch']}/{epochs} loss {latest['loss']:.3f}{accuracy} {bar_pace(latest)}"


def _due(saved_at: float) -> bool:
    return time.monotonic() - saved_at > SECONDS_BETWEEN_CHECKPOINTS


@dataclass
class _Run:
    wrapped: nn.Module
    trainee: Trainee
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None
    data: Data
    schedule: Schedule
    options: TrainOptions
    seed: int
    accelerator: Accelerator
    ticks: Iterator[int]

    def epoch(self, epoch: int) -> dict[str, Any]:
        """Train one epoch, validate if it is due, and return the metrics."""
        # Dropout etc. depend on the epoch and the process only.
        torch.manual_seed((epoch_seed(self.seed, epoch) + current().rank * RANK_STREAM) % 2**63)
        pace = Pace(current().size)
        self.wrapped.train()
        first = epoch * self.data.steps_per_epoch
        means = _over_ranks(_mean_parts(self._steps(pace.timed(self.data.train(epoch)), epoch, first), first))
        self._require_finite(first + self.data.steps_per_epoch - 1)
        kept = pace.metrics(self.accelerator.device)
        metrics = {"epoch": epoch + 1, "lr": self.optimizer.param_groups[0]["lr"], **means}
        if validates(epoch, self.schedule.epochs):
            metrics["val_accuracy"] = self._accuracy()
        return metrics | kept

    def _accuracy(self) -> float:
        with self.average.in_place() if self.average else nullcontext():
            accuracy: float = accuracy_of(self.trainee.backbone, self.trainee.method, self.data.val(), self.accelerator)
            return accuracy

    def _steps(self, batches: Iterable[Rows], epoch: int, first: int) -> Iterator[dict[str, Tensor]]:
        for step, rows in enumerate(batches, start=first):
            yield self._step(self._batch(rows, epoch, step), step)
            next(self.ticks, None)

    def _step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        total_steps = self.schedule.epochs * self.data.steps_per_epoch
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.lr_at(step, total_steps) * group["lr_scale"]
        self.optimizer.zero_grad()  # frees memory before the forward pass
        with fitting_batch_named(self._gradients, batch):
            with self.accelerator.autocast():
                losses = self.wrapped(batch)
            self.accelerator.backward(losses.total)
        norm = self.accelerator.clip_grad_norm_(self.wrapped.parameters(), self.schedule.grad_clip)
        # fp16: the scaler skips a step with overflowed gradients, so these must not change the scores.
        if self.accelerator.scaler is None or torch.isfinite(norm):
            self.trainee.method.after_backward(step, total_steps)
        self.optimizer.step()
        if self.average:
            self.average.update(step)
        return {"loss": losses.total.detach(), **losses.parts}

    def _gradients(self, batch: Batch) -> None:
        """Compute the gradients of a batch and drop them."""
        with self.accelerator.autocast():
            losses: Losses = self.trainee(batch)
        losses.total.backward()
        self.optimizer.zero_grad()

    def _batch(self, rows: Rows, epoch: int, step: int) -> Batch:
        device, alpha = self.accelerator.device, self.options.mixup
        found = self.trainee.method.gathered(rows[2], device)
        images, labels, index = (to_device(tensor, device) for tensor in rows)
        batch = Batch(images.contiguous(memory_format=torch.channels_last), labels, index, rows=found)
        return batch.mixed(draw_mix(len(labels), alpha, self.seed, epoch, step, device)) if alpha else batch

    def _require_finite(self, step: int) -> None:
        """Check the weights after an epoch, since no later loss shows the effect of its last step."""
        _require_finite_weights(self.trainee, step)
        if self.accelerator.scaler and self.accelerator.scaler.get_scale() < SMALLEST_LOSS_SCALE:
            raise TrainingDiverged(
                f"fp16 gradients are NaN or Inf at every scale, up to step {step}. "
                "Lower --lr or pass --amp bf16 or no. The last good checkpoint is kept."
            )


def validates(epoch: int, epochs: int) -> bool:
    """Return True if validation follows `epoch`, counted from 0: the last and every n-th, at most `VALIDATIONS`."""
    every = math.ceil(epochs / VALIDATIONS)
    return (epochs - 1 - epoch) % every == 0


def epoch_seed(seed: int, epoch: int) -> int:
    """Seed of all random numbers in one epoch, in practice distinct for every pair."""
    return (seed * 1_000_003 + epoch * 7_919 + 17) % 2**63


@torch.inference_mode()
def accuracy_of(backbone: nn.Module, method: Method, batches: Iterable[Rows], accelerator: Accelerator) -> float:
    """Top-1 accuracy of the student in its current state, in [0, 1]."""
    for part in (backbone, method):
        part.eval()
        share_buffers(part)
    correct, total = torch.zeros((), dtype=torch.int64, device=accelerator.device), 0
    for rows in batches:
        images, labels = (to_device(tensor, accelerator.device) for tensor in rows[:2])
        with accelerator.autocast() if accelerator.device.type == "cuda" else nullcontext():
            logits = method.logits(backbone, images.contiguous(memory_format=torch.channels_last))
        predicted = logits.argmax(dim=1)
        correct += (predicted == labels).sum()
        total += len(labels)
    found = sum(gathered(torch.stack([correct, torch.full_like(correct, total)])))
    right, images_seen = torch.as_tensor(found).tolist()
    return float(right / max(1, images_seen))


def share_buffers(module: nn.Module) -> None:
    """Give every process the statistics of rank 0's batch norms; each process has updated its own from its images."""
    for buffer in module.buffers() if not current().alone else ():
        if buffer.is_floating_point():  # the others are counts and masks, which are equal
            torch.distributed.broadcast(buffer, 0)


def _over_ranks(means: dict[str, float]) -> dict[str, float]:
    """Return the means over all processes, whose batches are equally large."""
    if current().alone:
        return means
    parts = gathered(torch.tensor(list(means.values()), dtype=torch.float64))
    return dict(zip(means, torch.stack(parts).mean(dim=0).tolist(), strict=True))


def _mean_parts(steps: Iterator[dict[str, Tensor]], first_step: int) -> dict[str, float]:
    """Mean of every loss part over the epoch.

    Raises:
        TrainingDiverged: a loss is not finite.
    """
    sums: dict[str, float] = {}
    window: list[dict[str, Tensor]] = []
    count = 0
    for parts in steps:
        window.append(parts)
        if len(window) == FINITE_WINDOW:
            count += _drain(window, sums, first_step + count)
    count += _drain(window, sums, first_step + count)
    return {name: total / count for name, total in sums.items()}


def _drain(window: list[dict[str, Tensor]], sums: dict[str, float], first_step: int) -> int:
    losses = [value.float() for parts in window for value in parts.values()]
    numbers = iter(torch.stack(losses).tolist() if losses else [])  # one wait for the device
    for offset, parts in enumerate(window):
        for name, number in zip(parts, numbers, strict=False):
            if not math.isfinite(number):
                raise TrainingDiverged(
                    f"the {name} became {number} at step {first_step + offset}. "
                    "Lower --lr. The last good checkpoint is kept."
                )
            sums[name] = sums.get(name, 0.0) + number
    drained = len(window)
    window.clear()
    return drained


def _require_finite_weights(module: nn.Module, step: int) -> None:
    values = {name: value for name, value in module.state_dict().items() if value.is_floating_point()}
    finite = torch.stack([torch.isfinite(value).all() for value in values.values()]).tolist()
    for name, is_finite in zip(values, finite, strict=True):
        if not is_finite:
            raise TrainingDiverged(
                f"weight {name} is NaN or Inf after step {step}. Lower --lr. The last good checkpoint is kept."
            )


def _parameter_groups(trainee: Trainee, schedule: Schedule) -> list[dict[str, Any]]:
    """Group the weights of student and method, with and without decay; `lr_scale` multiplies the learning rate."""
    parts = [(trainee.backbone, 1.0), (trainee.method, trainee.method.head_lr(schedule.lr) / schedule.lr)]
    groups = []
    for module, scale in parts:
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        matrices = [parameter for parameter in trained if parameter.ndim > 1]
        vectors = [parameter for parameter in trained if parameter.ndim <= 1]
        groups += [
            {"params": matrices, "weight_decay": schedule.weight_decay, "lr_scale": scale},
            {"params": vectors, "weight_decay": 0.0, "lr_scale": scale},
        ]
    return groups
