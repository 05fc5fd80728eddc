"""Processes that train one student together, started by torchrun or `accelerate launch`.

Each process has a rank. Rank 0 owns the run folder and computes what cannot be divided; the others compute their share
of the teacher's pass, of the training and of its validation, and then leave. Small values travel as tensors through
torch.distributed, without pickle. A process without such a launcher is alone: every function here then returns at once.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tcs_edge.errors import MissingError, UsageError, reason_of
from tcs_edge.utils.launcher import (
    ALONE,
    LOCAL_RANK,
    LOCAL_SIZE,
    RANK,
    SIZE,
    Ranks,
    complete_environment,
    launched,
    lost_processes,
    number_in,
    sharded_by,
)
from tcs_edge.utils.row_array import row_array
from tcs_edge.utils.versions import library_versions

if TYPE_CHECKING:
    from torch import Tensor

Value = TypeVar("Value")

# The others wait while rank 0 reads the images or fits a probe. The launcher ends them if it dies.
_LONGEST_WAIT = timedelta(hours=24)
_BYTES_AT_ONCE = 2**24
_LOST = re.compile(
    r"connection (closed|reset|refused)|broken pipe|gloo|nccl|socket|process group|peer|remote process", re.IGNORECASE
)


_current = ALONE


def current() -> Ranks:
    """Return this process's place; alone before `joined` and after `leave`."""
    return _current


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Join the other processes that the launcher started, until `leave` or the end of the block.

    Args:
        device: the run's device; CUDA devices exchange gradients through NCCL, the others through gloo.

    Raises:
        UsageError: processes of different versions or without a GPU of their own, a launcher that started one process
            of several, or one that divides the network.
        MissingError: torch has no gloo, or another process ended or cannot be reached.
    """
    global _current
    place = launched()
    if lost_processes():
        raise UsageError(
            "accelerate launch started one of several processes, because on a CPU it needs MPI. Start them with "
            "`torchrun --nproc-per-node N -m tcs_edge compress ...`."
        )
    if library := sharded_by():
        raise UsageError(
            f"accelerate launch is set to {library}, but students are small, and each process trains a whole one. "
            "Run `accelerate launch --multi_gpu`, or `torchrun --nproc-per-node N`."
        )
    if place.alone:
        yield place
        return
    complete_environment(place)
    import torch
    from torch import distributed

    if not (distributed.is_available() and distributed.is_gloo_available()):
        raise MissingError(f"torch has no gloo here, so {place.size} processes cannot train together. Start one.")
    on_gpu = device in ("auto", "cuda") and torch.cuda.is_available()
    try:
        if on_gpu:
            _use_own_gpu()
        distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=_LONGEST_WAIT)
        _current = place
        versions = library_versions()
        facts = {f"version of {name}": versions[name] for name in sorted(versions)}
        require_same(facts | {"device": "cuda" if on_gpu else "cpu"})
        yield place
    except (RuntimeError, ValueError) as error:
        if isinstance(error, ValueError) or not _LOST.search(str(error)):
            raise
        raise MissingError(
            f"process {place.rank} of {place.size} lost the others ({reason_of(error, 120)}). "
            "The first message of another process has the cause. Then continue with --resume."
        ) from error
    finally:
        leave()


def _use_own_gpu() -> None:
    """Let this process compute on the GPU of its rank on this machine.

    Raises:
        UsageError: there is no such GPU.
    """
    import torch

    local, gpus = number_in(LOCAL_RANK, 0), torch.cuda.device_count()
    if local >= gpus:
        raise UsageError(
            f"process {local} on this machine has no GPU of its own: it sees {gpus}. Start one process per GPU, and "
            f"let each see all of them: torchrun --nproc-per-node {gpus}. Or pass --device cpu."
        )
    torch.cuda.set_device(local)


def leave() -> None:
    """Leave the other processes; from here on, this process is alone and may use the whole machine."""
    global _current
    if _current.alone:
        return
    _current = ALONE
    from accelerate.state import AcceleratorState
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()
    AcceleratorState._reset_state(reset_partial_state=True)
    for name in (*RANK, *SIZE, *LOCAL_SIZE, *LOCAL_RANK):  # or accelerate would join again
        os.environ.pop(name, None)


def wait() -> None:
    """Wait until every process is here."""
    if not _current.alone:
        from torch import distributed

        distributed.barrier()


def first_alone(work: Callable[[], Value]) -> Value:
    """Return work(), which rank 0 runs before the others, so that they find its files."""
    if _current.rank:
        wait()
        return work()
    found = work()
    wait()
    return found


def require_same(facts: Mapping[str, str]) -> None:
    """Refuse processes with different facts, such as the versions or the fingerprint of the data.

    Raises:
        UsageError: in every process; it names the fact, and the value of rank 0 and of another rank.
    """
    found = [json.loads(text) for text in gathered_texts(json.dumps(dict(facts)))]
    for rank, theirs in enumerate(found):
        for name, value in found[0].items():
            if theirs.get(name) != value:
                raise UsageError(
                    f"the processes differ in {name}: process 0 has {value[:40]}, process {rank} has "
                    f"{str(theirs.get(name))[:40]}. Give every machine the same images, options and versions."
                )


def gathered_texts(text: str) -> list[str]:
    """Return the text of every process, by rank."""
    if _current.alone:
        return [text]
    data = text.encode()
    longest = max(int(size) for size in gathered(_tensor(np.array([len(data)], np.int64))))
    padded = np.zeros(longest, np.uint8)
    padded[: len(data)] = np.frombuffer(data, np.uint8)
    return [part.numpy().tobytes().rstrip(b"\0").decode() for part in gathered(_tensor(padded))]


def gathered(values: Tensor) -> list[Tensor]:
    """Return the tensor (...) of every process, by rank; all have one shape and type."""
    if _current.alone:
        return [values]
    import torch
    from torch import distributed

    parts = [torch.empty_like(values) for _ in range(_current.size)]
    distributed.all_gather(parts, values.contiguous())
    return parts


def shared_bytes(data: bytes | None) -> bytes:
    """Return the bytes of rank 0; the argument of the others is ignored."""
    if _current.alone:
        return data or b""
    size = np.array([0 if data is None else len(data)], np.int64)
    _broadcast(size)
    if _current.rank:
        received = np.empty(int(size[0]), np.uint8)
        _broadcast(received)
        return received.tobytes()
    _broadcast(np.frombuffer(data or b"", np.uint8).copy())
    return data or b""


def shared_json(value: Any) -> Any:
    """Return the JSON value of rank 0; the argument of the others is ignored."""
    return value if _current.alone else json.loads(shared_bytes(json.dumps(value).encode()))


def shared_rows(rows: np.ndarray | None, folder: Path | None) -> np.ndarray:
    """Return the array of rank 0, (N, ...); the others receive it into a `row_array` of their own.

    Args:
        folder: as `row_array`.
    """
    facts = shared_json(None if rows is None else [list(rows.shape), rows.dtype.str])
    if rows is None or _current.rank:
        rows = row_array(tuple(facts[0]), np.dtype(facts[1]), folder)
    flat = rows.reshape(len(rows), -1)
    at_once = max(1, _BYTES_AT_ONCE // max(1, flat[:1].nbytes))
    for start in range(0, len(flat) if not _current.alone else 0, at_once):
        part = np.ascontiguousarray(flat[start : start + at_once])
        _broadcast(part.view(np.uint8))
        if _current.rank:
            flat[start : start + at_once] = part
    return rows


def _broadcast(values: np.ndarray) -> None:
    from torch import distributed

    if values.size:
        distributed.broadcast(_tensor(values), 0)


def _tensor(values: np.ndarray) -> Tensor:
    import torch

    return torch.from_numpy(values)
