"""Log lines at the start of a run: images, rejected students, and the chosen student."""

from __future__ import annotations

import logging

from tcs_edge.report.choice import choice_lines, image_lines
from tcs_edge.report.pareto import log_pareto_front, log_rejected
from tcs_edge.stages.prepare import Prepared, Shortlist

logger = logging.getLogger(__name__)


def announce_images(listed: Shortlist) -> None:
    """Log the images and the rejected students."""
    for line in image_lines(listed.images, listed.asked):
        logger.info(line)
    log_rejected(listed.choice)


def announce_student(ready: Prepared) -> None:
    """Log the chosen student and its alternatives."""
    for other in ready.choice.accepted[1:]:
        logger.debug(f"  also fits {other.label}")
    log_pareto_front(ready.choice)
    for line in choice_lines(ready.choice, ready.target):
        logger.info(line)
