"""Ways to train the same student: TCS and what it is compared with."""

from tcs_edge.methods.base import Losses, Method
from tcs_edge.methods.ce import CrossEntropy
from tcs_edge.methods.tcs import Tcs

__all__ = ["CrossEntropy", "Losses", "Method", "Tcs"]
