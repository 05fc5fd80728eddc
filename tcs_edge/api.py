"""The Python API: `compress`, `load` and `Gate`, for the commands of the same names.

Each call imports its heavy modules itself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from tcs_edge.errors import RequirementMissed
from tcs_edge.gate.check import accept_model, check_model
from tcs_edge.gate.limits import GateLimits, overridden
from tcs_edge.project.read import find_limits, find_resumable, read_options
from tcs_edge.specs.config import CompressConfig
from tcs_edge.specs.parameters import argument_docs, python_signature
from tcs_edge.utils.installed import imports_explained
from tcs_edge.utils.processes import refuse_second_import

if TYPE_CHECKING:
    from tcs_edge.gate.judge import GateResult
    from tcs_edge.pipeline.run import Run
    from tcs_edge.runs.classifier import Classifier

    AnyRun: TypeAlias = str | os.PathLike[str] | Run

AnyPath: TypeAlias = str | os.PathLike[str]
Limit: TypeAlias = float | Mapping[str, float] | None
Change: TypeAlias = float | str | Mapping[str, float | str]


@imports_explained()
def compress(
    data: AnyPath | None = None,
    *,
    config: AnyPath | None = None,
    out: AnyPath | None = None,
    overwrite: bool = False,
    resume: AnyPath | None = None,
    quiet: bool = False,
    **options: Any,
) -> Run:
    """Distill, export and validate a classifier for a device, as `tcs-edge compress` does.

    Progress goes to stderr unless `quiet`. A `tcs-edge.toml` is read only if `config` names it.

    Args:
        config: TOML file with these options; arguments override it.
        out: the run folder; default runs/<date>-<target>-<student>, with -2, -3, ... for later runs of a day.
        overwrite: replace an earlier run in `out`.
        resume: folder of an interrupted run to continue, or of a failed run to export again. In a folder of runs,
            the newest one that can continue.
        OPTIONS

    Returns:
        The run. Check `run.passed`: exports that fail their validation raise nothing here; `load` refuses them.

    Raises:
        TcsEdgeError: as in `tcs_edge.errors`; its `exit_code` is the exit code of the command.
    """
    refuse_second_import("compress()")
    from tcs_edge.pipeline.run import compress as run_pipeline
    from tcs_edge.report.console import terminal

    given = {name: value for name, value in (options | {"data": data}).items() if value is not None}
    plain = {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in given.items()}
    unfinished = find_resumable(Path(resume), plain) if resume is not None else None
    asked = read_options(plain, _path(config), unfinished)
    with terminal(-1 if quiet else 0):
        return run_pipeline(asked, _path(out), overwrite, unfinished)


# `specs.options` declares the options; here they become arguments and their documentation.
compress.__signature__ = python_signature(compress, CompressConfig)  # type: ignore[attr-defined]
compress.__doc__ = (compress.__doc__ or "").replace("        OPTIONS", argument_docs(CompressConfig))


@imports_explained()
def load(run: AnyRun, artifact: str = "model.onnx") -> Classifier:
    """Load the exported model of a finished run, to classify images.

    Args:
        run: the run that `compress` returned, or a run folder.
        artifact: a file of the run's export folder: "model.onnx", "openvino/model.xml".

    Raises:
        ParityFailed: the run did not pass its validation, or a file of the model changed after it.
        UnknownName: no such model in the export folder.
        DataError: no run, or its files do not match each other.

    Examples:
        >>> model = load("runs/photos")
        >>> model.classes
        ('blue', 'green', 'red')
        >>> answer = model.predict("photos/test/red/01.png")[0]
        >>> answer.label in model.classes and 0 < answer.probability <= 1
        True
    """
    from tcs_edge.runs.classifier import load_classifier

    return load_classifier(_run_path(run), artifact)


class Gate:
    """Limits for a model, as `tcs-edge gate` checks them.

    A limit is a number, or {"fail": ..., "warn": ...}. Sizes are in 10^6 bytes, counts in millions, shares
    in 0..1. docs/how-to/gate.md describes each limit.

    Args:
        LIMITS
        max_change: largest change for the worse against the baseline: {"size_mb": "5 %", "accuracy": 0.01}.
        baseline: a run folder, a manifest, a baseline file, or git:REF:path of one.
        allow_other_target: also compare with a baseline of another target or precision.

    Raises:
        SpecError: an invalid limit.

    Examples:
        >>> gate = Gate(max_size_mb={"fail": 10, "warn": 8}, max_accuracy_drop=0.01)
        >>> result = gate.check("runs/photos")
        >>> result.verdict, result.passed
        ('pass', True)
        >>> Gate(max_size_mb=0.1).require("runs/photos")
        Traceback (most recent call last):
        tcs_edge.errors.RequirementMissed: runs/photos: size, model.onnx: ... MB is over the limit of 0.1 MB; ...
    """

    def __init__(
        self,
        *,
        max_change: Mapping[str, Change] | None = None,
        baseline: AnyPath | None = None,
        allow_other_target: bool = False,
        **limits: Limit,
    ) -> None:
        written: dict[str, Any] = {name: value for name, value in limits.items() if value is not None}
        if baseline is not None:
            written["baseline"] = os.fspath(baseline)
        self.limits = overridden(GateLimits(), written | {"change": dict(max_change or {})})
        self.allow_other_target = allow_other_target

    @classmethod
    def from_folder(cls, folder: AnyPath = ".") -> Gate:
        """Make a gate from the limits in the folder's tcs-edge.toml or pyproject.toml.

        Raises:
            SpecError: a file that cannot be read, or an invalid limit.
        """
        gate = cls()
        gate.limits, _ = find_limits(Path(folder), {})
        return gate

    @imports_explained()
    def check(self, model: AnyRun, *, selfcheck: AnyPath | None = None) -> GateResult:
        """Check a run, a run folder, a manifest.json, or an .onnx or .xml file. A miss raises nothing.

        Args:
            selfcheck: selfcheck.json from the device: the latency measured there replaces the estimate.

        Raises:
            UsageError: no model to check, no limits, a baseline that is not comparable, or a self-check of another
                model.
        """
        return check_model(_run_path(model), self.limits, self.allow_other_target, _path(selfcheck))

    @imports_explained()
    def update_baseline(self, model: AnyRun, baseline: AnyPath, *, selfcheck: AnyPath | None = None) -> GateResult:
        """Write the model's figures to the small file `baseline`, to commit; check limits that need no comparison.

        A model that differs from the validated one fails, and nothing is written.

        Raises:
            UsageError: no model to check, or a self-check of another model.
            MissingError: the file cannot be written.

        Examples:
            >>> Gate().update_baseline("runs/photos", "gate.json").passed
            True
            >>> Gate(baseline="gate.json", max_change={"size_mb": "5 %"}).check("runs/photos").passed
            True
        """
        return accept_model(_run_path(model), self.limits, Path(baseline), _path(selfcheck))

    def require(self, model: AnyRun, *, selfcheck: AnyPath | None = None) -> GateResult:
        """Check a model as `check` does, and raise on a miss.

        Raises:
            RequirementMissed: the model misses a limit; the message names every missed limit.
        """
        from tcs_edge.report.gate import sentence

        result = self.check(model, selfcheck=selfcheck)
        if not result.passed:
            misses = "; ".join(sentence(check) for check in result.of("fail"))
            raise RequirementMissed(f"{result.subject.name}: {misses}")
        return result

    def __repr__(self) -> str:
        return f"Gate({self.limits.model_dump(exclude_none=True)})"


Gate.__init__.__signature__ = python_signature(Gate.__init__, GateLimits, without=("change",))  # type: ignore[attr-defined]
Gate.__doc__ = (Gate.__doc__ or "").replace("        LIMITS", argument_docs(GateLimits, ("change", "baseline")))


def _run_path(run: AnyRun) -> Path:
    return Path(run) if isinstance(run, str | os.PathLike) else run.path


def _path(place: AnyPath | None) -> Path | None:
    return None if place is None else Path(place)
