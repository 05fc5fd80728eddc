"""Merge profiles of one target: keep the best of two rows for the same latency.

Measured rows win over published ones, published over estimated ones. Of two measured rows the newer one wins,
without different dates the file named last. If the intervals of two rows do not overlap, a warning shows both.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from tcs_edge.errors import DataError, SpecError, UsageError, short
from tcs_edge.specs.machine import RecordedMachine, recorded_machine
from tcs_edge.specs.profile import LatencyRow, Profile, RowKey, Source, load_profile
from tcs_edge.specs.strict import validated
from tcs_edge.specs.target import TargetSpec, list_targets, load_target
from tcs_edge.utils.reading import load_json

logger = logging.getLogger(__name__)

RANK: dict[Source, int] = {"estimated": 0, "published": 1, "measured": 2}
SELFCHECK_VERSION = 1
SELFCHECK_CITATION = "self-check of a device bundle, on the device"
OF_MACHINE = {"device", "architecture"}  # the document has them, once for all rows
DATE_LENGTH = len("2026-01-31")


@dataclass(frozen=True)
class _Offer:
    """Row of one file; `order` is the index of the file."""

    row: LatencyRow
    origin: str
    order: int
    citation: str

    @property
    def rank(self) -> tuple[int, date, int]:
        return (RANK[self.row.source], self.row.measured_on or date.min, self.order)

    def __str__(self) -> str:
        row = self.row
        when = f" {row.measured_on}" if row.measured_on else ""
        return f"{self.origin} {row.p50_ms:.3g} ms ({row.low_ms:.3g} to {row.high_ms:.3g}, {row.source}{when})"


def merge_profiles(profiles: Sequence[Profile], origins: Sequence[str]) -> Profile:
    """Return one profile with the best row for every latency; warn of rows that disagree.

    Args:
        profiles: at least one, all of the same target.
        origins: name of each profile in messages.

    Raises:
        UsageError: profiles of different targets.
    """
    _require_one_target(profiles, origins)
    best: dict[RowKey, _Offer] = {}
    for offer in _offers(profiles, origins):
        known = best.get(offer.row.key)
        if known is None:
            best[offer.row.key] = offer
            continue
        loser, winner = sorted((known, offer), key=lambda one: one.rank)
        best[offer.row.key] = winner
        if _disagree(known.row, offer.row):
            logger.warning(f"{offer.row.what}: {known} and {offer} disagree. {_why(winner, loser)}")
    return _assembled(profiles, list(best.values()))


def with_shared_target(profile: Profile, device: TargetSpec) -> Profile:
    """Return a profile of a target that uses another target's profile as one of that: raspberrypi has raspberrypi5's.

    Args:
        device: target of the command, which need not be a shipped one.
    """
    target = device if device.name == profile.target else None
    if target is None and profile.target in list_targets():
        target = load_target(profile.target)
    if target is None or not target.profile:
        return profile
    try:
        return profile.replaced(target=load_profile(target.profile).target)
    except SpecError:  # the target names a file that this command is to write
        return profile


def _require_one_target(profiles: Sequence[Profile], origins: Sequence[str]) -> None:
    for profile, origin in zip(profiles, origins, strict=True):
        if profile.target != profiles[0].target:
            raise UsageError(
                f"the profiles have different targets: {profiles[0].target} in {origins[0]}, {profile.target} in "
                f"{origin}. Merge the profiles of each target separately."
            )


def _offers(profiles: Sequence[Profile], origins: Sequence[str]) -> Iterable[_Offer]:
    for order, (profile, origin) in enumerate(zip(profiles, origins, strict=True)):
        for row in profile.rows:
            stamped = _stamped(row, profile.machine) if row.source == "measured" else row
            yield _Offer(stamped, origin, order, profile.citations[row.citation])


def _stamped(row: LatencyRow, machine: dict[str, str]) -> LatencyRow:
    """Return the row with its own version and machine, because the merged profile has those of one file only."""
    known = row.measured_with(machine)
    facts = {
        "runtime_version": row.version(machine),
        "device": known.device,
        "architecture": known.architecture,
    }
    return row.replaced(**{name: fact for name, fact in facts.items() if fact is not None})


def _disagree(one: LatencyRow, other: LatencyRow) -> bool:
    return one.low_ms > other.high_ms or other.low_ms > one.high_ms


def _why(winner: _Offer, loser: _Offer) -> str:
    """Format the winner and the reason."""
    if winner.rank[0] != loser.rank[0]:
        return f"{winner.origin} wins: {winner.row.source} over {loser.row.source}"
    if winner.rank[1] != loser.rank[1]:
        return f"{winner.origin} wins: it is newer"
    return f"{winner.origin} wins: it is named last"


def _assembled(profiles: Sequence[Profile], offers: Sequence[_Offer]) -> Profile:
    """Build the profile of the winners and their citations; two texts of one name get different names."""
    citations: dict[str, str] = {}
    rows = []
    for offer in offers:
        name = _citation_name(citations, offer.row.citation, offer.citation)
        citations[name] = offer.citation
        rows.append(offer.row.replaced(citation=name))
    return Profile(
        target=profiles[0].target,
        # The last file wins for facts in several files. A file may have the facts of one runtime only.
        machine={name: text for profile in profiles for name, text in profile.machine.items()},
        notes=tuple(dict.fromkeys(note for profile in profiles for note in profile.notes)),
        citations=citations,
        rows=tuple(rows),
    )


def _citation_name(citations: Mapping[str, str], wanted: str, text: str) -> str:
    name, number = wanted, 1
    while citations.get(name, text) != text:
        number += 1
        name = f"{wanted}-{number}"
    return name


def read_results(name_or_path: str, target: str | None) -> Profile:
    """Read a profile by name or path, or the JSON of a device bundle's self-check.

    A self-check is a document with `rows` and a `verdict`. Its device and architecture become the
    machine of the profile. Keys that profiles lack are left out, and the memory as well, because it is that of the
    whole process. A row without interval gets the one from its median to its 90th percentile.

    Raises:
        UsageError: a failed self-check, or one without target if `target` is None.
        SpecError: a self-check of another version.
        UnknownName, SpecError: as `load_profile`.
    """
    raw = _read_document(name_or_path)
    if raw is None or "verdict" not in raw or not isinstance(raw.get("rows"), list):
        return load_profile(name_or_path)
    if raw.get("schema_version") != SELFCHECK_VERSION:
        raise SpecError(
            f"{name_or_path}: schema_version is {short(raw.get('schema_version'))}, this version reads "
            f"{SELFCHECK_VERSION}. Bundle the run again, and repeat the self-check."
        )
    if raw["verdict"] != "pass":
        raise UsageError(f"{name_or_path}: the self-check failed. Bundle the run again, and repeat the self-check.")
    named = raw.get("target") or target
    if not isinstance(named, str):
        raise UsageError(f"{name_or_path} has no target. Pass --target NAME.")
    known = recorded_machine(raw["machine"]) if isinstance(raw.get("machine"), dict) else RecordedMachine()
    machine = {"cpu": known.device, "architecture": known.architecture}
    document = {
        "target": named,
        "machine": {name: fact for name, fact in machine.items() if fact is not None},
        "citations": {"selfcheck": SELFCHECK_CITATION},
        "rows": [_as_profile_row(row, str(raw.get("measured", ""))[:DATE_LENGTH] or None) for row in raw["rows"]],
    }
    return validated(Profile, document, Path(name_or_path))


def _read_document(name_or_path: str) -> dict[str, Any] | None:
    """Read the JSON object in a file; None for the name of a shipped profile, or if load_profile raises the error."""
    if not name_or_path.endswith(".json"):
        return None
    try:
        raw = load_json(Path(name_or_path))
    except (FileNotFoundError, DataError):
        return None
    return raw if isinstance(raw, dict) else None


def _as_profile_row(row: object, measured_on: str | None) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise SpecError(f"a row of a self-check must be an object, got {short(row)}.")
    known = {name: value for name, value in row.items() if name in LatencyRow.model_fields.keys() - OF_MACHINE}
    middle = known.get("p50_ms")
    filled = {"low_ms": middle, "high_ms": known.get("p90_ms", middle), "measured_on": measured_on}
    return filled | known | {"source": "measured", "citation": "selfcheck"}
