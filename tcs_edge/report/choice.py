"""Lines about the images and the chosen student, for the terminal and the log."""

from __future__ import annotations

from tcs_edge.data import ImageSet
from tcs_edge.report.text import one_line
from tcs_edge.specs.config import CompressConfig, ResolvedConfig
from tcs_edge.specs.target import TargetSpec
from tcs_edge.students.accuracy_estimate import RANKING
from tcs_edge.students.choice import Choice

PARTS = {"val": "validation", "unlabeled": "unlabeled"}


def image_lines(images: ImageSet, options: CompressConfig) -> list[str]:
    """Describe the images of a run; the built-in demo introduces itself."""
    counts = ", ".join(f"{count} {PARTS.get(part, part)}" for part, count in images.counts().items())
    lines = [f"images: {images.name}, {len(images.classes)} classes, {counts}"]
    if not images.builtin:
        return lines
    teacher = "a tiny built-in teacher" if options.teacher == "digits" else f"teacher {options.teacher}"
    weights = {"random": "random", "pretrained": "pretrained"}.get(options.student_init, "your own")
    demo = (
        f"This is the built-in demo: handwritten digits that ship with scikit-learn, {teacher}, "
        f"a student from {weights} weights. Pass --data DIR to use your own images."
    )
    return [demo, *lines]


def gain_line(options: ResolvedConfig, kind: str) -> str | None:
    """Return a line for runs in which the measured results show no gain from the teacher; None for all others.

    The results are in docs/explanation/results.md and earlier-results.md.

    Args:
        kind: of the student: "cnn", "hybrid", "transformer" or "unknown".
    """
    if not options.has_teacher or options.shots is not None or not options.all_labeled:
        return None
    if options.student_init != "random":
        student = "a pretrained student"
    elif kind == "transformer":
        student = "a transformer with random weights"
    else:
        return None
    line = (
        f"no gain expected from the teacher: {student} with a label for every image was at least as accurate with "
        "--method ce. A teacher helps with images without labels: add them with --unlabeled DIR"
    )
    measured = ". The probes after the teacher's pass show whether this teacher is better"
    return line + (measured if options.student_init != "random" else "")


def probes_line(options: ResolvedConfig, teacher: float, student: float, images: int, shown: bool) -> str:
    """Return the validation accuracy of both probes and what to expect; it replaces the expectation of `gain_line`.

    Args:
        teacher, student: accuracy of a linear probe on the teacher, and on the student's own features, in 0..1.
        images: number of validation images.
        shown: True if the difference is more than chance.
    """
    numbers = f"probes on {images} validation images: teacher {100 * teacher:.1f} %, student {100 * student:.1f} %"
    better = shown and teacher > student
    found = "more accurate" if better else "less accurate" if shown else "not clearly better or worse"
    if not options.all_labeled:
        expected = ": the images without labels, which --method ce cannot use, make a gain likely"
    elif options.shots is not None:
        expected = ""  # not measured
    elif better:
        expected = ": a gain over --method ce is possible"
    else:
        expected = f": expect {'no' if shown else 'little'} gain over --method ce"
    return f"{numbers}. The teacher is {found}{expected}"


def choice_lines(choice: Choice, target: TargetSpec) -> list[str]:
    """Describe the chosen student, and the machine of its latency or how to measure it."""
    winner = choice.winner
    latency = f"{winner.latency} in {winner.latency.runtime}" if winner.latency else "latency unknown"
    size = f"{winner.size_mb:.1f} MB" + (f" in {winner.precision}" if winner.precision != "fp32" else "")
    lines = [
        f"student: {winner.candidate.name} at {winner.img_size} px for {target.title}: {latency}, "
        f"{size} ({len(choice.accepted)} fit; {RANKING[choice.search]})"
    ]
    if winner.latency and winner.latency.source == "measured":
        lines.append(f"  {one_line(winner.latency.origin)}")
    else:
        lines.append(
            f"  not measured on that device; to do so: tcs-edge measure --ssh USER@HOST --target {target.name} "
            f"--model {winner.candidate.name} --img-size {winner.img_size}"
        )
    return lines
