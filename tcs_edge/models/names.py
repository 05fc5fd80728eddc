"""Fast check of the names of students and teachers, without importing timm and torch.

Commands call it first, so that a typing error is reported immediately. `students.build.require_student` and
`teachers.registry.teacher_spec` do the final check.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tcs_edge.errors import UnknownName, UsageError
from tcs_edge.models.candidates import CANDIDATES

REGISTERED = re.compile(r"^(?:@register_model\s+)def (\w+)\(", re.MULTILINE)
TAGGED = re.compile(r"""['"](\w+)\.(\w+)['"]""")
HUB_PREFIXES = ("hf-hub:", "hf_hub:")


def require_student_name(name: str) -> None:
    """Refuse the name of a student that timm cannot have.

    Raises:
        UnknownName: the name is not a candidate and not in timm's source, or timm has no weights of its tag; the
            message shows near matches.
        UsageError: an id of the model hub.
    """
    refuse_hub_id(name)
    _require_tag(name)
    if name not in CANDIDATES and not may_be_in_timm(name):
        raise UnknownName("student", name, CANDIDATES, hint="Any timm model name will do.")


def refuse_hub_id(name: str) -> None:
    """Refuse an id of the model hub, because the hub may hold any network.

    Raises:
        UsageError: `name` starts with hf-hub: or hf_hub:.
    """
    if name.startswith(HUB_PREFIXES):
        raise UsageError(
            f"student {name!r} is an id of the model hub. Pass the name of a timm model, NAME or NAME.TAG. "
            "For your own weights add --student-init FILE."
        )


def _require_tag(name: str) -> None:
    """Raise UnknownName if timm's source lists tags of this architecture, but not this one."""
    architecture, dot, _ = name.partition(".")
    if dot and (tags := _timm_tags().get(architecture)) and name not in tags:
        raise UnknownName("student", name, tags)


@cache
def _timm_tags() -> dict[str, list[str]]:
    """List the names NAME.TAG in timm's source, by NAME."""
    found: dict[str, list[str]] = {}
    for architecture, tag in TAGGED.findall(_timm_source()):
        found.setdefault(architecture, []).append(f"{architecture}.{tag}")
    return found


def may_be_in_timm(name: str) -> bool:
    """Return False if timm's source lacks this architecture, ignoring a pretrained tag behind a dot."""
    architecture = name.partition(".")[0]
    source = _timm_source()
    defined = f"def {architecture}(" in source
    renamed = f"'{architecture}'" in source  # an old name that timm still accepts
    return not source or defined or renamed


@cache
def timm_architectures() -> tuple[str, ...]:
    """List every architecture registered in timm's source, sorted; empty without the source."""
    return tuple(sorted(REGISTERED.findall(_timm_source())))


@cache
def _timm_source() -> str:
    """Read the text of timm's model files: 4 MB in 0.03 s."""
    found = find_spec("timm")  # does not import timm
    folders = found.submodule_search_locations if found else None
    files = [path for folder in folders or () for path in sorted((Path(folder) / "models").glob("*.py"))]
    return "\n".join(path.read_text(encoding="utf-8") for path in files)
