"""The folder a run writes, and when its exports may be called deployable.

manifest.json            written last
config.resolved.toml     every option of the run; `--resume` and `--config` read it
metrics.jsonl            one line per epoch
train.log                what was said while it ran
README.md                the model card
bom.cdx.json             the bill of materials
tcs-edge-run.json        marks the folder as a run's from the first moment
checkpoints/             deployed.safetensors: the folded student
export.unproven/         exports before the verdict; all that a crash can leave behind
export/                  exports that passed
export.REJECTED/         exports that did not, every file name ending in .rejected
reports/
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from tcs_edge.errors import DataError, UsageError
from tcs_edge.utils.files import make_folder, read_json, write_json

SCHEMA_VERSION = 1
MARKER = "tcs-edge-run.json"
MANIFEST = "manifest.json"
REPORT = "reports/report.html"
UNPROVEN, PROVEN, REJECTED = "export.unproven", "export", "export.REJECTED"
REJECTED_SUFFIX = ".rejected"
CONFIG, METRICS, LOG = "config.resolved.toml", "metrics.jsonl", "train.log"
MODEL_CARD, BOM = "README.md", "bom.cdx.json"
FOLDERS = ("checkpoints", UNPROVEN, PROVEN, REJECTED, "reports")
FILES = (MANIFEST, MARKER, CONFIG, METRICS, LOG, MODEL_CARD, BOM)


@dataclass(frozen=True)
class RunFolder:
    """Paths inside a run folder, and the two moves that the verdict decides between."""

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
        """The trained, folded student: what exports are validated against, now and later."""
        return self.checkpoints / "deployed.safetensors"

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    @property
    def validation(self) -> Path:
        return self.reports / "validation.json"

    @property
    def int8(self) -> Path:
        """What int8 costs layer by layer, and how its accuracy was held."""
        return self.reports / "int8.json"

    @property
    def unproven(self) -> Path:
        return self.root / UNPROVEN

    @property
    def export(self) -> Path:
        return self.root / PROVEN

    @property
    def rejected(self) -> Path:
        return self.root / REJECTED

    @property
    def choice(self) -> Path:
        """Which students were looked at, and why they were taken or not."""
        return self.reports / "choice.json"

    @property
    def pareto(self) -> Path:
        """The same, drawn: accuracy over latency."""
        return self.reports / "pareto.svg"

    @property
    def coordinates(self) -> Path:
        """The spectrum of the teacher's features."""
        return self.reports / "coordinates.json"

    @property
    def selection(self) -> Path:
        """Which coordinates feature selection removed, when, with every score."""
        return self.reports / "selection.json"

    @property
    def predictions(self) -> Path:
        """What the trained model says of every test image."""
        return self.reports / "predictions.json"

    @property
    def latency(self) -> Path:
        """Every timed call of every exported file, on the machine that exported."""
        return self.reports / "latency.json"

    @property
    def report(self) -> Path:
        """The page for people; it can be made again at any time, so the manifest does not record it."""
        return self.root / REPORT

    def settle(self, passed: bool) -> Path:
        """Rename export.unproven/ to export/, or to export.REJECTED/ with every file renamed; returns it.

        Raises:
            UsageError: there are no unproven exports, or settled ones are there already.
        """
        if not self.unproven.is_dir():
            raise UsageError(f"{self.root} has no {UNPROVEN}/ to settle.")
        if not passed:
            return self._reject(self.unproven)
        _require_absent(self.export)
        return self.unproven.rename(self.export)

    def revoke(self) -> Path:
        """Turn export/ into export.REJECTED/, when a later validation fails; returns it.

        Raises:
            UsageError: there is no export/, or an export.REJECTED/ is there already.
        """
        if not self.export.is_dir():
            raise UsageError(f"{self.root} has no {PROVEN}/ to revoke.")
        return self._reject(self.export)

    def reopen(self) -> None:
        """Clear what an earlier export left, its verdict included; the trained weights stay."""
        self.manifest.unlink(missing_ok=True)
        self.int8.unlink(missing_ok=True)
        for folder in (self.rejected, self.export, self.unproven):
            if folder.exists():
                shutil.rmtree(folder)
        make_folder(self.unproven)

    def _reject(self, folder: Path) -> Path:
        _require_absent(self.rejected)
        # Off the deployable name first, so that a crash in between leaves nothing deployable.
        rejected = folder.rename(self.rejected)
        for path in sorted(rejected.rglob("*")):
            if path.is_file() and path.suffix != REJECTED_SUFFIX:
                path.rename(path.with_name(path.name + REJECTED_SUFFIX))
        return rejected


def default_out(target: str, student: str, today: date, base: Path = Path("runs")) -> Path:
    """runs/<date>-<target>-<student>, the place of a run that got no --out."""
    return base / f"{today.isoformat()}-{target}-{student}"


def open_run(out: Path, overwrite: bool = False) -> RunFolder:
    """Make `out` an empty, marked run folder.

    With `overwrite` an earlier run in it is removed: known parts of a run only, and only if the folder is
    marked as one and holds nothing else.

    Raises:
        UsageError: as `require_usable`. MissingError: the folder cannot be made.
    """
    require_usable(out, overwrite)
    if out.is_dir():
        _clear(out)
    make_folder(out)
    write_json(out / MARKER, {"schema_version": SCHEMA_VERSION, "kind": "tcs-edge run"})
    run = RunFolder(out)
    for folder in (run.checkpoints, run.unproven, run.reports):
        make_folder(folder)
    return run


def require_usable(out: Path, overwrite: bool) -> None:
    """Fail, before anything is computed, if `open_run` would refuse `out`; nothing is changed.

    Raises:
        UsageError: `out` is a file, is not empty, or holds something that no run wrote.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file. Choose another --out.")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not overwrite:
        raise UsageError(f"{out} is not empty. Choose another --out, or pass --overwrite to replace a run.")
    if not _is_run(out):
        raise UsageError(f"{out} is not a run folder (no {MARKER}); it is not overwritten. Choose another --out.")
    strangers = sorted(entry.name for entry in out.iterdir() if entry.name not in (*FOLDERS, *FILES))
    if strangers:
        raise UsageError(f"{out} holds {', '.join(strangers[:3])}, which no run wrote. Move it away first.")


def find_run(root: Path) -> RunFolder:
    """An existing run.

    Raises:
        DataError: no such folder, or not a run's.
    """
    if not root.is_dir():
        raise DataError(f"no such run folder: {root}. Pass the folder that `tcs-edge compress` wrote.")
    if not _is_run(root):
        raise DataError(
            f"{root} is not a run folder: it has no {MARKER}. Pass the folder that `tcs-edge compress` wrote."
        )
    return RunFolder(root)


def find_unfinished(root: Path, other_exports: bool = False) -> RunFolder:
    """An existing run that can go on: it has no verdict yet, or failed its proof.

    Args:
        other_exports: whether other files are asked for than those that failed; the same would fail again.

    Raises:
        DataError: as `find_run`. UsageError: it is finished, and there is nothing to go on with.
    """
    folder = find_run(root)
    if not folder.manifest.exists():
        return folder
    if not folder.rejected.is_dir():
        raise UsageError(f"{root} is finished: there is nothing to resume. Leave --resume out to start a new run.")
    if not folder.deployed_weights.exists():
        raise UsageError(f"{root} failed its proof and holds no trained weights. Leave --resume out to start anew.")
    if not other_exports:
        raise UsageError(
            f"{root} is finished and failed its proof. To export again without training again, change what failed: "
            "add --precision fp32 (without int8), or a larger --max-accuracy-drop."
        )
    return folder


def _clear(out: Path) -> None:
    # The marker goes last: a removal that was interrupted can be repeated.
    for entry in sorted(out.iterdir(), key=lambda entry: entry.name == MARKER):
        _remove(entry)


def _is_run(root: Path) -> bool:
    try:
        return read_json(root / MARKER, SCHEMA_VERSION).get("kind") == "tcs-edge run"
    except DataError:
        return False


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()


def _require_absent(folder: Path) -> None:
    if folder.exists():
        raise UsageError(f"{folder} is there already; a run is settled once.")
