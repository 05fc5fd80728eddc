"""The Python API: `compress`, `load` and `Gate` do what the commands of the same names do.

Everything heavy is imported by the call that needs it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from tcs_edge.errors import RequirementMissed
from tcs_edge.gate.check import accept_model, check_model
from tcs_edge.gate.limits import GateLimits, overridden
from tcs_edge.project.read import find_limits, read_options
from tcs_edge.specs.config import CompressConfig
from tcs_edge.specs.parameters import argument_docs, python_signature

if TYPE_CHECKING:
    from tcs_edge.gate.judge import GateResult
    from tcs_edge.pipeline.run import Run
    from tcs_edge.runs.classifier import Classifier

    AnyRun: TypeAlias = str | os.PathLike[str] | Run

AnyPath: TypeAlias = str | os.PathLike[str]
Limit: TypeAlias = float | Mapping[str, float] | None
Change: TypeAlias = float | str | Mapping[str, float | str]


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

    Progress goes to stderr unless `quiet`. No `tcs-edge.toml` is looked for: name it with `config`.

    Args:
        config: TOML file with these options; arguments win.
        out: the run folder; default runs/<date>-<target>-<student>.
        overwrite: replace an earlier run in `out`.
        resume: folder of an interrupted run that goes on, or of a failed one that is to export other files.
        OPTIONS

    Returns:
        The run. Exports that fail their validation raise nothing: look at `run.passed`; `load` refuses them.

    Raises:
        TcsEdgeError: as in `tcs_edge.errors`; its `exit_code` is what the command would end with.
    """
    from tcs_edge.pipeline.run import compress as run_pipeline
    from tcs_edge.report.console import terminal

    given = {name: value for name, value in (options | {"data": data}).items() if value is not None}
    plain = {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in given.items()}
    asked = read_options(plain, _path(config), _path(resume))
    with terminal(-1 if quiet else 0):
        return run_pipeline(asked, _path(out), overwrite, _path(resume))


# The options stand in one place, `specs.options`; here they become arguments and their documentation.
compress.__signature__ = python_signature(compress, CompressConfig)  # type: ignore[attr-defined]
compress.__doc__ = (compress.__doc__ or "").replace("        OPTIONS", argument_docs(CompressConfig))


def load(run: AnyRun, artifact: str = "model.onnx") -> Classifier:
    """Load the exported model of a finished run, ready to classify pictures.

    Args:
        run: what `compress` returned, or a run folder.
        artifact: a file of the run's export folder: "model.onnx", "openvino/model.xml".

    Raises:
        ParityFailed: the run did not pass its validation.
        UnknownName: no such model in the export folder.
        DataError: no run, or one whose files do not fit each other.

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
    """Limits that a model has to meet, as `tcs-edge gate` holds them.

    A limit is a number, or {"fail": ..., "warn": ...}; sizes are in 10^6 bytes, counts in millions, shares
    in 0..1. docs/how-to/gate.md says what each one is held against.

    Args:
        LIMITS
        max_change: how much worse than the baseline at most: {"size_mb": "5 %", "accuracy": 0.01}.
        baseline: a run folder, a manifest, a baseline file, or git:REF:path of one.
        allow_other_target: compare with a baseline of another target or precision too.

    Raises:
        SpecError: a limit that makes no sense.

    Examples:
        >>> gate = Gate(max_size_mb={"fail": 10, "warn": 8}, max_accuracy_drop=0.01)
        >>> result = gate.check("runs/photos")
        >>> result.verdict, result.passed
        ('pass', True)
        >>> Gate(max_size_mb=0.1).require("runs/photos")
        Traceback (most recent call last):
        tcs_edge.errors.RequirementMissed: runs/photos: size, all files: ... MB is over the limit of 0.1 MB ...
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
        """The limits written in the folder's tcs-edge.toml or pyproject.toml.

        Raises:
            SpecError: a file that cannot be read, or says what makes no sense.
        """
        gate = cls()
        gate.limits, _ = find_limits(Path(folder), {})
        return gate

    def check(self, model: AnyRun, *, selfcheck: AnyPath | None = None) -> GateResult:
        """Judge a run, a run folder, a manifest.json, or an .onnx or .xml file; a miss is a verdict, no exception.

        Args:
            selfcheck: selfcheck.json from the device: the latency measured there replaces the estimate.

        Raises:
            UsageError: nothing to gate there, no limits at all, a baseline that cannot be compared with, or a
                self-check of another model.
        """
        return check_model(_run_path(model), self.limits, self.allow_other_target, _path(selfcheck))

    def update_baseline(self, model: AnyRun, baseline: AnyPath, *, selfcheck: AnyPath | None = None) -> GateResult:
        """Write the model's numbers to the small file `baseline`, to commit; judge the limits that need no comparison.

        A model that is not what was validated fails, and nothing is written.

        Raises:
            UsageError: nothing to gate there, or a self-check of another model.
            MissingError: the file cannot be written.

        Examples:
            >>> Gate().update_baseline("runs/photos", "gate.json").passed
            True
            >>> Gate(baseline="gate.json", max_change={"size_mb": "5 %"}).check("runs/photos").passed
            True
        """
        return accept_model(_run_path(model), self.limits, Path(baseline), _path(selfcheck))

    def require(self, model: AnyRun, *, selfcheck: AnyPath | None = None) -> GateResult:
        """As `check`, for a test or a script that must stop.

        Raises:
            RequirementMissed: the model misses a limit; the message says which ones.
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
