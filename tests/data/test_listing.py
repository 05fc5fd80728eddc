"""Entries that a folder scan leaves out: entries of other programs, excluded entries, unread formats, runs."""

from __future__ import annotations

import shutil

import pytest
from PIL import Image

from tcs_edge.data import listing, load_images
from tcs_edge.data.detect import detect_image_folders
from tcs_edge.data.listing import RUN_MARKER, is_clutter
from tcs_edge.data.unlabeled import with_unlabeled
from tcs_edge.errors import DataError
from tcs_edge.runs.folder import MARKER

CLUTTER_FOLDERS = (
    "@eaDir", "#recycle", "@Recycle", ".@__thumb", "@tmp", "lost+found", "__MACOSX", ".AppleDouble", "$RECYCLE.BIN",
    "System Volume Information", ".thumbnails", ".idea", ".vscode", ".ipynb_checkpoints", ".git", ".svn", ".hg", ".dvc",
    "FOUND.000", "CVS",
)  # fmt: skip
CLUTTER_FILES = (
    "._000.png", ".DS_Store", "Icon\r", "Thumbs.db", "desktop.ini", "MVI_0001.THM", "GOPR0001.LRV", ".hidden.jpg",
    "ehthumbs.db", "photo.jpg@SynoEAStream", "photo.jpg:Zone.Identifier",
)  # fmt: skip


@pytest.fixture
def pets(tmp_path, fill):
    fill(tmp_path / "pets/cat", 10, seed=1)
    fill(tmp_path / "pets/dog", 10, seed=2)
    return tmp_path / "pets"


def names(images):
    return {*images.train.names, *images.val.names, *images.test.names}


def total(images):
    return len(names(images))


@pytest.mark.parametrize("name", CLUTTER_FOLDERS)
def test_folders_of_other_programs_are_left_out_and_counted(pets, fill, recorder, name):
    before = load_images(pets).fingerprint
    for place in (pets, pets / "cat", pets / "dog/more"):
        fill(place / name / "000.png", 2, seed=9)
    images = load_images(pets)
    assert images.fingerprint == before
    (line,) = recorder.said
    assert f"entries of other programs: 3 ({name} 3)" in line
    assert not recorder.warned


@pytest.mark.parametrize("name", CLUTTER_FILES)
def test_files_of_other_programs_are_left_out_and_counted(pets, picture, recorder, name):
    before = load_images(pets).fingerprint
    picture(7).save(pets / "cat" / name, "PNG")
    assert load_images(pets).fingerprint == before
    assert "entries of other programs: 1 (" in recorder.said[0]
    assert not recorder.warned


@pytest.mark.parametrize("name", ["@eaDir", "#recycle", ".hidden", "$RECYCLE.BIN"])
def test_folders_of_other_programs_are_left_out_of_unlabeled_images(pets, tmp_path, fill, recorder, name):
    fill(tmp_path / "more/a", 3, seed=20)
    fill(tmp_path / "more/a" / name, 4, seed=21)
    images = with_unlabeled(load_images(pets), tmp_path / "more")
    assert images.counts()["unlabeled"] == 3
    assert f"({name} 1)" in recorder.said[0]


@pytest.mark.parametrize("name", ["cat", "@home", "recycle", "thumbs", "git", "trash", "DCIM", "100APPLE", "dev.c"])
def test_class_names_are_not_clutter(name):
    assert not is_clutter(name)


def test_excluded_folders_and_files_are_left_out(pets, fill, picture, recorder):
    before = load_images(pets).fingerprint
    fill(pets / "Labels", 3, seed=5)
    fill(pets / "dog/masks", 3, seed=6)
    fill(pets / "cat/masks", 3, seed=7)
    picture(8).save(pets / "cat/000_depth.PNG")
    images = load_images(pets, exclude=("labels", "masks/", "*_depth.png"))
    assert images.fingerprint == before
    assert recorder.said == [f"{pets}: excluded entries: 4 (000_depth.PNG, Labels, masks)"]


def test_a_pattern_with_a_slash_matches_the_path(pets, fill):
    fill(pets / "cat/old", 3, seed=5)
    fill(pets / "dog/old", 3, seed=6)
    assert total(load_images(pets, exclude=("cat/old",))) == 23
    assert total(load_images(pets, exclude=("old",))) == 20


def test_a_pattern_without_a_match_is_reported(pets, recorder):
    load_images(pets, exclude=("typo",))
    assert recorder.said == [f"{pets}: no entry matches --exclude typo"]


def test_an_error_names_excluded_entries(pets):
    with pytest.raises(DataError, match="--exclude leaves out 2 entries"):
        load_images(pets, exclude=("*",))


def test_unlabeled_images_can_be_excluded(pets, tmp_path, fill):
    fill(tmp_path / "more/a", 3, seed=20)
    fill(tmp_path / "more/b", 4, seed=21)
    images = with_unlabeled(load_images(pets), tmp_path / "more", exclude=("a",))
    assert images.counts()["unlabeled"] == 4


def test_the_marker_is_that_of_a_run():
    assert RUN_MARKER == MARKER


@pytest.mark.parametrize("name", ["runs", "results"])
def test_run_folders_inside_the_images_are_left_out(pets, picture, fill, recorder, name):
    before = load_images(pets).fingerprint
    run = pets / name / "first"
    fill(run / "reports/images", 2, seed=4)
    (run / RUN_MARKER).write_text("{}")
    images = load_images(pets)
    assert (images.fingerprint, images.classes) == (before, ("cat", "dog"))
    assert recorder.said == [f"{pets}: ignored run folders of tcs-edge: 1 ({name})"]
    assert total(load_images(pets)) == 20


def test_runs_of_an_interrupted_start_are_left_out(pets):
    (pets / "runs/2026-01-01-raspberrypi4-lcnet_050/export").mkdir(parents=True)
    assert load_images(pets).classes == ("cat", "dog")


@pytest.mark.parametrize("inside", [".", "2026-01-01-alps"])
def test_a_class_named_runs_is_kept(pets, fill, inside):
    fill(pets / "runs" / inside, 5, seed=4)
    assert load_images(pets).classes == ("cat", "dog", "runs")


def test_runs_are_left_out_of_unlabeled_images(pets, tmp_path, fill):
    fill(tmp_path / "more/runs/a/reports", 3, seed=20)
    (tmp_path / "more/runs/a" / RUN_MARKER).write_text("{}")
    fill(tmp_path / "more/b", 4, seed=21)
    assert with_unlabeled(load_images(pets), tmp_path / "more").counts()["unlabeled"] == 4


def test_folders_without_images_are_named_together(pets):
    for name in ("annotations", "labels", "my docs", "bench"):
        (pets / name).mkdir()
    (pets / "bench/table.json").write_text("{}")
    (pets / "labels/000.txt").write_text("0 0.5 0.5 1 1")
    with pytest.raises(DataError) as caught:
        load_images(pets)
    message = str(caught.value)
    assert "4 class folders have no images" in message
    assert "--exclude annotations --exclude bench --exclude labels --exclude 'my docs'" in message
    assert total(load_images(pets, exclude=("annotations", "bench", "labels", "my docs"))) == 20


def test_unread_formats_are_counted_by_suffix_and_class(pets, recorder):
    for index in range(30):
        (pets / f"cat/IMG_{index}.CR2").write_bytes(b"raw")
    (pets / "dog/a.psd").write_bytes(b"8BPS")
    (pets / "dog/b.svg").write_text("<svg/>")
    (pets / "dog/notes.txt").write_text("text")
    assert total(load_images(pets)) == 20
    (line,) = recorder.warned
    assert line.startswith(f"{pets}: image files not read: 30 .cr2, 1 .psd, 1 .svg (cat: 30 of 40, dog: 2 of 12).")
    assert line.endswith("Convert the files to JPEG or PNG.")


def test_unread_formats_of_unlabeled_images_are_counted(pets, tmp_path, fill, recorder):
    fill(tmp_path / "more", 3, seed=20)
    (tmp_path / "more/a.NEF").write_bytes(b"raw")
    with_unlabeled(load_images(pets), tmp_path / "more")
    assert recorder.warned == [f"{tmp_path / 'more'}: image files not read: 1 .nef. Convert the files to JPEG or PNG."]


def test_images_with_an_unknown_suffix_are_counted(pets, picture, recorder):
    picture(5).save(pets / "cat/photo", "JPEG")
    picture(6).save(pets / "cat/photo.jpg_large", "JPEG")
    (pets / "cat/table.csv").write_text("a,b")
    load_images(pets)
    (line,) = recorder.warned
    assert "1 JPEG without suffix" in line
    assert "1 JPEG with suffix .jpg_large" in line
    assert line.endswith("Give the files a suffix such as .jpg.")


def test_an_error_names_the_unread_files_of_a_class(pets):
    (pets / "fish").mkdir()
    (pets / "fish/a.dng").write_bytes(b"raw")
    with pytest.raises(DataError, match=r"class 'fish' has no images in .*: image files not read: 1 \.dng"):
        load_images(pets)


def test_an_error_names_the_unread_files_of_a_folder(tmp_path, pets):
    for name in ("cat", "dog"):
        for path in (pets / name).iterdir():
            path.rename(path.with_suffix(".tga"))
    with pytest.raises(DataError, match=r"no images in .*: image files not read: 20 \.tga"):
        load_images(pets)
    with pytest.raises(DataError, match=r"no images in .*: image files not read: 10 \.tga"):
        with_unlabeled(None, pets / "cat")


def test_few_files_are_sniffed(pets, recorder, monkeypatch):
    monkeypatch.setattr(listing, "SNIFFED_FILES", 3)
    for index in range(9):
        Image.new("RGB", (4, 4)).save(pets / f"cat/{index}.x", "PNG")
    load_images(pets)
    assert "3 PNG with suffix .x" in recorder.warned[0]


def test_detection_leaves_out_clutter_and_runs(pets, tmp_path):
    for name in ("@eaDir", "runs/one"):
        shutil.copytree(pets, tmp_path / name)
    (tmp_path / "runs" / RUN_MARKER).write_text("{}")
    assert [folder.path.name for folder in detect_image_folders(tmp_path)] == ["pets"]
