"""Checkpoints of the training state: one safetensors file per run, without pickle.

The tensors belong to the model, the optimizer and the average. Other values (epoch, step, history of
the selection, fp16's loss scale) are JSON in the file's metadata. Checkpoints are written between epochs,
and every random draw depends on (seed, epoch, step). So a resumed run repeats the rest exactly.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from tcs_edge.errors import DataError, reason_of
from tcs_edge.training.ema import WeightAverage
from tcs_edge.utils.files import write_bytes

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Progress:
    """Progress of a run.

    Attributes:
        epochs_done, steps_done: number of finished epochs and steps.
        history: history of the method so far.
        loss_scale: state of fp16's gradient scaler; empty without one.
    """

    epochs_done: int = 0
    steps_done: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    loss_scale: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage | None, done: Progress
) -> None:
    """Write the state of `model`, `optimizer` and `average` to `path` atomically.

    Raises:
        MissingError: the disk is full or the folder cannot be written.
    """
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"average/{name}": value for name, value in (average.state if average else {}).items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{slot}": torch.as_tensor(value) for slot, value in slots.items()}
    metadata = {"schema_version": str(SCHEMA_VERSION), "progress": json.dumps(asdict(done))}
    # Written as bytes, since the exception of safetensors' own writer for a full disk is not an OSError.
    write_bytes(path, save({name: value.contiguous() for name, value in tensors.items()}, metadata))


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage | None = None
) -> Progress:
    """Load the state at `path` into `model`, `optimizer` and `average`, and return its progress.

    Raises:
        DataError: the file is damaged or belongs to another model.
    """
    try:
        with safe_open(path, framework="pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            progress = json.loads(stored.metadata()["progress"])
        model.load_state_dict(_below(tensors, "model/"))
        if average:
            average.load(_below(tensors, "average/"))
        _load_moments(optimizer, _below(tensors, "optimizer/"))
        return Progress(**progress)
    except (SafetensorError, KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"checkpoint {path} does not fit this run ({reason_of(error)}). Start again without --resume."
        ) from None


def _load_moments(optimizer: torch.optim.Optimizer, moments: dict[str, Tensor]) -> None:
    """Load the optimizer's state, by "index of the weight/name of the moment"."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in moments.items():
        index, slot = name.split("/")
        state.setdefault(int(index), {})[slot] = _laid_out_like(weights[int(index)], value)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _laid_out_like(weight: Tensor, value: Tensor) -> Tensor:
    """Copy an optimizer moment to the memory format of its weight, which the file does not store.

    Fused AdamW on a CPU pairs the numbers in memory order and ignores the strides.
    """
    return torch.empty_like(weight).copy_(value) if value.shape == weight.shape else value
