"""Run the validation on good and broken exports, and count false alarms and missed faults."""

from __future__ import annotations

import importlib.util
import logging
import shutil
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tcs_edge.bundle.make import SCRIPTS
from tcs_edge.errors import UsageError
from tcs_edge.models.candidates import CANDIDATES
from tcs_edge.runtimes.registry import RUNTIMES
from tcs_edge.selftest.faults import EMBEDDING_FAULTS, FAULTS, MAX_OPSET, SCRIPT, Fault
from tcs_edge.selftest.int8 import add_int8, int8_checks
from tcs_edge.selftest.litert import LITERT_FAULTS, add_litert
from tcs_edge.selftest.ncnn import NCNN_FAULTS, add_ncnn
from tcs_edge.selftest.specimen import IMG_SIZE, Specimen, make_specimen
from tcs_edge.specs.artifacts import FORMATS, Format
from tcs_edge.specs.config import CompressConfig, ResolvedConfig
from tcs_edge.specs.defaults import ChosenStudent, Machine, resolve, with_data_defaults
from tcs_edge.stages.validate import validate_exports
from tcs_edge.students.build import require_student
from tcs_edge.students.embedding import StudentWithEmbedding
from tcs_edge.utils.files import record_files
from tcs_edge.utils.progress import track
from tcs_edge.validation.checks import Check, at_most
from tcs_edge.validation.validate import Validation

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
QUICK = ("resnet18", "deit_tiny_patch16_224")  # a CNN and a transformer whose untrained int8 is releasable
BATCH_SIZE = 16
MAX_PIXEL_DIFF = 1e-5  # as in edge_checks.py
HASHES = "sha256 in the manifest"
# Formats on request: how to add one to a specimen, which returns False if it cannot hold the student, and its faults.
ON_REQUEST = {"ncnn": (add_ncnn, NCNN_FAULTS), "litert": (add_litert, LITERT_FAULTS)}


@dataclass(frozen=True)
class GoodResult:
    """Result of a good export; every failed check is a false alarm."""

    student: str
    accuracy: float
    max_rel_diff: float
    alarms: tuple[str, ...]


@dataclass(frozen=True)
class FaultResult:
    """Result of a broken export, with every failed check."""

    student: str
    fault: str
    checks: tuple[str, ...]

    @property
    def caught(self) -> bool:
        """True if at least one check failed."""
        return bool(self.checks)


@dataclass(frozen=True)
class SelfTest:
    """Results of all good and broken exports.

    Attributes:
        expected: names of the faults to try.
        skipped: students that a format on request cannot hold, by format.
    """

    good: tuple[GoodResult, ...]
    broken: tuple[FaultResult, ...]
    expected: tuple[str, ...] = tuple(fault.name for fault in FAULTS)
    skipped: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def false_alarms(self) -> tuple[GoodResult, ...]:
        """Good exports that failed the validation."""
        return tuple(result for result in self.good if result.alarms)

    @property
    def missed(self) -> tuple[FaultResult, ...]:
        """Faults that no check detected."""
        return tuple(result for result in self.broken if not result.caught)

    @property
    def untried(self) -> tuple[str, ...]:
        """Names of faults that were tried on no student."""
        tried = {result.fault for result in self.broken}
        return tuple(name for name in self.expected if name not in tried)

    @property
    def passed(self) -> bool:
        """True if every fault was tried and detected, without a false alarm."""
        return bool(self.good) and not (self.false_alarms or self.missed or self.untried)

    def to_json(self) -> dict[str, Any]:
        """Return the results as a JSON document."""
        return {
            "schema_version": SCHEMA_VERSION,
            "verdict": "pass" if self.passed else "fail",
            "good": len(self.good),
            "false_alarms": len(self.false_alarms),
            "faults": len(self.broken),
            "caught": len(self.broken) - len(self.missed),
            "untried": list(self.untried),
            "skipped": {name: list(students) for name, students in self.skipped.items()},
            "good_exports": [asdict(result) for result in self.good],
            "broken_exports": [asdict(result) | {"caught": result.caught} for result in self.broken],
        }


def selftest(
    broken: Sequence[str] = QUICK,
    only_good: Iterable[str] = (),
    formats: Collection[str] = (),
    embedding: bool = False,
) -> SelfTest:
    """Validate good exports of all named students, and broken ones of the students in `broken`.

    Args:
        formats: formats on request, such as "ncnn". A student that one cannot hold is tested without it.
        embedding: export an embedding beside the logits, and put faults into it too.

    Raises:
        UsageError: no student, an unknown one, or one that does not take small images.
        MissingError: a package of a format is not installed.
    """
    names = list(dict.fromkeys((*broken, *only_good)))
    if not names:
        raise UsageError(f"there is no student to test. Known: {', '.join(CANDIDATES)}.")
    for name in names:
        require_student(name)
    good: list[GoodResult] = []
    results: list[FaultResult] = []
    skipped: dict[str, list[str]] = {}
    wanted = [name for name in ON_REQUEST if name in formats]
    for format in wanted:
        _require_usable(format, embedding)
    for index, name in enumerate(names, start=1):
        logger.info(f"{name} ({index} of {len(names)})")
        with tempfile.TemporaryDirectory() as place:
            specimen = make_specimen(name, Path(place), embedding=embedding)
            shutil.copyfile(SCRIPTS / SCRIPT, specimen.exports / SCRIPT)
            for format in wanted:
                add, _ = ON_REQUEST[format]
                if not add(specimen):
                    skipped.setdefault(format, []).append(name)
            good.append(_judge_good(specimen))
            if name in broken:
                results += _break(specimen, Path(place) / "broken")
    further = (*_faults_of(wanted), *(EMBEDDING_FAULTS if embedding else ()))
    expected = [fault.name for fault in (*FAULTS, *further)]
    return SelfTest(tuple(good), tuple(results), tuple(expected), skipped)


def _require_usable(format: str, embedding: bool) -> None:
    if embedding:
        raise UsageError(f"files of {format} have no embedding. Pass --format {format} or --with-embedding.")
    if require := RUNTIMES[format].require:
        require()


def _faults_of(formats: Iterable[str]) -> list[Fault]:
    return [fault for name in formats if name in ON_REQUEST for fault in ON_REQUEST[name][1]]


def _break(specimen: Specimen, folder: Path) -> list[FaultResult]:
    faults = [fault for fault in FAULTS if fault.where != "int8"]
    if add_int8(specimen):
        faults = list(FAULTS)
    else:
        logger.info(f"{specimen.name}: skipped the int8 fault, because the untrained int8 model fails its checks")
    faults += _faults_of(_formats(specimen.exports))
    faults += EMBEDDING_FAULTS if isinstance(specimen.model, StudentWithEmbedding) else ()
    return [_judge_broken(specimen, fault, folder) for fault in track(faults, f"breaking {specimen.name}")]


def _formats(exports: Path) -> tuple[Format, ...]:
    """Return the formats on request that are in a folder of exports."""
    return tuple(name for name in FORMATS if name in ON_REQUEST and (exports / RUNTIMES[name].file("fp32")).exists())


def _judge_good(specimen: Specimen) -> GoodResult:
    validation, pixels = _validated(specimen, specimen.exports), _script_check(specimen, specimen.exports)
    alarms = [f"{check.name} {check.detail}".strip() for check in (*validation.failures, pixels) if not check.passed]
    worst = max((parity.max_rel_diff for parity in validation.parities.values()), default=float("inf"))
    return GoodResult(specimen.name, validation.accuracies["pytorch"].value, worst, tuple(alarms))


def _judge_broken(specimen: Specimen, fault: Fault, folder: Path) -> FaultResult:
    """Validate a broken copy; the hashes count only for faults that change no output."""
    shutil.rmtree(folder, ignore_errors=True)
    exports = shutil.copytree(specimen.exports, folder)
    fault.damage(exports, specimen)
    failures = [check.name for check in _checks(specimen, exports, fault) if not check.passed]
    if fault.silent and not failures and _hashes(exports) != _hashes(specimen.exports):
        failures = [HASHES]
    return FaultResult(specimen.name, fault.name, tuple(failures))


def _checks(specimen: Specimen, exports: Path, fault: Fault) -> Sequence[Check]:
    if fault.where == "script":
        return (_script_check(specimen, exports),)
    if fault.where == "int8":
        return int8_checks(specimen, exports)
    return _validated(specimen, exports).checks


def _validated(specimen: Specimen, exports: Path) -> Validation:
    return validate_exports(
        specimen.model, exports, specimen.images, specimen.preprocess, _options(specimen), MAX_OPSET,
        at_device_precision=False)  # fmt: skip


def _options(specimen: Specimen) -> ResolvedConfig:
    """Return the options of a run that trained nothing and exported float32."""
    student, formats = specimen.name, _formats(specimen.exports)
    given = {"target": "raspberrypi", "student": student, "batch_size": BATCH_SIZE, "format": formats}
    asked = with_data_defaults(CompressConfig.model_validate(given), IMG_SIZE)
    machine = Machine(threads=1, workers=0, amp="no")
    return resolve(asked, ChosenStudent(student, "unknown", IMG_SIZE), "table", ("fp32",), machine)


def _script_check(specimen: Specimen, exports: Path) -> Check:
    """Check that the device's script preprocesses images as in training."""
    script, steps = _load(exports / SCRIPT), specimen.preprocess
    images = [specimen.images.test.image(row) for row in range(BATCH_SIZE)]
    worst = max(float(np.abs(script.preprocess(p, steps.to_json()) - steps(p)).max()) for p in images)
    return at_most("device: preprocessing", worst, MAX_PIXEL_DIFF, "of a normalized pixel")


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("device_script", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is not a Python file. Reinstall tcs-edge.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _hashes(exports: Path) -> list[tuple[str, str]]:
    files = (path for path in exports.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return [(record.path, record.sha256) for record in record_files(exports, files)]
