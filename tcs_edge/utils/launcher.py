"""Place of this process among those that torchrun, `accelerate launch` or MPI started, from its environment."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from tcs_edge.errors import UsageError

# Variables of torchrun and of common MPI launchers: rank, processes, processes on this machine.
RANK = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
SIZE = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
LOCAL_SIZE = ("LOCAL_WORLD_SIZE", "MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE")
LOCAL_RANK = ("LOCAL_RANK", "MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_RANK")
# Where processes of one machine meet.
_MEETING_POINT = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
# Set by the configuration of `accelerate launch`.
_SHARDING = {
    "ACCELERATE_USE_FSDP": "FSDP", "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}  # fmt: skip


@dataclass(frozen=True)
class Ranks:
    """This process among those of its run: `rank` in 0..`size` - 1, `local_size` of them on this machine."""

    rank: int = 0
    size: int = 1
    local_size: int = 1

    @property
    def alone(self) -> bool:
        """True without other processes."""
        return self.size == 1

    def share(self, count: int) -> int:
        """Return this process's part of `count` threads or workers of the machine; at least 1, and 0 of 0."""
        return max(1, count // self.local_size) if count else 0


ALONE = Ranks()


def launched() -> Ranks:
    """Return the place that the launcher gave this process, from its environment."""
    size = number_in(SIZE, 1)
    return Ranks(number_in(RANK, 0), size, max(1, number_in(LOCAL_SIZE, 1))) if size > 1 else Ranks()


def lost_processes() -> bool:
    """Return True if `accelerate launch` was asked for several processes, but started this one alone.

    It does so on a CPU without MPI: it sets the address of the others, and starts none of them.
    """
    of_accelerate = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_PORT" in os.environ
    return of_accelerate and not any(name in os.environ for name in SIZE)


def sharded_by() -> str | None:
    """Return the library with which `accelerate launch` was told to divide the network, or None."""
    return next((name for variable, name in _SHARDING.items() if os.environ.get(variable) == "true"), None)


def complete_environment(place: Ranks) -> None:
    """Set the variables of torchrun, which torch and accelerate read, if another launcher such as MPI set its own.

    Raises:
        UsageError: nothing names the machine of rank 0.
    """
    if "MASTER_ADDR" not in os.environ and place.local_size != place.size:
        raise UsageError(
            f"{place.size} processes on several machines, but MASTER_ADDR is not set. Set it to the address of the "
            "machine of process 0."
        )
    values = {RANK: place.rank, SIZE: place.size, LOCAL_RANK: number_in(LOCAL_RANK, 0), LOCAL_SIZE: place.local_size}
    for names, value in values.items():
        os.environ.setdefault(names[0], str(value))
    for name, default in _MEETING_POINT.items():
        os.environ.setdefault(name, default)


def number_in(names: Sequence[str], default: int) -> int:
    """Return the number in the first of these environment variables that is set."""
    found = next((os.environ[name] for name in names if os.environ.get(name, "").isdecimal()), None)
    return default if found is None else int(found)
