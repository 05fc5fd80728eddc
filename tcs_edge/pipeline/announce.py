"""Log lines of a run: images, rejected students, the chosen student, and advice after Ctrl-C."""

from __future__ import annotations

import logging
import shlex
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from tcs_edge.report.choice import choice_lines, gain_line, image_lines, probes_line
from tcs_edge.report.pareto import log_pareto_front, log_rejected
from tcs_edge.stages.prepare import Prepared, Shortlist
from tcs_edge.stages.train import TeacherTargets
from tcs_edge.utils.stop import stop_requested

logger = logging.getLogger(__name__)


def announce_images(listed: Shortlist) -> None:
    """Log the images and the rejected students."""
    for line in image_lines(listed.images, listed.asked):
        logger.info(line)
    log_rejected(listed.choice)


def announce_student(ready: Prepared) -> None:
    """Log the chosen student, its alternatives, and whether a gain from the teacher is expected."""
    for other in ready.choice.accepted[1:]:
        logger.debug(f"  also fits {other.label}")
    log_pareto_front(ready.choice)
    for line in choice_lines(ready.choice, ready.target):
        logger.info(line)
    if no_gain := gain_line(ready.options, ready.student.kind):
        logger.info(no_gain)


def announce_probes(ready: Prepared, taught: TeacherTargets) -> None:
    """Log the teacher's probe beside the student's, and what to expect from the teacher."""
    if (probes := taught.probes) is not None:
        logger.info(probes_line(ready.options, probes.teacher, probes.student, probes.images, probes.shown))


class StopHint(AbstractContextManager["StopHint"]):
    """Log how to continue after Ctrl-C, SIGTERM or SIGHUP; `folder` is that of the run, once it exists."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or not (issubclass(kind, KeyboardInterrupt) or stop_requested()):
            return
        if self.folder is None:
            logger.warning("stopped before the training. There is no run folder. Run the same command again.")
        else:
            place = shlex.quote(str(self.folder))
            logger.warning(f"stopped. Continue with: tcs-edge compress --resume {place}")
