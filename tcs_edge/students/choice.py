"""Chooses the student: the most promising candidate that meets the target's limits.

A latency limit is met by the upper end of the band, never by the median: a student that may be too slow is
not chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from tcs_edge.errors import NoCandidate, UsageError
from tcs_edge.latency.cost_model import Tables
from tcs_edge.latency.device import DeviceLatencies, Latency, device_latencies
from tcs_edge.models.candidates import CANDIDATES, Candidate, SizedCandidate
from tcs_edge.specs.config import SearchName
from tcs_edge.specs.profile import Profile, ProfileRuntime
from tcs_edge.specs.target import Limits, TargetSpec
from tcs_edge.students.accuracy_estimate import AccuracyEstimate, Expectation, by_table
from tcs_edge.students.pareto import ParetoPoint, on_pareto_front


@dataclass(frozen=True)
class Assessment:
    """A candidate on the target, with an input of `img_size` pixels: size of the fp32 file with its head in 10^6
    bytes, latency and expected accuracy (None: not known), and every reason against it in one line each (none: it is
    accepted). `sized`: several input sizes are looked at, so its name in messages says which one it is."""

    candidate: Candidate
    img_size: int
    size_mb: float
    latency: Latency | None
    expected: AccuracyEstimate | None = None
    reasons: tuple[str, ...] = ()
    sized: bool = False

    @property
    def label(self) -> str:
        """What it is called in messages."""
        return f"{self.candidate.name} at {self.img_size} px" if self.sized else self.candidate.name

    @property
    def sized_candidate(self) -> SizedCandidate:
        """The candidate at the input size that was assessed."""
        return SizedCandidate(self.candidate, self.img_size)

    @property
    def pareto_point(self) -> ParetoPoint | None:
        """What the front compares; None where something is not known."""
        if self.latency is None or self.expected is None:
            return None
        return ParetoPoint(self.expected.percent, self.latency.p50_ms, self.size_mb)


@dataclass(frozen=True)
class Choice:
    """`winner` is the first of `accepted`, which is in ranking order; `rejected` carry their reasons."""

    winner: Assessment
    accepted: tuple[Assessment, ...]
    rejected: tuple[Assessment, ...]

    @property
    def named(self) -> bool:
        """Whether there was one student only to look at: the one the user asked for."""
        return len(self.accepted) + len(self.rejected) == 1

    @property
    def search(self) -> SearchName:
        """What the winner was ranked by."""
        return self.winner.expected.search if self.winner.expected else "table"

    @property
    def front(self) -> tuple[Assessment, ...]:
        """Those of the accepted that no other accepted one beats in accuracy, latency and size, fastest first."""
        return pareto_front_of(self.accepted)


def choose_student(
    target: TargetSpec,
    profile: Profile,
    img_size: int,
    num_classes: int,
    limits: Limits,
    candidates: Iterable[Candidate] = tuple(CANDIDATES.values()),
    threads: int | None = None,
    runtime: ProfileRuntime = "onnxruntime",
    expect: Expectation = by_table,
    also_at: Iterable[int] = (),
    tables: Tables | None = None,
) -> Choice:
    """The best candidate within the limits.

    Args:
        target: the device; its thread count is used unless `threads` is given.
        profile: the latencies known of it.
        img_size: side of the input in pixels.
        num_classes: width of the final layer, which counts in the size.
        limits: upper bounds; None means no bound.
        candidates: those to choose from; a single one checks a student the user named.
        expect: says what accuracy a candidate may reach.
        also_at: other sides of the input to look at every candidate with.
        tables: operators of candidates that are in no table of ours.

    Raises:
        NoCandidate: nothing fits; the message names the nearest candidate and by how much it misses.
        UsageError: a single candidate was asked for, there is a latency limit, and nothing is known of that
            candidate's latency, or not at this image size.
    """
    candidates = tuple(candidates)
    sizes = tuple(dict.fromkeys((img_size, *also_at)))
    named = len(candidates) * len(sizes) == 1
    device = device_latencies(target, profile, threads, runtime, tables=tables)
    demand = _Demand(device, num_classes, limits, expect, named, several_sizes=len(sizes) > 1)
    assessed = [_assess(SizedCandidate(candidate, size), demand) for candidate in candidates for size in sizes]
    accepted = sorted((a for a in assessed if not a.reasons), key=_rank)
    rejected = tuple(a for a in assessed if a.reasons)
    if not accepted:
        raise NoCandidate(_nothing_fits(target.name, rejected, limits))
    return Choice(accepted[0], tuple(accepted), rejected)


def ranked(choice: Choice, expect: Callable[[SizedCandidate], AccuracyEstimate | None]) -> Choice:
    """The same students within the limits, in the order of what `expect` says of the accepted ones."""
    renewed = [replace(found, expected=expect(found.sized_candidate)) for found in choice.accepted]
    accepted = tuple(sorted(renewed, key=_rank))
    return Choice(accepted[0], accepted, choice.rejected)


def assess_all(
    target: TargetSpec,
    profile: Profile,
    img_size: int,
    num_classes: int,
    limits: Limits,
    runtime: ProfileRuntime = "onnxruntime",
) -> tuple[Assessment, ...]:
    """Every registered candidate on the target: those that fit first, best first, then the others."""
    device = device_latencies(target, profile, runtime=runtime)
    demand = _Demand(device, num_classes, limits, by_table, named=False, several_sizes=False)
    assessed = [_assess(SizedCandidate(candidate, img_size), demand) for candidate in CANDIDATES.values()]
    return tuple(sorted(assessed, key=lambda found: (bool(found.reasons), *_rank(found))))


def how_to_narrow(assessments: Iterable[Assessment], target: str, img_size: int) -> str | None:
    """What to run on the device where its latencies are estimates; None where the front was measured there.

    Args:
        target: its name or file, as the user gave it.
    """
    listed = list(assessments)
    front = pareto_front_of(found for found in listed if not found.reasons) or pareto_front_of(listed)
    unsure = [found.candidate.name for found in front if found.latency and found.latency.source != "measured"]
    if not unsure:
        return None
    spread = list(dict.fromkeys((unsure[0], unsure[len(unsure) // 2], unsure[-1])))
    models = " ".join(f"--model {name}" for name in spread)
    return (
        "estimates: measuring a few students on the device narrows the bands of all: tcs-edge bundle-profiler "
        f"--target {target} {models} --img-size {img_size} --out profiler"
    )


def pareto_front_of(assessments: Iterable[Assessment]) -> tuple[Assessment, ...]:
    """Those that no other one beats in accuracy, latency and size, fastest first.

    Only students whose accuracy comes from the deepest search are compared: other figures are another scale.
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
    """What every candidate is held against; `named` says that the user asked for this one candidate."""

    device: DeviceLatencies
    num_classes: int
    limits: Limits
    expect: Expectation
    named: bool
    several_sizes: bool


def _assess(sized: SizedCandidate, demand: _Demand) -> Assessment:
    candidate, img_size = sized
    latency = _known_latency(sized, demand)
    size_mb = candidate.size_mb(demand.num_classes)
    found = Assessment(candidate, img_size, size_mb, latency, demand.expect(candidate), sized=demand.several_sizes)
    return replace(found, reasons=_reasons(found, demand))


def _known_latency(sized: SizedCandidate, demand: _Demand) -> Latency | None:
    try:
        return demand.device.latency(sized.candidate.name, sized.img_size)
    except UsageError:
        if demand.named and demand.limits.max_latency_ms:
            raise
        return None


def _reasons(found: Assessment, demand: _Demand) -> tuple[str, ...]:
    """Why the limits rule this candidate out, one line per missed limit."""
    reasons = []
    limits, latency = demand.limits, found.latency
    if limits.max_latency_ms and latency is None:
        reasons.append(
            f"nothing is known of its latency at {found.img_size} px, "
            f"so the {limits.max_latency_ms:g} ms limit cannot be checked"
        )
    if limits.max_latency_ms and latency and latency.high_ms > limits.max_latency_ms:
        reasons.append(f"{latency} is over the {limits.max_latency_ms:g} ms limit")
    if limits.max_size_mb and found.size_mb > limits.max_size_mb:
        reasons.append(f"{found.size_mb:.1f} MB is over the {limits.max_size_mb:g} MB limit")
    params_m = found.candidate.total_params_m(demand.num_classes)
    if limits.max_params_m and params_m > limits.max_params_m:
        reasons.append(f"{params_m:.2f} M parameters are over the {limits.max_params_m:g} M limit")
    return tuple(f"{found.label}: {reason}" for reason in reasons)


def _rank(assessment: Assessment) -> tuple[float, ...]:
    """Sort key, best first: the deeper search, then accuracy; what is not known comes last, small breaks ties.

    A table's figure is that of a large input: of one candidate at several sizes, the largest is nearest to it.
    """
    speed = assessment.latency.p50_ms if assessment.latency else float("inf")
    percent = assessment.expected.percent if assessment.expected else 0.0
    depth = assessment.expected.depth if assessment.expected else 0
    size = 0 if depth else -assessment.img_size
    return (-depth, -percent, size, speed, assessment.size_mb)


def _nothing_fits(target: str, rejected: tuple[Assessment, ...], limits: Limits) -> str:
    """Names the limit that no candidate meets and who came nearest; else the candidate that misses fewest."""
    head = f"no student fits {target}: "
    if limits.max_latency_ms:
        timed = [(a.latency, a.label) for a in rejected if a.latency]
        if not timed:
            return head + "no candidate's latency is known here. Pass --student NAME without a latency limit."
        found, name = min(timed, key=lambda pair: pair[0].high_ms)
        if found.high_ms > limits.max_latency_ms:
            return head + _too_slow(name, found, limits.max_latency_ms)
    smallest = min(rejected, key=lambda a: a.size_mb)
    if limits.max_size_mb and smallest.size_mb > limits.max_size_mb:
        return (
            f"{head}the smallest, {smallest.label}, takes {smallest.size_mb:.1f} MB of "
            f"{limits.max_size_mb:g} MB. Raise --max-size-mb."
        )
    nearest = min(rejected, key=lambda a: (len(a.reasons), a.size_mb))
    return f"{head}the nearest is ruled out ({'; '.join(nearest.reasons)}). Loosen that limit."


def _too_slow(name: str, found: Latency, max_latency_ms: float) -> str:
    return f"the fastest, {name}, takes {found} of {max_latency_ms:g} ms. Raise --max-latency-ms or lower --img-size."
