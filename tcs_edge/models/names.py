"""Names of students and teachers, checked without importing timm, which imports torch.

Commands call this first, so that a typing error is answered at once. `students.build.require_student` and
`teachers.registry.teacher_spec` remain the checks that count.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tcs_edge.errors import UnknownName
from tcs_edge.models.candidates import CANDIDATES

REGISTERED = re.compile(r"^(?:@register_model\s+)def (\w+)\(", re.MULTILINE)


def require_student_name(name: str) -> None:
    """Fail if timm cannot have this model.

    Raises:
        UnknownName: neither a candidate nor in timm's source; near matches are shown.
    """
    if name not in CANDIDATES and not may_be_in_timm(name):
        raise UnknownName("student", name, CANDIDATES, hint="Any timm model name will do.")


def may_be_in_timm(name: str) -> bool:
    """True unless timm's source lacks this architecture; a pretrained tag behind a dot is ignored."""
    architecture = name.partition(".")[0]
    source = _timm_source()
    defined = f"def {architecture}(" in source
    renamed = f"'{architecture}'" in source  # an old name of timm's that it still accepts
    return not source or defined or renamed


@cache
def timm_architectures() -> tuple[str, ...]:
    """Every architecture that timm's source registers, sorted; empty if the source is not at hand."""
    return tuple(sorted(REGISTERED.findall(_timm_source())))


@cache
def _timm_source() -> str:
    """Text of timm's model files: 4 MB, read in 0.03 s."""
    found = find_spec("timm")  # this does not import it
    folders = found.submodule_search_locations if found else None
    files = [path for folder in folders or () for path in sorted((Path(folder) / "models").glob("*.py"))]
    return "\n".join(path.read_text(encoding="utf-8") for path in files)
