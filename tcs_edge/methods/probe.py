"""Linear probe: the pretrained student as it is, with a classifier fitted on its features of the plain images.

The backbone is not trained. It is the baseline that fine-tuning must beat, and takes seconds.
"""

from __future__ import annotations

from tcs_edge.methods.base import MethodInputs
from tcs_edge.methods.ce import CrossEntropy


def build(inputs: MethodInputs) -> CrossEntropy:
    """Return the method for a run.

    Raises:
        ValueError: no probe was fitted.
    """
    if inputs.targets is None or inputs.targets.probe is None:
        raise ValueError("method probe needs a probe on the student's features")
    return CrossEntropy(inputs.feature_dim, inputs.classes, start=inputs.targets.probe)
