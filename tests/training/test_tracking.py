"""Tests of experiment trackers."""

import sys
from pathlib import Path

import accelerate.tracking
import pytest

from tcs_edge.errors import MissingError
from tcs_edge.training import tracking
from tcs_edge.training.tracking import open_trackers, require_trackers


class Recorded:
    """A tracker that keeps what it gets."""

    def __init__(self, run_name, logging_dir):
        self.place, self.calls = (run_name, logging_dir), []
        made.append(self)

    def start(self):
        self.calls.append("start")

    def store_init_configuration(self, values):
        self.calls.append(values)

    def log(self, values, step):
        self.calls.append((step, values))

    def finish(self):
        self.calls.append("finish")


made: list[Recorded] = []


def test_a_tracker_gets_options_metrics_with_steps_and_the_end(monkeypatch, tmp_path):
    made.clear()
    monkeypatch.setitem(accelerate.tracking.LOGGER_TYPE_TO_CLASS, "tensorboard", Recorded)
    options = {"epochs": 2, "lr": 0.1, "train": {"amp": "no"}, "format": ["onnx"]}
    with open_trackers(("tensorboard",), tmp_path, options) as trackers:
        trackers.log({"epoch": 1, "loss": 0.5}, step=7)
    (tracker,) = made
    assert tracker.place == (".", tmp_path / "tracking")
    flat = {"epochs": 2, "lr": 0.1, "train/amp": "no"}
    assert tracker.calls == ["start", flat, (7, {"epoch": 1.0, "loss": 0.5}), "finish"]


def test_a_tracker_ends_with_a_failed_training(monkeypatch, tmp_path):
    made.clear()
    monkeypatch.setitem(accelerate.tracking.LOGGER_TYPE_TO_CLASS, "tensorboard", Recorded)
    with pytest.raises(ZeroDivisionError), open_trackers(("tensorboard",), tmp_path, {}):
        raise ZeroDivisionError
    assert made[0].calls[-1] == "finish"


def test_a_tracker_that_cannot_be_opened_is_one_line(monkeypatch, tmp_path):
    def refused(**_settings):
        raise ConnectionError("no route to host")

    monkeypatch.setitem(accelerate.tracking.LOGGER_TYPE_TO_CLASS, "wandb", refused)
    with (
        pytest.raises(MissingError, match=r"--log wandb: it cannot be opened \(.*no route"),
        open_trackers(("wandb",), tmp_path, {}),
    ):
        pass


def test_without_trackers_nothing_is_imported_or_written(tmp_path):
    before = set(sys.modules)
    with open_trackers((), tmp_path, {}) as trackers:
        trackers.log({"loss": 1.0}, 1)
    assert not list(Path(tmp_path).iterdir())
    assert set(sys.modules) == before


def test_a_missing_package_is_named_before_the_images_are_read(monkeypatch, cli, tmp_path):
    monkeypatch.setattr(tracking, "is_installed", lambda _module: False)
    with pytest.raises(MissingError, match=r"--log mlflow: the package mlflow is not installed"):
        require_trackers(["mlflow"])
    refused = cli("compress", "--target", "raspberrypi4", "--data", tmp_path / "none", "--log", "tensorboard")
    assert refused.exit_code == 4
    assert "pip install tensorboard" in refused.stderr
