"""Training methods for the same student; `specs.methods.METHODS` lists them."""

from importlib import import_module

from tcs_edge.methods.base import Losses, Method, MethodInputs
from tcs_edge.methods.batch import Batch, Mix
from tcs_edge.methods.ce import CrossEntropy
from tcs_edge.methods.dkd import Dkd
from tcs_edge.methods.kd import Kd
from tcs_edge.methods.simkd import SimKd, SimKdStudent
from tcs_edge.methods.tcs import Tcs
from tcs_edge.methods.teacher import CachedTargets, DistillationTargets, OnlineTeacher

__all__ = [
    "Batch",
    "CachedTargets",
    "CrossEntropy",
    "DistillationTargets",
    "Dkd",
    "Kd",
    "Losses",
    "Method",
    "MethodInputs",
    "Mix",
    "OnlineTeacher",
    "SimKd",
    "SimKdStudent",
    "Tcs",
    "build_method",
]


def build_method(inputs: MethodInputs) -> Method:
    """Return the method that `inputs.options.method` names, built for a run."""
    method: Method = import_module(inputs.options.method_facts.module).build(inputs)
    return method
