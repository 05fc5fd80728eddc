"""Measure students on a board over ssh, and merge the result into a profile, for `tcs-edge measure`.

Both runtimes are measured if the target has OpenVINO and it is installed on the board.
The board keeps its finished measurements until all is merged, so the same command continues after an interruption.
The date is that of this machine, because the clock of a board can be wrong.
"""

from __future__ import annotations

import hashlib
import logging
import math
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from tcs_edge.errors import InUse, MissingError, RequirementMissed, SpecError, TcsEdgeError, UsageError
from tcs_edge.latency.device import device_latencies
from tcs_edge.latency.plausibility import load_target_profile, profile_warnings, require_plausible
from tcs_edge.models.candidates import CANDIDATES
from tcs_edge.profiling.bundle import SCRIPT, bundle_profiler
from tcs_edge.profiling.device.main import RUNS_ALREADY, read_bundle
from tcs_edge.profiling.device.rounds import Plan
from tcs_edge.profiling.merge import merge_profiles
from tcs_edge.profiling.remote import Board, BoardFacts
from tcs_edge.specs.machine import RecordedMachine, other_architecture
from tcs_edge.specs.profile import Profile, load_profile, save_profile
from tcs_edge.specs.target import RuntimeName, TargetSpec
from tcs_edge.utils.lock import owned_file

logger = logging.getLogger(__name__)

# Most of the Pareto front on the boards, and networks of other operators: their rows correct all other estimates.
DEFAULT_MODELS = (
    "lcnet_050", "lcnet_100", "mobilenetv3_small_100", "mobilenetv3_large_100", "mobilenetv4_conv_small_050",
    "mobilenetv4_conv_small", "mobilenetv4_conv_medium", "mobilenetv2_100", "tf_efficientnet_lite0", "efficientnet_b0",
    "repghostnet_100", "hgnetv2_b0", "fastvit_t8", "repvit_m0_9", "regnety_004", "resnet18",
)  # fmt: skip
IMG_SIZE = 224
RESULT = "result.json"
PLAN = Plan()
NOT_ALL = 1  # exit code of the profiler: noisy latencies are missing
SHOWN_PX = 224


@dataclass(frozen=True)
class Measured:
    """Outcome: the merged profile, its measured rows, and whether the board left out noisy latencies.

    Attributes:
        intervals: by measured runtime, the median factor between a latency and the end of its interval, before and
            now, over all candidates; None without an estimate.
        own: the same over the measured rows.
    """

    profile: Profile
    rows: int
    complete: bool
    intervals: dict[RuntimeName, tuple[float | None, ...]]
    own: float


def measure_board(
    board: Board,
    target: TargetSpec,
    out: Path,
    models: Sequence[str] = (),
    img_sizes: Sequence[int] = (),
    precisions: Sequence[str] = ("fp32",),
    plan: Plan = PLAN,
) -> Measured:
    """Measure students on `board`, and merge their rows with those of `out` and of the target into `out`.

    Args:
        models: timm names; empty for `DEFAULT_MODELS`.
        img_sizes: pixels; empty for 224.
        plan: rounds, their length, and the limit of noise.

    Raises:
        MissingError: the board cannot be reached, lacks a package, or the connection was dropped.
        UsageError: the board has another architecture than the target, or no model can be exported.
        SpecError: the result, or the profile in `out`, is not one of the target. `out` is unchanged.
        RequirementMissed: the board recorded nothing, because it was too noisy.
        InUse: another process writes `out`, or an earlier measurement still runs on the board.
    """
    known = load_target_profile(target)
    with owned_file(out), TemporaryDirectory() as scratch:
        earlier = _earlier(out, target, known)
        runtimes = _runtimes(board, _facts(board, target), target)
        folder, result = Path(scratch) / "profiler", Path(scratch) / RESULT
        sizes = img_sizes or (IMG_SIZE,)
        bundle_profiler(target, models or DEFAULT_MODELS, sizes, precisions, folder, (target.threads,))
        place = f"tcs-edge-measure-{_key(folder, plan, runtimes)}"
        complete = _run_there(board, folder, place, result, plan, runtimes)
        try:
            measured = _read(board, result, target)
        except SpecError:
            _remove(board, place)  # a new start is the only way on
            raise
        profiles = [*earlier, (measured.replaced(target=known.target), board.host)]
        found = _merged(target, known, measured, profiles, out, complete)
        _remove(board, place)
        return found


def _earlier(out: Path, target: TargetSpec, known: Profile) -> list[tuple[Profile, str]]:
    """Return the profile of the target and the one in `out`, each with its name, if they have rows."""
    profiles = [(known, f"profile of {target.name}")] if known.rows else []
    if out.is_file():
        profile = load_profile(out)
        # A target that extends another one may use that one's profile.
        if profile.target not in (known.target, target.name):
            raise UsageError(f"{out} is a profile of {profile.target}, not of {known.target}. Choose another --out.")
        require_plausible(profile, target, str(out))
        profiles.append((profile.replaced(target=known.target), str(out)))
    return profiles


def _facts(board: Board, target: TargetSpec) -> BoardFacts:
    facts = board.facts()
    if needed := other_architecture(RecordedMachine(board.host, facts.architecture), target.cpu.isa):
        raise UsageError(
            f"{board.host} is {facts.architecture}, but {target.name} is {needed}. Pass the --target of this board."
        )
    return facts


def _runtimes(board: Board, facts: BoardFacts, target: TargetSpec) -> tuple[RuntimeName, ...]:
    """Return the runtimes to measure."""
    if "openvino" not in target.runtimes:
        return ("onnxruntime",)
    if not facts.has_openvino:
        logger.warning(f"{board.host} lacks openvino: only onnxruntime is measured. To measure both, install it there.")
        return ("onnxruntime",)
    return ("onnxruntime", "openvino")


def _run_there(board: Board, folder: Path, place: str, result: Path, plan: Plan, runtimes: Sequence[str]) -> bool:
    """Copy the profiler to `place`, run it and fetch its result; return False if it left out latencies."""
    logger.info(f"copying: {sum(file.stat().st_size for file in folder.rglob('*') if file.is_file()) / 1e6:.0f} MB")
    board.send(folder, place)
    logger.info(f"measuring on {board.host}, in its folder {place}")
    words = [
        board.python, f"{place}/{SCRIPT}", "--out", f"{place}/{RESULT}", "--rounds", plan.rounds,
        "--seconds", plan.seconds, "--max-spread", plan.max_spread, "--retries", plan.retries, "--runtime", *runtimes,
        "--date", datetime.now(UTC).date(),
    ]  # fmt: skip
    done = board.run(shlex.join(map(str, words)), shown=True)  # ssh starts in the home folder
    if done.returncode == NOT_ALL:
        found = board.run(f"test -f {shlex.quote(f'{place}/{RESULT}')}")
        if found.returncode:
            raise RequirementMissed(
                f"{board.host} recorded no latency, for the reasons above. Against noise, stop other work on it, "
                "cool it, and run the same command again."
            )
    elif done.returncode == RUNS_ALREADY:
        raise InUse(
            f"{board.host} still runs an earlier measurement. Wait some minutes, and run the same command again."
        )
    elif done.returncode:
        raise UsageError(
            f"the profiler failed on {board.host} (code {done.returncode}); its messages are above. "
            f"Remove its folder {place} there, and run the same command again."
        )
    board.fetch(f"{place}/{RESULT}", result)
    return done.returncode == 0


def _remove(board: Board, place: str) -> None:
    try:
        board.run(f"rm -rf {shlex.quote(place)}")
    except MissingError as error:
        logger.warning(f"the folder {place} stays on {board.host}: {error}")


def _read(board: Board, result: Path, target: TargetSpec) -> Profile:
    """Read the profiler's result.

    Raises:
        SpecError: it is damaged, not a result of the profiler, or not of `target`.
    """
    try:
        measured = load_profile(result)
    except SpecError as error:
        reason = str(error).replace(f"{result}: ", "").replace(f"{result} ", "it ")
        raise SpecError(f"the result of {board.host} cannot be used: {reason}") from None
    if measured.target != target.name:
        raise SpecError(f"the result of {board.host} is of {measured.target}, not of {target.name}. Measure again.")
    require_plausible(measured, target, f"the result of {board.host}")
    return measured


def _key(folder: Path, plan: Plan, runtimes: Sequence[str]) -> str:
    """Return a name for the measurement, equal whenever the same command runs: graphs may differ in their bytes."""
    bundle = read_bundle(folder)
    graphs = sorted((graph["file"], graph["precision"]) for graph in bundle["graphs"])
    return hashlib.sha256(repr((bundle["target"], bundle["threads"], graphs, plan, runtimes)).encode()).hexdigest()[:12]


def _merged(
    target: TargetSpec,
    known: Profile,
    measured: Profile,
    profiles: Sequence[tuple[Profile, str]],
    out: Path,
    complete: bool,
) -> Measured:
    """Merge `profiles` into `out`, and compare the result with the profile that was `known` before."""
    merged = merge_profiles([one for one, _ in profiles], [origin for _, origin in profiles])
    for line in profile_warnings(measured, target):
        logger.warning(line)
    save_profile(merged, out)
    runtimes = [name for name in target.runtimes if name in {row.runtime for row in measured.rows}]
    intervals = {name: tuple(_typical_factor(target, one, name) for one in (known, merged)) for name in runtimes}
    of_rounds = statistics.median(math.sqrt(row.high_ms / row.low_ms) for row in measured.rows)
    return Measured(merged, len(measured.rows), complete, intervals, of_rounds)


def _typical_factor(target: TargetSpec, profile: Profile, runtime: RuntimeName) -> float | None:
    """Return the median of sqrt(high / low) over the candidates' latencies; None without latencies."""
    try:
        known = device_latencies(target, profile, runtime=runtime)
        found = [known.latency(name, SHOWN_PX) for name in CANDIDATES]
    except TcsEdgeError as error:
        logger.debug(f"no estimates: {error}")
        return None
    return statistics.median(math.sqrt(one.high_ms / one.low_ms) for one in found)
