"""Runtimes and precisions in which a student can be deployed, with its latency in each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from tcs_edge.errors import UsageError
from tcs_edge.latency.cost_model import Tables
from tcs_edge.latency.device import DeviceLatencies, Latency, device_latencies
from tcs_edge.specs.artifacts import PRECISIONS, Precision
from tcs_edge.specs.profile import Profile, ProfileRuntime
from tcs_edge.specs.target import TargetSpec, refuse_other_runtime


@dataclass(frozen=True)
class Deployments:
    """Latency data of each allowed runtime and precision, in order of precision: fp32, fp16, int8.

    `max_accuracy_drop`, 0..1, is the most that int8 may lose: an int8 file that loses more is not released.
    """

    devices: tuple[DeviceLatencies, ...]
    max_accuracy_drop: float = 0.0

    def latencies(self, model: str, img_size: int) -> Iterator[tuple[Precision, tuple[Latency, ...]]]:
        """Yield each precision with its known latencies, the fastest runtime first.

        Raises:
            UsageError: no runtime has data on the model at this size; see `DeviceLatencies.latency`.
        """
        failed: UsageError | None = None
        known = False
        for precision, devices in groupby(self.devices, key=lambda device: device.precision):
            found = []
            for device in devices:
                try:
                    found.append(device.latency(model, img_size))
                except UsageError as error:
                    failed = error
            known = known or bool(found)
            if found:
                yield precision, tuple(sorted(found, key=lambda latency: latency.p50_ms))
        if failed and not known:
            raise failed

    def accuracy_loss(self, precision: Precision) -> float:
        """Percentage points of accuracy to expect less than in fp32: for int8 the most that is released."""
        return 100 * self.max_accuracy_drop if precision == "int8" else 0.0


def deployments(
    target: TargetSpec,
    profile: Profile,
    threads: int | None = None,
    runtime: ProfileRuntime | None = None,
    precisions: Sequence[Precision] = ("fp32",),
    max_accuracy_drop: float = 0.0,
    tables: Tables | None = None,
) -> Deployments:
    """Collect the latency data of every runtime of `target`, or of `runtime`, in every allowed precision.

    A combination that cannot be estimated is left out, such as int8 where nobody published it.

    Raises:
        UsageError: no combination can be estimated, or the target does not have `runtime`.
    """
    refuse_other_runtime(target, runtime)
    runtimes = (runtime,) if runtime else tuple(target.runtimes)
    devices: list[DeviceLatencies] = []
    failed: UsageError | None = None
    for precision in PRECISIONS:
        for name in runtimes if precision in precisions else ():
            try:
                devices.append(device_latencies(target, profile, threads, name, precision, tables))
            except UsageError as error:
                failed = failed or error
    if failed and not devices:
        raise failed
    return Deployments(tuple(devices), max_accuracy_drop)
