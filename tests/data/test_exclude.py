"""`--exclude @FILE`: names of images to drop or to relabel."""

from __future__ import annotations

import csv
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcs_edge.data import load_images
from tcs_edge.data.exclude import exclusion_line, read_exclusion
from tcs_edge.errors import DataError


@pytest.fixture
def pets(tmp_path, fill):
    for label, name in enumerate(("cat", "dog")):
        fill(tmp_path / "pets" / name, 30, seed=label + 1)
    return tmp_path / "pets"


def names(images) -> set[str]:
    return {name for split in (images.train, images.val, images.test) for name in split.names}


def labels(images) -> dict[str, str]:
    splits = (images.train, images.val, images.test)
    return {n: images.classes[k] for s in splits for n, k in zip(s.names, s.labels, strict=True)}


def test_a_file_drops_and_relabels_images(pets, tmp_path, recorder) -> None:
    file = tmp_path / "exclude.txt"
    file.write_text("# from the page\n\ncat/003.png\r\ncat/004.png\tdog\ncat/gone.png\n")
    images = load_images(pets, exclude=(f"@{file}", "*01?.png"))
    found = labels(images)
    assert "cat/003.png" not in found
    assert found["cat/004.png"] == "dog"
    assert "dog/011.png" not in found
    assert f"{file}: images dropped: 1, relabeled: 1" in recorder.said
    assert f"{file}: names of no image here: 1 (cat/gone.png)" in recorder.said


def test_every_reader_takes_the_file(pets, tmp_path) -> None:
    file = tmp_path / "exclude.txt"
    file.write_text("cat/003.png\n")
    table = pets / "labels.csv"
    with table.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["path", "label"])
        rows.writerows([f"{name}/{at:03d}.png", name] for name in ("cat", "dog") for at in range(30))
    shutil.make_archive(str(tmp_path / "packed"), "zip", pets)
    expected = names(load_images(pets, exclude=(f"@{file}",)))
    assert len(expected) == 59
    for data in (table, tmp_path / "packed.zip"):
        assert names(load_images(data, exclude=(f"@{file}",))) == expected


def test_unlabeled_images_are_dropped_by_their_names(pets, tmp_path, fill) -> None:
    from tcs_edge.data.unlabeled import with_unlabeled

    fill(tmp_path / "new", 3, seed=9)
    file = tmp_path / "exclude.txt"
    file.write_text("unlabeled/001.png\n")
    images = with_unlabeled(load_images(pets), tmp_path / "new", (f"@{file}",))
    assert [name for name in images.train.names if name.startswith("unlabeled/")] == [
        "unlabeled/000.png", "unlabeled/002.png",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("cat/003.png\tcow\n", "cat/003.png gets the label 'cow', which is no class. Use cat, dog"),
        ("cat/003.png\tcat\ncat/003.png\tdog\n", "line 2: cat/003.png gets two labels, 'cat' and 'dog'"),
        ('"cat/003.png\n', "line 1: write NAME"),
        ("cat/003.png\t\n", "line 1: write NAME"),
        ("\n".join(f"{name}/{at:03d}.png" for name in ("cat", "dog") for at in range(30)), "leaves no image"),
    ],
)
def test_unusable_lines_are_refused(pets, tmp_path, content, message) -> None:
    file = tmp_path / "exclude.txt"
    file.write_text(content)
    with pytest.raises(DataError) as caught:
        load_images(pets, exclude=(f"@{file}",))
    assert message in str(caught.value)


def test_a_missing_file_names_the_way_to_exclude_such_an_entry(pets) -> None:
    with pytest.raises(DataError, match=r"no such file: thumbs, .*--exclude '\[@\]thumbs'"):
        load_images(pets, exclude=("@thumbs",))


def test_a_file_of_another_encoding_is_refused(tmp_path) -> None:
    file = tmp_path / "exclude.txt"
    file.write_bytes("Köln.png\n".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        read_exclusion([f"@{file}"])


@given(
    st.lists(st.tuples(st.text(min_size=1).filter(str.strip), st.none() | st.text(min_size=1).filter(str.strip)),
             unique_by=lambda line: line[0])
)  # fmt: skip
def test_any_name_survives_the_file(tmp_path_factory, lines) -> None:
    file = tmp_path_factory.mktemp("lists") / "exclude.txt"
    file.write_text("".join(exclusion_line(*line) + "\n" for line in lines), encoding="utf-8", newline="")
    found = read_exclusion([f"@{file}"])
    assert found.dropped == {name for name, label in lines if label is None}
    assert found.labels == {name: label for name, label in lines if label is not None}


def test_a_run_finds_the_file_from_another_folder(tmp_path, monkeypatch) -> None:
    import json

    from tcs_edge.runs.origin import RUN_MARKER, exclude_of_run, started_in

    (tmp_path / "here/runs/a").mkdir(parents=True)
    (tmp_path / "here/exclude.txt").write_text("x.png\n")
    monkeypatch.chdir(tmp_path / "here")
    marker = {"schema_version": 1, "started_in": started_in(tmp_path / "here/runs/a")}
    (tmp_path / "here/runs/a" / RUN_MARKER).write_text(json.dumps(marker))
    monkeypatch.chdir(tmp_path)
    found = exclude_of_run(tmp_path / "here/runs/a", ["*_mask.png", "@exclude.txt"])
    assert found == ["*_mask.png", f"@{tmp_path / 'here/exclude.txt'}"]
