"""Manage the folder of a run, and rename its exports after the verdict.

manifest.json            written last
config.resolved.toml     every option of the run; `--resume` and `--config` read it
metrics.jsonl            one line per epoch
train.log                log of the run
README.md                the model card
bom.cdx.json             the bill of materials
tcs-edge-run.json        marker of a run folder, written first
checkpoints/             deployed.safetensors: the folded student
export.unvalidated/         exports before the verdict; the only exports after a crash
export/                  exports that passed validation
export.REJECTED/         exports that failed validation, every file name ending in .rejected
reports/
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tcs_edge.errors import DataError, UsageError
from tcs_edge.runs.origin import RUN_MARKER, STARTED_IN, started_in
from tcs_edge.utils.files import make_folder, write_json
from tcs_edge.utils.reading import read_json

SCHEMA_VERSION = 1
MARKER = RUN_MARKER
KIND = "tcs-edge run"
MANIFEST = "manifest.json"
REPORT = "reports/report.html"
UNVALIDATED, EXPORT, REJECTED = "export.unvalidated", "export", "export.REJECTED"
REJECTED_SUFFIX = ".rejected"
CONFIG, METRICS, LOG = "config.resolved.toml", "metrics.jsonl", "train.log"
MODEL_CARD, BOM = "README.md", "bom.cdx.json"
FOLDERS = ("checkpoints", UNVALIDATED, EXPORT, REJECTED, "reports")
FILES = (MANIFEST, MARKER, CONFIG, METRICS, LOG, MODEL_CARD, BOM)


@dataclass(frozen=True)
class RunFolder:
    """Paths inside a run folder, and the renaming of its exports by the verdict."""

    root: Path

    @property
    def manifest(self) -> Path:
        return self.root / MANIFEST

    @property
    def config(self) -> Path:
        return self.root / CONFIG

    @property
    def metrics(self) -> Path:
        return self.root / METRICS

    @property
    def log(self) -> Path:
        return self.root / LOG

    @property
    def model_card(self) -> Path:
        return self.root / MODEL_CARD

    @property
    def bom(self) -> Path:
        return self.root / BOM

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def deployed_weights(self) -> Path:
        """Weights of the trained, folded student, the reference of every validation."""
        return self.checkpoints / "deployed.safetensors"

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    @property
    def validation(self) -> Path:
        return self.reports / "validation.json"

    @property
    def int8(self) -> Path:
        """Record of int8: cost per layer, and the rounds of the fallback to float."""
        return self.reports / "int8.json"

    @property
    def unvalidated(self) -> Path:
        return self.root / UNVALIDATED

    @property
    def export(self) -> Path:
        return self.root / EXPORT

    @property
    def rejected(self) -> Path:
        return self.root / REJECTED

    @property
    def choice(self) -> Path:
        """Record of the student selection."""
        return self.reports / "choice.json"

    @property
    def pareto(self) -> Path:
        """Chart of the student selection: accuracy over latency."""
        return self.reports / "pareto.svg"

    @property
    def coordinates(self) -> Path:
        """Spectrum of the teacher's features."""
        return self.reports / "coordinates.json"

    @property
    def selection(self) -> Path:
        """Record of feature selection: removed coordinates, steps and scores."""
        return self.reports / "selection.json"

    @property
    def predictions(self) -> Path:
        """Predictions of the trained model for every test image."""
        return self.reports / "predictions.json"

    @property
    def latency(self) -> Path:
        """Every timed call of every exported file, on the exporting machine."""
        return self.reports / "latency.json"

    @property
    def report(self) -> Path:
        """HTML report; the manifest does not record it, because it can be rendered again at any time."""
        return self.root / REPORT

    def apply_verdict(self, passed: bool) -> Path:
        """Rename export.unvalidated/ to export/, or to export.REJECTED/ with every file renamed; return the new path.

        Raises:
            UsageError: export.unvalidated/ is missing, or the new folder already exists.
        """
        if not self.unvalidated.is_dir():
            raise UsageError(f"{self.root} has no {UNVALIDATED}/. There are no exports to validate.")
        if not passed:
            return self._reject(self.unvalidated)
        _require_absent(self.export)
        return self.unvalidated.rename(self.export)

    def revoke(self) -> Path:
        """Rename export/ to export.REJECTED/ after a failed later validation; return the new path.

        Raises:
            UsageError: export/ is missing, or export.REJECTED/ already exists.
        """
        if not self.export.is_dir():
            raise UsageError(f"{self.root} has no {EXPORT}/. There are no exports to reject.")
        return self._reject(self.export)

    def reopen(self) -> None:
        """Remove earlier exports and their verdict; keep the trained weights."""
        self.manifest.unlink(missing_ok=True)
        self.int8.unlink(missing_ok=True)
        for folder in (self.rejected, self.export, self.unvalidated):
            if folder.exists():
                shutil.rmtree(folder)
        make_folder(self.unvalidated)

    def _reject(self, folder: Path) -> Path:
        _require_absent(self.rejected)
        # Rename the folder first, so that a crash in between leaves no deployable file.
        rejected = folder.rename(self.rejected)
        for path in sorted(rejected.rglob("*")):
            if path.is_file() and path.suffix != REJECTED_SUFFIX:
                path.rename(path.with_name(path.name + REJECTED_SUFFIX))
        return rejected


def open_run(out: Path, overwrite: bool = False) -> RunFolder:
    """Make `out` an empty, marked run folder.

    With `overwrite` an earlier run in it is removed, but only if the folder has the marker of a run and no
    foreign files.

    Raises:
        UsageError: as `require_usable`. MissingError: the folder cannot be created.
    """
    require_usable(out, overwrite)
    if out.is_dir():
        _clear(out)
    make_folder(out)
    write_json(out / MARKER, {"schema_version": SCHEMA_VERSION, "kind": KIND, STARTED_IN: started_in(out)})
    run = RunFolder(out)
    for folder in (run.checkpoints, run.unvalidated, run.reports):
        make_folder(folder)
    return run


def require_usable(out: Path, overwrite: bool) -> None:
    """Raise the errors of `open_run` for `out` early, without changing anything.

    Raises:
        UsageError: `out` is a file, is not empty, or has foreign files.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file. Choose another --out.")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not overwrite:
        raise UsageError(f"{out} is not empty. Choose another --out, or pass --overwrite to replace a run.")
    if not is_run(out):
        raise UsageError(f"{out} is not a run folder: it has no {MARKER}. Choose another --out.")
    foreign = sorted(entry.name for entry in out.iterdir() if entry.name not in (*FOLDERS, *FILES))
    if foreign:
        raise UsageError(f"{out} has files of other origin: {', '.join(foreign[:3])}. Move them away first.")


def find_run(root: Path) -> RunFolder:
    """Return an existing run.

    Raises:
        DataError: no such folder, or not a run folder.
    """
    if not root.is_dir():
        raise DataError(f"no such run folder: {root}. Pass the folder that `tcs-edge compress` wrote.")
    if not is_run(root):
        raise DataError(
            f"{root} is not a run folder: it has no {MARKER}. Pass the folder that `tcs-edge compress` wrote."
        )
    return RunFolder(root)


def find_unfinished(root: Path, other_exports: bool = False) -> RunFolder:
    """Return an existing run that can continue: it has no verdict yet, or failed validation.

    Args:
        other_exports: True if export options changed; the same options would fail again.

    Raises:
        DataError: as `find_run`. UsageError: the run is finished.
    """
    folder = find_run(root)
    if not folder.manifest.exists():
        return folder
    if not folder.rejected.is_dir():
        raise UsageError(f"{root} is finished: there is nothing to resume. Omit --resume to start a new run.")
    if not folder.deployed_weights.exists():
        raise UsageError(f"{root} failed validation and has no trained weights. Omit --resume to start a new run.")
    if not other_exports:
        raise UsageError(
            f"{root} is finished and failed validation. To export again without training, change the export: "
            "pass --precision fp32 (without int8), or a larger --max-accuracy-drop."
        )
    return folder


def last_activity(run: Path) -> float:
    """Return the time of a run's last log line, or of its start, in seconds since the epoch."""
    log = run / LOG
    return (log if log.is_file() else run / MARKER).stat().st_mtime


def _clear(out: Path) -> None:
    # Remove the marker last, so that an interrupted removal can be repeated.
    for entry in sorted(out.iterdir(), key=lambda entry: entry.name == MARKER):
        _remove(entry)


def is_run(root: Path) -> bool:
    """Return True if `root` has the marker of a run folder."""
    try:
        return read_json(root / MARKER, SCHEMA_VERSION).get("kind") == KIND
    except DataError:
        return False


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()


def _require_absent(folder: Path) -> None:
    if folder.exists():
        raise UsageError(f"{folder} already exists. A run has one verdict.")
