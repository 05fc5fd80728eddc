"""Plausibility check of latencies against the facts of a device, for edited or foreign profiles.

Lower bound: a network of M multiply-accumulates takes at least M / (cores x peak rate). Winograd's algorithm, which
some runtimes use, can divide this by up to 5.06 (F(6x6, 3x3): Lavin and Gray, 2015, arXiv 1509.09308). Upper bound:
one core at 1/300 of its peak, plus 0.1 s. Every shipped row is between the bounds. With a wrong unit (seconds or
microseconds), 99 of 100 rows are not.
"""

from __future__ import annotations

from collections import Counter

from tcs_edge.errors import SpecError
from tcs_edge.models.candidates import CANDIDATES, Candidate
from tcs_edge.specs.artifacts import Precision
from tcs_edge.specs.machine import architecture_of_isa, other_architecture, other_board
from tcs_edge.specs.profile import LatencyRow, Profile, ProfileRuntime, load_profile
from tcs_edge.specs.target import Cpu, TargetSpec

WINOGRAD_SAVING = 324 / 64
# Rate of a vector unit relative to fp32; int8 with the dot product.
RATE: dict[Precision, float] = {"fp32": 1, "fp16": 2, "int8": 4}
AMX_RATE = 8
SLOWEST_SHARE_OF_PEAK = 1 / 300
OVERHEAD_MS = 100.0
MACS_PX = 224
# Runtimes without Winograd's algorithm on the CPU.
DIRECT: frozenset[ProfileRuntime] = frozenset({"onnxruntime"})


def load_target_profile(target: TargetSpec) -> Profile:
    """Load the profile of `target` and check its rows; return an empty profile if the target names none.

    Raises:
        SpecError: as `require_plausible`.
        UnknownName, SpecError: as `load_profile`.
    """
    if not target.profile:
        return Profile(target=target.name)
    profile = load_profile(target.profile)
    require_plausible(profile, target)
    return profile


def require_plausible(profile: Profile, target: TargetSpec, origin: str = "") -> None:
    """Check that every row is plausible on `target`, and that measured rows come from its architecture.

    Args:
        origin: name of the profile in messages; default: its target.

    Raises:
        SpecError: a row is not plausible, or was measured on another or an unrecorded architecture. The message
            names the first row and the number of others.
    """
    origin = origin or f"profile of {profile.target}"
    require_target_machine(profile, target, origin)
    objections = [found for row in profile.rows if (found := objection(row, target.cpu))]
    if objections:
        more = f" (and {len(objections) - 1} more rows)" if len(objections) > 1 else ""
        raise SpecError(
            f"{origin}: {objections[0]}{more}. Latencies are in ms: check the unit, and that "
            f"the rows were measured on {target.name}."
        )


def require_target_machine(profile: Profile, target: TargetSpec, origin: str) -> None:
    """Check that the machine of every measured row has the architecture of `target`.

    Raises:
        SpecError: another architecture, or none recorded; the message names the machine and the number of rows.
    """
    machines = Counter(row.measured_with(profile.machine) for row in profile.rows if row.source == "measured")
    for machine, count in machines.items():
        rows = f"{count} measured latenc{'y' if count == 1 else 'ies'}"
        if needed := other_architecture(machine, target.cpu.isa):
            raise SpecError(
                f"{origin}: {rows} came from {machine}, but {target.name} is {needed}. {_measure_on(target)}"
            )
        if machine.architecture is None:
            raise SpecError(
                f"{origin}: {rows} came from {machine} without a recorded architecture, and {target.name} is "
                f"{architecture_of_isa(target.cpu.isa)}. {_measure_on(target)}"
            )


def _measure_on(target: TargetSpec) -> str:
    return f"Measure on the device: `tcs-edge profile --target {target.name}`, or `tcs-edge measure --ssh` from here."


def objection(row: LatencyRow, cpu: Cpu) -> str | None:
    """Return the reason against this latency on this processor; None if it is plausible or the network is unlisted."""
    candidate = CANDIDATES.get(row.model)
    if candidate is None:
        return None
    macs_m = candidate_macs_m(candidate, row.img_size) * row.batch
    lowest, highest = bounds_ms(macs_m, cpu, row.threads, row.precision)
    if row.p50_ms < lowest:
        return (
            f"{row.what} takes {row.p50_ms:.3g} ms, but {macs_m:.3g} M multiply-accumulates cannot take less than "
            f"{lowest:.3g} ms on {min(row.threads, cpu.cores)} x {cpu.model}"
        )
    if row.p50_ms > highest:
        return f"{row.what} takes {row.p50_ms:.3g} ms, more than {highest:.3g} ms even at 1/300 of one core's peak"
    return None


def bounds_ms(macs_m: float, cpu: Cpu, threads: int, precision: Precision) -> tuple[float, float]:
    """Compute the lowest and highest plausible latency in ms of `macs_m` (10^6) multiply-accumulates."""
    lowest = _at_peak_ms(macs_m, cpu, threads, precision) / WINOGRAD_SAVING
    highest = OVERHEAD_MS + macs_m / (cpu.peak_gmacs(1) * SLOWEST_SHARE_OF_PEAK)
    return lowest, highest


def roofline_ms(macs_m: float, cpu: Cpu, threads: int, precision: Precision, runtime: ProfileRuntime) -> float:
    """Lower bound in ms of `macs_m` (10^6) multiply-accumulates in this runtime, at the processor's peak rate."""
    saving = 1.0 if runtime in DIRECT else WINOGRAD_SAVING
    return _at_peak_ms(macs_m, cpu, threads, precision) / saving


def candidate_macs_m(candidate: Candidate, img_size: int) -> float:
    """Multiply-accumulates in 10^6 for one image, proportional to its area."""
    return candidate.macs_m * (img_size / MACS_PX) ** 2


def _at_peak_ms(macs_m: float, cpu: Cpu, threads: int, precision: Precision) -> float:
    rate = AMX_RATE * RATE[precision] if cpu.amx else RATE[precision]
    return macs_m / (cpu.peak_gmacs(threads) * rate)


def profile_warnings(profile: Profile, target: TargetSpec) -> tuple[str, ...]:
    """Return the warnings of `other_boards` and `stale_versions`."""
    return (*other_boards(profile, target), *stale_versions(profile, target))


def other_boards(profile: Profile, target: TargetSpec) -> tuple[str, ...]:
    """Return a warning for every machine of measured rows that is another Raspberry Pi than `target`."""
    machines = Counter(row.measured_with(profile.machine) for row in profile.rows if row.source == "measured")
    return tuple(
        f"{count} measured latenc{'y' if count == 1 else 'ies'} came from {machine}, but {target.name} is the "
        f"{target.title}. Measure on that board, or use the target of this one."
        for machine, count in machines.items()
        if other_board(machine, target.title)
    )


def stale_versions(profile: Profile, target: TargetSpec) -> tuple[str, ...]:
    """Return a warning for every runtime version of measured rows that `target` neither pins nor lists as good."""
    measured = Counter((row.runtime, row.version(profile.machine)) for row in profile.rows if row.source == "measured")
    lines = []
    for (runtime, version), count in sorted(measured.items(), key=str):
        expected = next((spec for name, spec in target.runtimes.items() if name == runtime), None)
        if expected is None or version is None or version in (expected.pin, *expected.known_good):
            continue
        lines.append(
            f"{count} latencies of {profile.target} were measured with {runtime} {version}, {target.name} runs "
            f"{expected.pin}. Measure again with `tcs-edge profile --target {target.name}`."
        )
    return tuple(lines)
