"""A plan tells stages, times and downloads, and computes nothing that a run would keep."""

from __future__ import annotations

import pytest

from tcs_edge.pipeline.plan import make_plan
from tcs_edge.specs.config import CompressConfig


@pytest.fixture
def options(photos, teacher_file, tmp_path) -> CompressConfig:
    return CompressConfig(
        target="raspberrypi4", data=photos, teacher="timm/test_vit", teacher_weights=teacher_file,
        teacher_img_size=64, student="lcnet_050", student_init="random", img_size=64, batch_size=12, epochs=2,
        threads=1, workers=0, cache_dir=tmp_path / "cache",
    )  # fmt: skip


def test_the_stages_of_a_run_with_their_times(options, tmp_path):
    plan = make_plan(options)
    assert [stage.name for stage in plan.stages] == ["teacher", "distill", "export and validate"]
    assert all(stage.seconds and stage.seconds > 0 for stage in plan.stages)
    assert "96 images" in plan.stages[0].what
    assert "2 epochs of 72 images" in plan.stages[1].what
    assert plan.downloads == ()
    assert not (tmp_path / "cache").exists()


def test_more_epochs_take_longer(options):
    few, many = (make_plan(options.replaced(epochs=epochs)).stages[1].seconds or 0 for epochs in (1, 1000))
    assert many > 50 * few


def test_cross_entropy_needs_no_teacher(options):
    plan = make_plan(options.replaced(method="ce"))
    assert [stage.name for stage in plan.stages] == ["distill", "export and validate"]


@pytest.mark.usefixtures("offline")
def test_downloads_are_named_with_their_size(options):
    wanted = options.replaced(teacher_weights=None, student_init="pretrained")
    teacher, student = make_plan(wanted).downloads
    assert teacher.startswith("weights of teacher timm/test_vit, about ")
    assert student.startswith("weights of student lcnet_050, about ")
    assert teacher.endswith(" MB")


def test_a_row_without_a_time_shows_a_dash(options):
    document = make_plan(options).to_json()
    assert document["schema_version"] == 1
    assert set(document["stages"][0]) == {"name", "seconds", "what"}
