"""Find the student whose weights a file holds, by the names and shapes of its tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import timm
import torch

from tcs_edge.errors import UsageError
from tcs_edge.models.candidates import CANDIDATES, Candidate
from tcs_edge.models.safetensors_file import check_safetensors, own_key, read_shapes
from tcs_edge.students.build import CHATTY, FLAG
from tcs_edge.utils.quiet import quiet
from tcs_edge.utils.reading import is_folder

# Tables that are resampled to the size of the images.
_RESAMPLED = ("pos_embed", "attention_biases")
_COUNTERS = "num_batches_tracked"
SHOWN_STUDENTS = 6
SMALLEST, LARGEST = 0.95, 6.0  # elements of a file without its classifier, as a multiple of the candidate's parameters
Shapes = Mapping[str, tuple[int, ...]]


def only_file(place: Path) -> Path | None:
    """Return the weights file itself, or the only .safetensors file of a folder; None for several or none."""
    if not is_folder(place):
        return place
    files = sorted(place.glob("*.safetensors"))
    return files[0] if len(files) == 1 else None


def student_of(path: Path) -> str:
    """Return the candidate whose weights `path` holds.

    Among several with the same tensors, the file's name decides: NAME.safetensors, NAME.TAG or NAME_TAG.

    Raises:
        UsageError: no candidate fits, or several do; the message lists them. Also as `check_safetensors`.
        MissingError, DataError: as `check_safetensors` and `read_shapes`.
    """
    check_safetensors(path, FLAG)
    shapes = read_shapes(path)
    named = [name for name, known in CANDIDATES.items() if path.stem in _stems(known)]
    if len(named) == 1 and _fits(shapes, named[0]):
        return named[0]
    fitting = [name for name, known in CANDIDATES.items() if _may_fit(shapes, known) and _fits(shapes, name)]
    if not fitting:
        raise UsageError(
            f"{path} has the tensors of none of the {len(CANDIDATES)} candidates. "
            "Pass --student NAME with the timm name of its network."
        )
    if len(fitting) > 1:
        more = ", ..." if len(fitting) > SHOWN_STUDENTS else ""
        shown = ", ".join(fitting[:SHOWN_STUDENTS]) + more
        raise UsageError(f"{path} fits {len(fitting)} students: {shown}. Pass one of them as --student.")
    return fitting[0]


def _stems(known: Candidate) -> tuple[str, ...]:
    full = known.weights or known.name
    return known.name, full, full.replace(".", "_")


def _may_fit(shapes: Shapes, known: Candidate) -> bool:
    """Return False for a student of clearly another size, whose network need not be built.

    The listed size is that of the folded network; before folding it may be several times as large.
    """
    total = sum(math.prod(shape) for shape in shapes.values())
    classifier = sum(math.prod(shape) for shape in shapes.values() if len(shape) == 2 and shape[1] == known.feature_dim)
    return total >= SMALLEST * 1e6 * known.params_m and total - classifier <= LARGEST * 1e6 * known.params_m


def _fits(shapes: Shapes, name: str) -> bool:
    with quiet(*CHATTY), torch.device("meta"):
        whole = {key: tuple(tensor.shape) for key, tensor in timm.create_model(name).state_dict().items()}
        own = {own_key(key, whole): shape for key, shape in shapes.items()}
        if own.keys() - whole.keys():
            return False
        backbone = timm.create_model(name, num_classes=0).state_dict().keys()
    return all(key.endswith(_COUNTERS) or _same(key, own.get(key), whole[key]) for key in backbone)


def _same(key: str, given: tuple[int, ...] | None, wanted: tuple[int, ...]) -> bool:
    if given is None:
        return False
    return given == wanted or (key.endswith(_RESAMPLED) and len(given) == len(wanted))
