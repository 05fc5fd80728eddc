"""Render the report of one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tcs_edge.errors import DataError
from tcs_edge.report.confidence import confidence_lines, loss_lines
from tcs_edge.report.page.charts import (
    Chart,
    Series,
    choice_chart,
    lines_chart,
    search_of,
    selection_series,
    spectrum_chart,
)
from tcs_edge.report.page.confusion import Confusion, confusion
from tcs_edge.report.page.contents import RunContents, read_run
from tcs_edge.report.page.environment import environment
from tcs_edge.report.page.images import opener, thumbnail
from tcs_edge.report.page.interactive import Interactive
from tcs_edge.report.page.latency import latency_of
from tcs_edge.report.page.layers import Sizes, sizes_by_layer
from tcs_edge.report.page.mistakes import Flips, Mistake, confident_mistakes, flips, wrong_rows
from tcs_edge.runs.origin import recorded_data
from tcs_edge.specs.methods import METHODS

NOT_LOSSES = frozenset(
    {"epoch", "lr", "val_accuracy", "seconds", "images_per_s", "waiting", "memory_mb", "gpu_memory_mb"}
)
LOSS_NAMES = {
    "loss": "total",
    "ce": "cross-entropy",
    "mimic": "mimicking",
    "kd": "distillation",
    "mse": "squared error",
}


@dataclass(frozen=True)
class Charts:
    """Charts of a run; None without data."""

    choice: Chart | None
    choice_by: str
    losses: Chart | None
    accuracy: Chart | None
    spectrum: Chart | None
    selection: Chart | None


@dataclass(frozen=True)
class ShownImages:
    """Flips and mistakes; `at_hand` is True if the run's images were found, `wrong` counts all mistakes."""

    at_hand: bool
    flips: tuple[Flips, ...]
    mistakes: tuple[Mistake, ...]
    wrong: int


def run_page(root: Path, data: Path | None = None, interactive: Interactive | None = None) -> str:
    """Render the report of the finished run in `root` as self-contained HTML.

    Args:
        data: current folder of the run's images; None uses the recorded folder. Without the images the page
            has a note instead of thumbnails.
        interactive: model and runtime for the drop zone; None leaves the drop zone out.

    Raises:
        DataError: not a finished run, or an unreadable file in it.
    """
    run = read_run(root)
    template = environment().get_template("run.html.j2")
    return template.render(
        run=run,
        manifest=run.manifest,
        charts=_charts(run),
        confusion=_confusion(run),
        shown_images=_shown_images(run, data),
        missing=_missing(run),
        sizes=_sizes(run),
        kept=_kept(run),
        latency=latency_of(run),
        options=_options(run.manifest.options),
        notes=[*confidence_lines(run.manifest), *loss_lines(run.manifest)],
        interactive=interactive,
    )


def _charts(run: RunContents) -> Charts:
    spectrum = selection = None
    if run.coordinates:
        removed = run.selection.removed if run.selection else frozenset()
        spectrum = spectrum_chart(run.coordinates, removed)
        if run.selection and run.selection.rounds:
            steps = selection_series(run.coordinates, run.selection)
            selection = lines_chart(
                [steps], "coordinates left", "Number of coordinates at each step, decreasing.", "step"
            )
    choice, choice_by = (choice_chart(run.choice), search_of(run.choice)) if run.choice else (None, "table")
    return Charts(choice, choice_by, *_training(run), spectrum, selection)


def _training(run: RunContents) -> tuple[Chart | None, Chart | None]:
    if len(run.epochs) < 2:  # the table has the numbers
        return None, None
    names = [name for name in run.epochs[0] if name not in NOT_LOSSES]
    losses = [Series(LOSS_NAMES.get(name, name), _points(run, name)) for name in names]
    if len(losses) == 2:  # the total equals its only part
        losses = losses[:1]
    accuracy = Series("validation accuracy", tuple((at, 100 * up) for at, up in _points(run, "val_accuracy")))
    return (
        lines_chart(losses, "training loss", "Training losses over the epochs. The table has the numbers."),
        lines_chart(
            [accuracy], "validation accuracy, %", "Validation accuracy over the epochs. The table has the numbers."
        ),
    )


def _points(run: RunContents, name: str) -> tuple[tuple[float, float], ...]:
    return tuple((line["epoch"], line[name]) for line in run.epochs if name in line)


def _confusion(run: RunContents) -> Confusion | None:
    return confusion(run.predictions, len(run.classes)) if run.predictions else None


def _shown_images(run: RunContents, data: Path | None) -> ShownImages:
    open_image = opener(run.manifest, data or recorded_data(run.folder.root, run.manifest.options))

    def thumbnail_of(name: str) -> str | None:
        return thumbnail(open_image, name) if open_image else None

    return ShownImages(
        open_image is not None,
        flips(run, thumbnail_of),
        confident_mistakes(run, thumbnail_of),
        len(wrong_rows(run.predictions)) if run.predictions else 0,
    )


def _missing(run: RunContents) -> list[str]:
    """Return the sections that this page leaves out, with the reason."""
    method = run.manifest.options.get("method", "tcs")
    has_coordinates = _uses_coordinates(method)
    left_out = {
        "student selection (the run has no record of it)": run.choice,
        "confusion and mistakes (the run has no recorded predictions)": run.predictions,
        "training (the run has no metrics.jsonl)": run.epochs,
        f"coordinates (method {method} uses no coordinates)": run.coordinates or has_coordinates,
        "coordinates (the run has no record of them)": run.coordinates or not has_coordinates,
    }
    return [words for words, found in left_out.items() if not found]


def _uses_coordinates(method: str) -> bool:
    return method in METHODS and METHODS[method].targets == "coordinates"


def _sizes(run: RunContents) -> Sizes | str:
    """Return the sizes, or the reason for their absence: a failed run may have no ONNX file."""
    try:
        return sizes_by_layer(run.onnx) if run.onnx else "This run has no model.onnx."
    except DataError as error:
        return str(error)


def _options(options: Mapping[str, Any]) -> dict[str, str]:
    """Format every option as "table.name" with its value, without the tables of other methods."""
    method = options.get("method", "tcs")
    tables = {"train", "tcs" if _uses_coordinates(method) else method}
    tables |= {"int8"} if "int8" in (options.get("precision") or ()) else set()
    flat = {name: value for name, value in options.items() if not isinstance(value, Mapping)}
    for table, inner in options.items():
        if table in tables and isinstance(inner, Mapping):
            flat |= {f"{table}.{name}": value for name, value in inner.items()}
    return {name: _told(value) for name, value in flat.items()}


def _told(value: Any) -> str:
    """Format a value as in TOML, lists without brackets."""
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _kept(run: RunContents) -> str:
    """Format the kept coordinates as ranges counted from 1, such as "1–4, 6"."""
    if run.coordinates is None:
        return ""
    removed = run.selection.removed if run.selection else frozenset()
    ranges: list[list[int]] = []
    for axis in range(run.coordinates.dims):
        if axis in removed:
            continue
        if ranges and ranges[-1][1] == axis - 1:
            ranges[-1][1] = axis
        else:
            ranges.append([axis, axis])
    return ", ".join(str(first + 1) if first == last else f"{first + 1}–{last + 1}" for first, last in ranges)
