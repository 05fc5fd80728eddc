"""Manage the folder of a run, and rename its exports after the verdict.

manifest.json            written last
config.resolved.toml     every option of the run; `--resume` and `--config` read it
metrics.jsonl            one line per epoch
train.log                log of the run
README.md                the model card
bom.cdx.json             the bill of materials
tcs-edge-run.json        marker of a run folder, written first
.tcs-edge.lock           while a process writes the run
checkpoints/             deployed.safetensors: the folded student; int8.safetensors: its copy trained for int8
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
from tcs_edge.utils.files import is_draft, make_folder, remove, write_json
from tcs_edge.utils.lock import FOLDER_LOCK
from tcs_edge.utils.reading import read_json, require_content

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
    def coordinates_weights(self) -> Path:
        """Linear layer of the coordinates, with --with-embedding and a method that has them."""
        return self.checkpoints / "coordinates.safetensors"

    @property
    def int8_weights(self) -> Path:
        """Weights of the student's copy for int8, if int8 missed its limit by calibration."""
        return self.checkpoints / "int8.safetensors"

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
        folder.rename(self.rejected)
        self.complete_rejection()
        return self.rejected

    def complete_rejection(self) -> None:
        """Rename the files in export.REJECTED/ that still have their own names, also after a kill in between."""
        for path in sorted(self.rejected.rglob("*")):
            if path.is_file() and path.suffix != REJECTED_SUFFIX:
                path.rename(path.with_name(path.name + REJECTED_SUFFIX))


def open_run(out: Path, overwrite: bool = False) -> RunFolder:
    """Make `out` an empty, marked run folder. The caller owns it.

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
    if is_unused(out):
        return
    if not overwrite:
        raise UsageError(f"{out} is not empty. Choose another --out, or pass --overwrite to replace a run.")
    if not is_run(out):
        raise UsageError(f"{out} is not a run folder: its {MARKER} is missing or damaged. Choose another --out.")
    foreign = sorted(entry.name for entry in out.iterdir() if entry.name not in (*FOLDERS, *FILES))
    if foreign := [name for name in foreign if not _is_left_over(name)]:
        raise UsageError(f"{out} has files of other origin: {', '.join(foreign[:3])}. Move them away first.")


def is_unused(folder: Path) -> bool:
    """Return True if a new run can be in `folder`: it is missing, empty, or has traces of a killed start alone."""
    if not folder.is_dir():
        return True
    names = {entry.name for entry in folder.iterdir() if not _is_left_over(entry.name)}
    run = RunFolder(folder)
    started = names - {MARKER, run.checkpoints.name, UNVALIDATED, run.reports.name}
    return not names or (is_run(folder) and not started and not _has_files(run.checkpoints, run.unvalidated))


def require_started(root: Path) -> None:
    """Check that a folder is more than the traces of a killed start.

    Raises:
        DataError: it is not.
    """
    if is_unused(root):
        raise DataError(f"{root} has no run: it stopped at its start. Run the same command again, without --resume.")


def _is_left_over(name: str) -> bool:
    return name == FOLDER_LOCK or is_draft(name)


def _has_files(*folders: Path) -> bool:
    return any(not is_draft(path.name) for folder in folders for path in folder.rglob("*"))


def find_run(root: Path) -> RunFolder:
    """Return an existing run.

    Raises:
        DataError: no such folder, or not a run folder.
    """
    if not root.is_dir():
        raise DataError(f"no such run folder: {root}. Pass the folder that `tcs-edge compress` wrote.")
    require_content(root / MARKER)
    if not is_run(root):
        require_started(root)
        raise DataError(
            f"{root} is not a run folder: its {MARKER} is missing or damaged. "
            "Pass the folder that `tcs-edge compress` wrote."
        )
    return RunFolder(root)


def _clear(out: Path) -> None:
    # The verdict and the options go first, so that an incomplete run neither passes nor continues.
    # The marker goes last, so that an interrupted removal can be repeated.
    order = {MANIFEST: 0, CONFIG: 1, MARKER: 3}
    for entry in sorted(out.iterdir(), key=lambda entry: order.get(entry.name, 2)):
        if entry.name != FOLDER_LOCK:
            remove(entry)


def is_run(root: Path) -> bool:
    """Return True if `root` has the marker of a run folder."""
    try:
        return read_json(root / MARKER, SCHEMA_VERSION).get("kind") == KIND
    except DataError:
        return False


def _require_absent(folder: Path) -> None:
    if folder.exists():
        raise UsageError(f"{folder} already exists. A run has one verdict.")
