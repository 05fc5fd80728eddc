"""Record the choice of a student, for reports/choice.json and `tcs-edge candidates --json`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from tcs_edge.latency.cost_model import shipped_cost_model
from tcs_edge.latency.plausibility import load_target_profile
from tcs_edge.runs.documents import CandidateRecord, ChoiceRecord, ExportedSize, read_document
from tcs_edge.runs.schema import ExpectedRecord, LatencyRecord
from tcs_edge.specs.artifacts import PRECISIONS, Precision
from tcs_edge.specs.target import Limits, RuntimeName, TargetSpec
from tcs_edge.students.accuracy_estimate import RANKING, AccuracyEstimate
from tcs_edge.students.choice import Assessment, Choice, assess_all, pareto_front_of


def noted_choice(choice: Choice, path: Path) -> Choice:
    """Return `choice` with the winner's accuracy estimate that the run recorded at `path`, if any."""
    noted = read_document(path, ChoiceRecord)
    expected = noted.candidates[0].expected_accuracy if noted else None
    if expected is None:
        return choice
    return replace(choice, winner=replace(choice.winner, expected=AccuracyEstimate(**expected.model_dump())))


def choice_record(
    choice: Choice,
    target: TargetSpec,
    limits: Limits,
    img_size: int,
    classes: int,
    runtime: RuntimeName | None = None,
    precisions: Sequence[Precision] = ("fp32",),
    max_accuracy_drop: float = 0.0,
) -> ChoiceRecord:
    """Record all candidates, the chosen one first.

    If the user named a student, the other candidates are assessed as well, for comparison: see
    `students.choice.assess_all`.
    """
    compared: Sequence[Assessment] = (*choice.accepted, *choice.rejected)
    if choice.named:
        profile = load_target_profile(target)
        compared = assess_all(target, profile, img_size, classes, limits, runtime, precisions, max_accuracy_drop)
    rest = [found for found in compared if found.label != choice.winner.label]
    return ChoiceRecord(
        target=target.name,
        runtime=runtime,
        named=choice.named,
        ranking=RANKING[choice.search],
        img_size=img_size,
        limits=limits.model_dump(exclude_none=True),
        candidates=_candidate_records((choice.winner, *rest), compared, classes, choice.winner.label),
    )


def candidates_record(
    assessments: Sequence[Assessment],
    target: TargetSpec,
    limits: Limits,
    img_size: int,
    classes: int,
    runtime: RuntimeName | None,
    winner: str | None,
) -> ChoiceRecord:
    """Record all candidates in their order, before any run.

    Args:
        winner: label of the student that a run would choose; None if no student fits.
    """
    return ChoiceRecord(
        target=target.name,
        runtime=runtime,
        named=False,
        ranking=RANKING["table"],
        img_size=img_size,
        limits=limits.model_dump(exclude_none=True),
        candidates=_candidate_records(assessments, assessments, classes, winner),
    )


def expected_record(expected: AccuracyEstimate | None) -> ExpectedRecord | None:
    """Record an accuracy estimate, if there is one."""
    return ExpectedRecord(**expected.to_json()) if expected else None


def _candidate_records(
    listed: Iterable[Assessment], compared: Iterable[Assessment], classes: int, winner: str | None
) -> tuple[CandidateRecord, ...]:
    """Record the `listed` candidates; the Pareto front is that of the `compared` ones."""
    front = {found.label for found in pareto_front_of(found for found in compared if not found.misses)}
    return tuple(_candidate_record(found, classes, found.label == winner, found.label in front) for found in listed)


def _candidate_record(found: Assessment, classes: int, chosen: bool, on_pareto_front: bool) -> CandidateRecord:
    candidate = found.candidate
    return CandidateRecord(
        name=candidate.name,
        img_size=found.img_size if found.sized else None,
        chosen=chosen,
        params_m=candidate.total_params_m(classes),
        precision=found.precision,
        size_mb=found.size_mb,
        largest_mb=found.largest_mb,
        exported={
            precision: ExportedSize(
                bytes=round(1e6 * candidate.size_mb(classes, precision)), source=candidate.size_source
            )
            for precision in PRECISIONS
        },
        kind=candidate.kind,
        macs_m_at_224=candidate.macs_m,
        latency_img_sizes=tuple(shipped_cost_model().sizes(candidate.architecture)),
        weights=candidate.weights,
        top1=candidate.top1,
        top1_img_size=candidate.top1_img_size,
        expected_accuracy=expected_record(found.expected),
        on_pareto_front=on_pareto_front,
        license=candidate.license,
        latency=LatencyRecord(**found.latency.to_json()) if found.latency else None,
        reasons=found.reasons,
    )
