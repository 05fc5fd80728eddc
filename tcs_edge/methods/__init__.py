"""Ways to train the same student: TCS and what it is compared with."""

from tcs_edge.methods.base import Losses, Method
from tcs_edge.methods.batch import Batch, Mix
from tcs_edge.methods.ce import CrossEntropy
from tcs_edge.methods.dkd import Dkd
from tcs_edge.methods.kd import Kd
from tcs_edge.methods.simkd import SimKd, SimKdStudent
from tcs_edge.methods.tcs import Tcs
from tcs_edge.methods.teacher import CachedAnswers, DistillationTargets, OnlineTeacher

__all__ = [
    "Batch",
    "CachedAnswers",
    "CrossEntropy",
    "DistillationTargets",
    "Dkd",
    "Kd",
    "Losses",
    "Method",
    "Mix",
    "OnlineTeacher",
    "SimKd",
    "SimKdStudent",
    "Tcs",
]
