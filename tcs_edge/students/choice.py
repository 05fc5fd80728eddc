"""Choice of the student: the candidate with the highest expected accuracy that meets the target's limits.

The upper end of the latency interval must meet the limit, not the median. Of the allowed precisions, a student counts
in the most accurate one that fits, in the fastest runtime that fits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tcs_edge.errors import NoCandidate, UsageError
from tcs_edge.latency.cost_model import Tables
from tcs_edge.latency.device import Latency
from tcs_edge.models.candidates import CANDIDATES, Candidate, SizedCandidate
from tcs_edge.specs.artifacts import Precision
from tcs_edge.specs.options import SearchName
from tcs_edge.specs.profile import Profile, ProfileRuntime
from tcs_edge.specs.target import Limits, TargetSpec
from tcs_edge.students.accuracy_estimate import AccuracyEstimate, Expectation, by_table
from tcs_edge.students.deployment import Deployments, deployments
from tcs_edge.students.nearest import nothing_fits
from tcs_edge.students.pareto import ParetoPoint, on_pareto_front

LimitName = Literal["latency", "size", "parameters"]


@dataclass(frozen=True)
class Miss:
    """A limit that a candidate exceeds.

    Attributes:
        limit: the limited quantity.
        ratio: value over limit; infinite where the value is unknown.
        text: value and limit, on one line.
    """

    limit: LimitName
    ratio: float
    text: str


@dataclass(frozen=True)
class Assessment:
    """A candidate on the target.

    Attributes:
        img_size: pixels of the square input.
        size_mb: the ONNX file in `precision` with its head, in 10^6 bytes.
        largest_mb: the largest model file in `precision`, which the size limit bounds, in 10^6 bytes.
        latency: None if it is unknown.
        expected: accuracy to expect; None if it is unknown.
        misses: limits that it exceeds; an accepted candidate has none.
        sized: several input sizes are compared, so that messages name this one's.
        precision: precision to deploy.
        accuracy_loss: percentage points that `expected` is lower by for the precision.
    """

    candidate: Candidate
    img_size: int
    size_mb: float
    largest_mb: float
    latency: Latency | None
    expected: AccuracyEstimate | None = None
    misses: tuple[Miss, ...] = ()
    sized: bool = False
    precision: Precision = "fp32"
    accuracy_loss: float = 0.0

    @property
    def reasons(self) -> tuple[str, ...]:
        """One line for each limit that it exceeds."""
        return tuple(f"{self.label}: {miss.text}" for miss in self.misses)

    @property
    def label(self) -> str:
        """Name in messages."""
        return f"{self.candidate.name} at {self.img_size} px" if self.sized else self.candidate.name

    @property
    def sized_candidate(self) -> SizedCandidate:
        """The candidate at the input size that was assessed."""
        return SizedCandidate(self.candidate, self.img_size)

    @property
    def pareto_point(self) -> ParetoPoint | None:
        """Position in the accuracy, latency and size plot; None if one of the three is unknown."""
        if self.latency is None or self.expected is None:
            return None
        return ParetoPoint(self.expected.percent, self.latency.p50_ms, self.size_mb)


@dataclass(frozen=True)
class Choice:
    """The winner, the accepted candidates in ranking order (the winner first), and the rejected ones."""

    winner: Assessment
    accepted: tuple[Assessment, ...]
    rejected: tuple[Assessment, ...]

    @property
    def named(self) -> bool:
        """True if the user named the student, so that there was nothing to choose from."""
        return len(self.accepted) + len(self.rejected) == 1

    @property
    def search(self) -> SearchName:
        """Search that ranked the winner."""
        return self.winner.expected.search if self.winner.expected else "table"

    @property
    def front(self) -> tuple[Assessment, ...]:
        """Pareto front of the accepted students (accuracy, latency, size), fastest first."""
        return pareto_front_of(self.accepted)


def choose_student(
    target: TargetSpec,
    profile: Profile,
    img_size: int,
    num_classes: int,
    limits: Limits,
    candidates: Iterable[Candidate] = tuple(CANDIDATES.values()),
    threads: int | None = None,
    runtime: ProfileRuntime | None = None,
    expect: Expectation = by_table,
    also_at: Iterable[int] = (),
    tables: Tables | None = None,
    precisions: Sequence[Precision] = ("fp32",),
    max_accuracy_drop: float = 0.0,
) -> Choice:
    """Return the best candidate within the limits.

    Args:
        target: the device; its thread count is used unless `threads` is given.
        profile: measured, published and estimated latencies of the device.
        img_size: side of the input in pixels.
        num_classes: width of the final layer, which counts in the size.
        limits: upper bounds; None means no bound.
        candidates: students to choose from; a single one is a student that the user named.
        runtime: runtime to deploy; None takes the fastest one of the target, for every student.
        expect: returns the accuracy to expect of a candidate.
        also_at: further input sizes to assess every candidate at.
        tables: operators of candidates that the shipped tables lack.
        precisions: precisions to deploy, with fp32.
        max_accuracy_drop: accuracy that int8 may lose, in 0..1.

    Raises:
        NoCandidate: nothing fits; the message names the nearest candidate and by how much it misses.
        UsageError: a single candidate was asked for, there is a latency limit, and that candidate's latency
            is unknown at this image size.
    """
    candidates = tuple(candidates)
    sizes = tuple(dict.fromkeys((img_size, *also_at)))
    named = len(candidates) * len(sizes) == 1
    options = deployments(target, profile, threads, runtime, precisions, max_accuracy_drop, tables)
    demand = _Demand(options, num_classes, limits, expect, named, several_sizes=len(sizes) > 1)
    assessed = [_assess(SizedCandidate(candidate, size), demand) for candidate in candidates for size in sizes]
    accepted = sorted((a for a in assessed if not a.reasons), key=_rank)
    rejected = tuple(a for a in assessed if a.reasons)
    if not accepted:
        raise NoCandidate(nothing_fits(target.name, rejected, limits))
    return Choice(accepted[0], tuple(accepted), rejected)


def ranked(choice: Choice, expect: Callable[[SizedCandidate], AccuracyEstimate | None]) -> Choice:
    """Return the same choice with the accepted students ranked by `expect`."""
    renewed = [
        replace(found, expected=_with_loss(expect(found.sized_candidate), found.accuracy_loss))
        for found in choice.accepted
    ]
    accepted = tuple(sorted(renewed, key=_rank))
    return Choice(accepted[0], accepted, choice.rejected)


def assess_all(
    target: TargetSpec,
    profile: Profile,
    img_size: int,
    num_classes: int,
    limits: Limits,
    runtime: ProfileRuntime | None = None,
    precisions: Sequence[Precision] = ("fp32",),
    max_accuracy_drop: float = 0.0,
) -> tuple[Assessment, ...]:
    """Assess every registered candidate; students that fit come first, and the best comes first among them."""
    options = deployments(target, profile, None, runtime, precisions, max_accuracy_drop)
    demand = _Demand(options, num_classes, limits, by_table, named=False, several_sizes=False)
    assessed = [_assess(SizedCandidate(candidate, img_size), demand) for candidate in CANDIDATES.values()]
    return tuple(sorted(assessed, key=lambda found: (bool(found.reasons), *_rank(found))))


def limits_on(target: TargetSpec, asked: Limits) -> Limits:
    """Return the limits that were asked for, and the target's own where none was."""
    return Limits(
        max_latency_ms=asked.max_latency_ms or target.limits.max_latency_ms,
        max_size_mb=asked.max_size_mb or target.limits.max_size_mb,
        max_params_m=asked.max_params_m or target.limits.max_params_m,
    )


def how_to_narrow(assessments: Iterable[Assessment], target: str, img_size: int) -> tuple[str, ...]:
    """Return lines of advice that narrows latency estimates; none if the Pareto front was measured on the device.

    Args:
        target: name or file, as the user gave it.
    """
    listed = list(assessments)
    front = pareto_front_of(found for found in listed if not found.reasons) or pareto_front_of(listed)
    unsure = [found.candidate.name for found in front if found.latency and found.latency.source != "measured"]
    if not unsure:
        return ()
    spread = list(dict.fromkeys((unsure[0], unsure[len(unsure) // 2], unsure[-1])))
    measured = f"--target {target} {' '.join(f'--model {name}' for name in spread)} --img-size {img_size}"
    return (
        "These latencies are estimates. Measure on the device to narrow all intervals:",
        f"  tcs-edge measure --ssh USER@HOST {measured}",
        "Without ssh:",
        f"  tcs-edge bundle-profiler {measured} --out profiler",
    )


def pareto_front_of(assessments: Iterable[Assessment]) -> tuple[Assessment, ...]:
    """Return the Pareto front (accuracy, latency, size), fastest first.

    Only students whose accuracy comes from the deepest search are compared: other searches have another scale.
    """
    known = [found for found in assessments if found.pareto_point]
    searches = {found.expected.depth: found.expected.search for found in known if found.expected}
    deepest = searches[max(searches)] if searches else None
    known = [found for found in known if found.expected and found.expected.search == deepest]
    kept = [
        found for found, on in zip(known, on_pareto_front([found.pareto_point for found in known]), strict=True) if on
    ]
    return tuple(sorted(kept, key=lambda found: found.latency.p50_ms if found.latency else 0.0))


@dataclass(frozen=True)
class _Demand:
    """Requirements of an assessment; `named`: the user asked for this one candidate."""

    deployments: Deployments
    num_classes: int
    limits: Limits
    expect: Expectation
    named: bool
    several_sizes: bool


def _assess(sized: SizedCandidate, demand: _Demand) -> Assessment:
    """Assess a candidate in the first precision and runtime that fit, else in the fastest runtime in fp32."""
    first: Assessment | None = None
    for precision, latencies in _known_latencies(sized, demand):
        for latency in latencies:
            found = _in_precision(sized, demand, precision, latency)
            if not found.misses:
                return found
            first = first or found
    return first or _in_precision(sized, demand, "fp32", None)


def _in_precision(sized: SizedCandidate, demand: _Demand, precision: Precision, latency: Latency | None) -> Assessment:
    candidate, img_size = sized
    classes, loss = demand.num_classes, demand.deployments.accuracy_loss(precision)
    found = Assessment(
        candidate,
        img_size,
        candidate.size_mb(classes, precision),
        candidate.largest_mb(classes, precision),
        latency,
        _with_loss(demand.expect(candidate), loss),
        sized=demand.several_sizes,
        precision=precision,
        accuracy_loss=loss,
    )
    return replace(found, misses=tuple(_misses(found, demand)))


def _with_loss(expected: AccuracyEstimate | None, loss: float) -> AccuracyEstimate | None:
    """Subtract the accuracy loss of a precision, in percentage points."""
    if expected is None or not loss:
        return expected
    how = f"{expected.how}, less the {loss:g} points that int8 may lose"
    return replace(expected, percent=max(0.0, expected.percent - loss), how=how)


def _known_latencies(sized: SizedCandidate, demand: _Demand) -> list[tuple[Precision, tuple[Latency, ...]]]:
    try:
        return list(demand.deployments.latencies(sized.candidate.name, sized.img_size))
    except UsageError:
        if demand.named and demand.limits.max_latency_ms:
            raise
        return []


def _misses(found: Assessment, demand: _Demand) -> Iterator[Miss]:
    limits, latency = demand.limits, found.latency
    if (most := limits.max_latency_ms) and latency is None:
        text = f"nothing is known of its latency at {found.img_size} px, so the {most:g} ms limit cannot be checked"
        yield Miss("latency", math.inf, text)
    if most and latency and latency.high_ms > most:
        yield Miss("latency", latency.high_ms / most, f"{latency} is over the {most:g} ms limit")
    if (most := limits.max_size_mb) and found.largest_mb > most:
        text = f"{found.largest_mb:.2f} MB (largest model file) is over the {most:g} MB limit"
        yield Miss("size", found.largest_mb / most, text)
    params_m = found.candidate.total_params_m(demand.num_classes)
    if (most := limits.max_params_m) and params_m > most:
        yield Miss("parameters", params_m / most, f"{params_m:.2f} M parameters are over the {most:g} M limit")


def _rank(assessment: Assessment) -> tuple[float, ...]:
    """Sort key, best first: the deeper search, then accuracy, then latency and size; unknown values come last.

    The table's accuracy is that of a large input, so that the largest of several input sizes comes first.
    """
    speed = assessment.latency.p50_ms if assessment.latency else float("inf")
    percent = assessment.expected.percent if assessment.expected else 0.0
    depth = assessment.expected.depth if assessment.expected else 0
    size = 0 if depth else -assessment.img_size
    return (-depth, -percent, size, speed, assessment.size_mb)
