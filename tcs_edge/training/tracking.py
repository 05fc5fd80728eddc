"""Experiment trackers, through accelerate: TensorBoard, Weights & Biases, MLflow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tcs_edge.errors import MissingError, reason_of
from tcs_edge.utils.installed import is_installed

PROJECT = "tcs-edge"
FOLDER = "tracking"  # in the run folder
# Modules of each tracker; one of them is enough.
MODULES = {"tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",), "mlflow": ("mlflow",)}


class Trackers:
    """Open trackers of a run."""

    def __init__(self, trackers: Sequence[Any] = ()) -> None:
        self._trackers = trackers

    def log(self, metrics: dict[str, Any], step: int) -> None:
        """Send the metrics of an epoch, which ended before training step `step`."""
        values = {name: float(value) for name, value in metrics.items()}
        for tracker in self._trackers:
            tracker.log(values, step=step)


def require_trackers(names: Sequence[str]) -> None:
    """Check that the packages of the trackers are installed, without importing them.

    Raises:
        MissingError: one is not installed.
    """
    for name in names:
        if not any(map(is_installed, MODULES[name])):
            raise MissingError(f"--log {name}: the package {name} is not installed. Run `pip install {name}`.")


@contextmanager
def open_trackers(names: Sequence[str], run: Path, options: dict[str, Any]) -> Iterator[Trackers]:
    """Open trackers for the block.

    TensorBoard writes into `run`/tracking. MLflow writes where MLFLOW_TRACKING_URI points, else into its own default
    folder. Weights & Biases sends to its server, unless WANDB_MODE=offline.

    Args:
        run: the run folder.
        options: the run's options; they go along as its configuration.

    Raises:
        MissingError: a tracker cannot be opened.
    """
    if not names:
        yield Trackers()
        return
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    flat = {name: value for name, value in _flat(options) if isinstance(value, int | float | str)}
    folder = run / FOLDER
    with ExitStack() as stack:
        opened = []
        for name in names:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                tracker = LOGGER_TYPE_TO_CLASS[name](**_arguments(name, run, folder))
                if hasattr(tracker, "start"):
                    tracker.start()
                tracker.store_init_configuration(flat)
            except Exception as error:  # a tracker's library raises errors of its own
                raise MissingError(
                    f"--log {name}: it cannot be opened ({reason_of(error)}). Check its settings, or leave --log out."
                ) from error
            stack.callback(tracker.finish)
            opened.append(tracker)
        yield Trackers(opened)


def _arguments(name: str, run: Path, folder: Path) -> dict[str, Any]:
    if name == "tensorboard":
        return {"run_name": ".", "logging_dir": folder}
    if name == "wandb":
        return {"run_name": PROJECT, "name": run.name, "dir": str(folder)}
    return {"experiment_name": PROJECT, "run_name": run.name}


def _flat(options: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the options with the name of their table, such as train/amp."""
    for name, value in options.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}/")
        else:
            yield f"{above}{name}", value
