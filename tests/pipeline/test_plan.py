"""Tests of the plan: stages, times, cached features and downloads; it writes nothing."""

from __future__ import annotations

import time

import pytest
import torch

from tcs_edge.data import load_images
from tcs_edge.pipeline.plan import Plan, PlannedStage, _seconds_per_image, make_plan
from tcs_edge.specs.config import CompressConfig
from tcs_edge.teachers.features import teacher_features


@pytest.fixture
def options(photos, teacher_file, tmp_path) -> CompressConfig:
    return CompressConfig(
        target="raspberrypi4", data=photos, teacher="timm/test_vit", teacher_weights=teacher_file,
        teacher_img_size=64, student="lcnet_050", student_init="random", img_size=64, batch_size=12, epochs=2,
        threads=1, workers=0, cache_dir=tmp_path / "cache",
    )  # fmt: skip


def test_plan_has_stages_of_a_run_with_times(options, tmp_path):
    plan = make_plan(options)
    assert [stage.name for stage in plan.stages] == ["teacher", "distill", "export and validate"]
    assert all(stage.seconds and stage.seconds > 0 for stage in plan.stages)
    assert plan.stages[0].what == "timm/test_vit, 0 of 96 images are cached"
    assert "2 epochs of 72 images" in plan.stages[1].what
    assert plan.downloads == ()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["intake.sqlite3"]  # the check of the images


def test_more_epochs_take_longer(options):
    few, many = (make_plan(options.replaced(epochs=epochs)).stages[1].seconds or 0 for epochs in (1, 1000))
    assert many > 50 * few


def test_cross_entropy_needs_no_teacher(options):
    plan = make_plan(options.replaced(method="ce"))
    assert [stage.name for stage in plan.stages] == ["distill", "export and validate"]


@pytest.mark.usefixtures("offline")
def test_plan_lists_downloads_with_their_size(options):
    without_files = options.replaced(teacher_weights=None, student_init="pretrained")
    teacher, student = make_plan(without_files).downloads
    assert teacher.startswith("weights of teacher timm/test_vit, about ")
    assert teacher.endswith(" MB")
    assert student == "weights of student lcnet_050, about 8 MB"  # 1.88 M parameters with ImageNet's classifier


def test_cached_features_take_no_time(options):
    teacher_features(load_images(options.data, 0), "timm/test_vit", options.teacher_weights, 64, options.cache_dir)
    plan = make_plan(options)
    assert plan.stages[0] == PlannedStage("teacher", 0.0, "timm/test_vit, 96 of 96 images are cached")
    assert plan.rows()[0][:2] == ("teacher", "-")


def test_int8_has_a_stage(options):
    plan = make_plan(options.replaced(precision=("int8",)))
    assert [stage.name for stage in plan.stages] == ["teacher", "distill", "int8", "export and validate"]


def test_json_of_plan_has_total_seconds(options):
    document = make_plan(options).to_json()
    assert document["schema_version"] == 1
    assert set(document["stages"][0]) == {"name", "seconds", "what"}
    assert document["seconds"] == pytest.approx(sum(stage["seconds"] for stage in document["stages"]))


def test_rows_show_times_in_readable_units():
    plan = Plan((PlannedStage("distill", 7770.0, "lcnet_050"), PlannedStage("export and validate", 30.0, "")), ())
    assert plan.rows() == [
        ("distill", "2 h 10 min", "lcnet_050"),
        ("export and validate", "30 s", ""),
        ("total", "2 h 10 min", ""),
    ]


def test_trial_stops_before_long_batches(monkeypatch):
    monkeypatch.setattr("tcs_edge.pipeline.plan.LONG_SECONDS", 0.2)
    tried = []

    def step(batch):
        tried.append(len(batch))
        time.sleep(0.01 * len(batch))

    seconds = _seconds_per_image(step, 8, torch.device("cpu"), 64)
    assert tried == [2, 8]
    assert seconds == pytest.approx(0.01, rel=0.5)
