"""Measure students on this machine and write a profile, for `tcs-edge profile`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from importlib.util import find_spec
from itertools import product
from pathlib import Path

from tcs_edge.errors import MissingError, RequirementMissed, UsageError
from tcs_edge.latency.plausibility import require_plausible
from tcs_edge.models.candidates import CANDIDATES
from tcs_edge.profiling.device.graphs import Key, UnusableRuntime
from tcs_edge.profiling.device.machine import describe_machine
from tcs_edge.profiling.device.results import profile_document, refusals
from tcs_edge.profiling.device.rounds import Plan
from tcs_edge.profiling.device.session import STATE_FILE, OtherMeasurement, measure
from tcs_edge.profiling.graphs import export_graphs
from tcs_edge.profiling.merge import merge_profiles
from tcs_edge.specs.machine import other_architecture, recorded_machine
from tcs_edge.specs.profile import Profile, load_profile, save_profile
from tcs_edge.specs.strict import validated
from tcs_edge.specs.target import TargetSpec
from tcs_edge.students.build import require_student
from tcs_edge.utils.files import remove_drafts
from tcs_edge.utils.lock import owned_file
from tcs_edge.utils.progress import track
from tcs_edge.utils.telemetry import telemetry_off
from tcs_edge.utils.threads import usable_cores

logger = logging.getLogger(__name__)

IMG_SIZES = (32, 64, 96, 128, 160, 192, 224)


@dataclass(frozen=True)
class Request:
    """Latencies to measure; an empty field means every candidate, size or runtime, or 1 and the target's threads."""

    target: TargetSpec
    models: tuple[str, ...] = ()
    img_sizes: tuple[int, ...] = ()
    runtimes: tuple[str, ...] = ()
    threads: tuple[int, ...] = ()
    precisions: tuple[str, ...] = ("fp32",)

    def keys(self) -> list[Key]:
        """Return every combination once."""
        for model in self.models:
            require_student(model)
        combinations = product(
            self.models or tuple(CANDIDATES),
            self.img_sizes or IMG_SIZES,
            self.runtimes or tuple(self.target.runtimes),
            self.threads or (1, self.target.threads),
            self.precisions,
        )
        return list(dict.fromkeys(Key(*combination) for combination in combinations))


@dataclass(frozen=True)
class Recording:
    """The written profile, and one line for every latency that is missing from it."""

    profile: Profile
    refused: tuple[str, ...]


def record_profile(request: Request, plan: Plan, out: Path, today: date) -> Recording:
    """Measure the requested latencies and write them to `out`; other rows in `out` stay.

    Graphs and finished rounds are kept in a folder beside `out` until all is recorded, to continue later.

    Raises:
        UnknownName: timm has no such model.
        UsageError: more threads than cores, no model that can be exported, a machine of another architecture than
            the target, a profile of another target in `out`, or a folder that was started with other options.
        MissingError: a runtime is not installed.
        RequirementMissed: no latency was recorded.
        SpecError: the latencies are impossible on this target, so this is another machine.
        InUse: another process writes `out`.
    """
    keys = request.keys()
    _require_possible(keys)
    _require_architecture(request.target)
    with owned_file(out):
        return _recorded(request, keys, plan, out, today)


def _recorded(request: Request, keys: Sequence[Key], plan: Plan, out: Path, today: date) -> Recording:
    earlier = _earlier(out, request.target)
    work = out.with_name(f"{out.stem}.work")
    unexported = export_graphs(keys, work)
    able = [key for key in keys if key.graph_name not in unexported]
    if not able:
        raise UsageError(f"nothing to measure: {next(iter(unexported.values()))}")
    profile, refused = _measured(request, able, plan, work, today)
    refused += [f"not recorded: {name}: {why}" for name, why in unexported.items()]
    merged = merge_profiles((*earlier, profile), [*[out.name] * len(earlier), "measured now"])
    save_profile(merged, out)
    if not refused:
        _clear(work, keys)
    return Recording(merged, tuple(refused))


def _earlier(out: Path, target: TargetSpec) -> tuple[Profile, ...]:
    if not out.is_file():
        return ()
    profile = load_profile(out)
    if profile.target != target.name:
        raise UsageError(f"{out} is a profile of {profile.target}, not of {target.name}. Choose another --out.")
    require_plausible(profile, target, str(out))
    return (profile,)


def _clear(work: Path, keys: Sequence[Key]) -> None:
    """Remove the files of the measurement in `work`, and `work` itself unless it has other files."""
    remove_drafts(work)
    plain = {replace(key, precision="fp32").graph_name for key in keys}
    for name in {STATE_FILE, *plain, *(key.graph_name for key in keys)}:
        (work / name).unlink(missing_ok=True)
    if not any(work.iterdir()):
        work.rmdir()


def _measured(request: Request, keys: Sequence[Key], plan: Plan, work: Path, today: date) -> tuple[Profile, list[str]]:
    try:
        with telemetry_off():  # the device code imports the runtimes
            state = measure(keys, lambda key: work / key.graph_name, plan, work, logger.info, track)
    except OtherMeasurement as error:
        raise UsageError(f"{error}. Delete that folder, or choose another --out.") from None
    except UnusableRuntime as error:
        raise UsageError(str(error)) from None
    machine = describe_machine(sorted({key.runtime for key in keys}))
    document = profile_document(request.target.name, keys, state, plan, machine, today.isoformat())
    refused = refusals(keys, state, plan)
    if not document["rows"]:
        raise RequirementMissed(
            f"no latency was recorded, {len(refused)} were refused. The first: {refused[0]}. "
            "Against noise, stop other work on the machine or raise --max-spread."
        )
    profile = validated(Profile, document, work)
    require_plausible(profile, request.target)
    return profile, refused


def _require_architecture(target: TargetSpec) -> None:
    here = recorded_machine(describe_machine(()))
    if needed := other_architecture(here, target.cpu.isa):
        raise UsageError(
            f"this machine is {here}, but {target.name} is {needed}. Run tcs-edge profile on the device, or make a "
            f"folder for it: tcs-edge bundle-profiler --target {target.name}"
        )


def _require_possible(keys: Sequence[Key]) -> None:
    most, cores = max(key.threads for key in keys), usable_cores()
    if most > cores:
        raise UsageError(f"--threads {most} is more than the {cores} usable cores of this machine. Lower --threads.")
    for runtime in sorted({key.runtime for key in keys}):
        if find_spec(runtime) is None:
            raise MissingError(f"{runtime} is not installed. Run pip install {runtime}, or omit it with --runtime.")
