"""Reading of the images before a run: excluded names, here and when a run's images are read again."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest

from tcs_edge.errors import DataError
from tcs_edge.runs.load import images_of
from tcs_edge.specs.config import CompressConfig
from tcs_edge.stages.prepare import list_students


@pytest.fixture
def options(own_photos):
    def make(**changes):
        asked = {"target": "raspberrypi4", "student": "lcnet_050", "student_init": "random", "data": own_photos}
        return CompressConfig.model_validate(asked | {"device": "cpu", "threads": 1} | changes)

    return make


def test_excluded_names_are_left_out_of_labeled_and_unlabeled_images(options, own_photos, tmp_path):
    whole = list_students(options()).images
    (own_photos / "train" / "labels").mkdir()
    with pytest.raises(DataError, match="--exclude labels"):
        list_students(options())
    assert list_students(options(exclude=["labels"])).images.fingerprint == whole.fingerprint
    more = shutil.copytree(own_photos / "test", tmp_path / "more/keep")
    for path in more.rglob("*.*g"):
        path.write_bytes(path.read_bytes() + b"another file")
    shutil.copytree(more, tmp_path / "more/labels")
    listed = list_students(options(exclude=["labels", "red"], unlabeled=tmp_path / "more"))
    assert listed.images.classes == ("blue", "green")
    assert listed.images.counts()["unlabeled"] == 24


def test_a_runs_images_are_read_again_without_its_excluded_names(options, own_photos, tmp_path):
    (own_photos / "train" / "labels").mkdir()
    images = list_students(options(exclude=["labels"])).images
    manifest = SimpleNamespace(
        options={"data": str(own_photos), "exclude": ["labels"]},
        seed=0,
        dataset=SimpleNamespace(fingerprint=images.fingerprint),
    )
    assert images_of(tmp_path, manifest, None).fingerprint == images.fingerprint
    assert images_of(tmp_path, manifest, own_photos).classes == ("blue", "green", "red")
