"""Tables, archives, WebDataset shards and Hugging Face data sets give what a folder of the same images gives."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tcs_edge.data import ImageSet, check, load_images
from tcs_edge.data.find import expanded, is_at_hand, opener_of
from tcs_edge.data.folders import load_held_out
from tcs_edge.data.unlabeled import with_unlabeled
from tcs_edge.errors import DataError, MissingError, TcsEdgeError, UsageError

PARTS = ("train", "val", "test")


@pytest.fixture(params=["flat", "splits"])
def pets(request, tmp_path, fill) -> Path:
    """Folder of classes, or of splits with classes; with a nested folder, a copy and odd names."""
    root = tmp_path / "pets"
    for seed, part in enumerate(PARTS if request.param == "splits" else ("",)):
        fill(root / part / "cat", 12, seed)
        fill(root / part / "a dog", 9, 10 + seed)
        fill(root / part / "cat/young", 2, 20 + seed)
        shutil.copy(root / part / "cat/000.png", root / part / "cat/äö copy.png")
        Image.new("RGB", (9, 7), (seed, 3, 4)).save(root / part / "a dog/b.c.jpg")
    return root


def _files(root: Path) -> list[str]:
    return sorted(
        path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file() and ".csv" not in path.name
    )


def _facts(name: str) -> tuple[str, str]:
    """Return split and label of a name."""
    parts = name.split("/")
    return (parts[0], parts[1]) if parts[0] in PARTS else ("", parts[0])


def _table(root: Path, path: Path, prefix: str = "", delimiter: str = ",") -> Path:
    split = any(_facts(name)[0] for name in _files(root))
    lines = [delimiter.join(["path", "label", *(["split"] if split else [])])]
    for name in reversed(_files(root)):
        part, label = _facts(name)
        lines.append(delimiter.join([prefix + name, label, *([part] if split else [])]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def as_csv(root: Path) -> Path:
    return _table(root, root / "labels.csv")


def as_csv_above(root: Path) -> Path:
    return _table(root, root.parent / "labels.tsv", "pets/", "\t")


def as_csv_of_absolute_paths(root: Path) -> Path:
    return _table(root, root / "labels.csv", f"{root}/", ";")


def as_zip(root: Path, method: int = zipfile.ZIP_DEFLATED, prefix: str = "") -> Path:
    path = root.parent / "pets.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in reversed(_files(root)):
            archive.write(root / name, prefix + name)
    return path


def as_stored_zip_with_a_folder_around(root: Path) -> Path:
    return as_zip(root, zipfile.ZIP_STORED, "my photos/")


def as_tar(root: Path) -> Path:
    with tarfile.open(root.parent / "pets.tar", "w") as archive:
        archive.add(root, ".")
    return root.parent / "pets.tar"


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def as_shards(root: Path) -> Path:
    """Three WebDataset shards, with the label in .cls."""
    (root.parent / "shards").mkdir()
    for number in range(3):
        with tarfile.open(root.parent / f"shards/{number:02d}.tar", "w") as archive:
            for name in _files(root)[number::3]:
                _, label = _facts(name)
                _add(archive, name, (root / name).read_bytes())
                folder, _, file = name.rpartition("/")
                _add(archive, f"{folder}/{file.partition('.')[0]}.cls", f"{label}\n".encode())
    return root.parent / "shards/{00..02}.tar"


def as_shards_of_json(root: Path) -> Path:
    """One WebDataset shard with plain keys and facts in .json; names of images must not have a second dot."""
    with tarfile.open(root.parent / "pets.tar", "w") as archive:
        for number, name in enumerate(_files(root)):
            part, label = _facts(name)
            folder, _, file = name.rpartition("/")
            key = f"{folder}/{file.partition('.')[0]}"
            facts = {"label": label, "number": number} | ({"split": part} if part else {})
            _add(archive, f"{key}.json", json.dumps(facts).encode())
            _add(archive, name, (root / name).read_bytes())
    return root.parent / "pets.tar"


FORMS = [
    as_csv, as_csv_above, as_csv_of_absolute_paths, as_zip, as_stored_zip_with_a_folder_around, as_tar, as_shards,
    as_shards_of_json,
]  # fmt: skip


def assert_same(one: ImageSet, two: ImageSet) -> None:
    assert one.classes == two.classes
    for part in PARTS:
        first, second = getattr(one, part), getattr(two, part)
        assert tuple(first.names) == tuple(second.names)
        assert first.labels.tolist() == second.labels.tolist()
        assert np.array_equal(first.contents, second.contents)
        assert np.array_equal(first.sizes, second.sizes)
        for row in range(len(first)):
            assert np.array_equal(np.asarray(first.image(row)), np.asarray(second.image(row)))
            assert first.decoded_bytes(row) == second.decoded_bytes(row)
    assert one.fingerprint == two.fingerprint


@pytest.mark.parametrize("form", FORMS)
def test_the_same_images_are_the_same_set_in_any_form(pets: Path, form: Callable[[Path], Path], recorder) -> None:
    folder = load_images(pets, 3)
    data = form(pets)
    recorder.warned.clear()
    found = load_images(data, 3)
    assert_same(folder, found)
    assert not [line for line in recorder.warned if "leakage" not in line]
    few = found.train.subset([2, 0])
    assert few.names == (found.train.names[2], found.train.names[0])
    assert np.array_equal(np.asarray(few.image(1)), np.asarray(folder.train.image(0)))
    assert is_at_hand(data)
    assert load_held_out(data)[1].names == load_held_out(pets)[1].names
    name = folder.test.names[0]
    assert np.array_equal(np.asarray(opener_of(data)(name)), np.asarray(folder.test.image(0)))


@pytest.mark.parametrize("form", [as_zip, as_tar, as_shards])
def test_a_second_start_reads_no_image_of_an_archive(pets: Path, form: Callable[[Path], Path], monkeypatch) -> None:
    data = form(pets)
    for archive in expanded(data):
        os.utime(archive, ns=(0, 0))
    monkeypatch.setattr(check, "now_ns", lambda: 2**62)
    first = load_images(data)
    monkeypatch.setattr(check, "inspect", None)
    monkeypatch.setattr(check, "content_hash", None)
    assert_same(first, load_images(data))


def test_unlabeled_images_come_from_archives_too(pets: Path, tmp_path: Path, fill) -> None:
    fill(tmp_path / "more/2024", 4, seed=90)
    expected = with_unlabeled(load_images(pets), tmp_path / "more")
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        for name in _files(tmp_path / "more"):
            archive.write(tmp_path / "more" / name, name)
    found = with_unlabeled(load_images(pets), tmp_path / "more.zip")
    assert found.unlabeled_fingerprint == expected.unlabeled_fingerprint
    assert found.train.names == expected.train.names
    assert np.array_equal(np.asarray(found.train.image(len(found.train) - 1)), np.asarray(expected.train.image(-1)))


def test_patterns_leave_out_rows_and_members(pets: Path) -> None:
    expected = load_images(pets, 3, ["young", "*copy*"])
    for form in (as_csv, as_zip, as_shards):
        assert_same(expected, load_images(form(pets), 3, ["young", "*copy*"]))


def test_keys_without_a_folder_are_named_by_split_and_class(tmp_path: Path, picture) -> None:
    for part, count in (("train", 12), ("test", 4)):
        with tarfile.open(tmp_path / f"pets-{part}-000.tar", "w") as archive:
            for number in range(count):
                stream = io.BytesIO()
                picture(100 * count + number).save(stream, "PNG")
                _add(archive, f"{number:04d}.png", stream.getvalue())
                _add(archive, f"{number:04d}.cls", b"%d" % (number % 2))
    images = load_images(tmp_path / "pets-{train,test}-000.tar")
    assert (images.classes, images.counts()) == (("0", "1"), {"train": 10, "val": 2, "test": 4})
    assert images.test.names == ("test/0/0000.png", "test/0/0002.png", "test/1/0001.png", "test/1/0003.png")
    shutil.copy(tmp_path / "pets-test-000.tar", tmp_path / "pets-train-001.tar")
    several = load_images(tmp_path / "pets-{train-000,train-001,test-000}.tar")
    assert len(several.train) + len(several.val) == 16
    assert "train/0/pets-train-001-0000.png" in {*several.train.names, *several.val.names}


def _csv(folder: Path, text: str | bytes) -> Path:
    path = folder / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_columns_have_names_of_the_users_own(tmp_path: Path, fill) -> None:
    fill(tmp_path / "images", 12)
    rows = "".join(f'images/{row:03d}.png,"{"red, dark" if row % 2 else "blue"}",{row % 6}\n' for row in range(12))
    path = _csv(tmp_path, "\ufeffPhoto,Species,Tree\n" + rows)
    columns = ["path=Photo", "label=Species", "group=Tree"]
    images = load_images(path, columns=columns)
    assert images.classes == ("blue", "red, dark")
    assert images.name == "labels"
    with pytest.raises(DataError, match=r"no column 'Specie'. Did you mean Species\?"):
        load_images(path, columns=["label=Specie", "path=Photo"])
    with pytest.raises(UsageError, match=r"is not ROLE=NAME\. Roles: path, label, split, group"):
        load_images(path, columns=["labels=Species"])
    with pytest.raises(UsageError, match=r"is a folder\. Leave it out"):
        load_images(tmp_path / "images", columns=["label=Species"])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_of_a_spreadsheet_are_read(tmp_path: Path, fill, encoding: str) -> None:
    for name in ("größe", "b"):
        fill(tmp_path / name, 4, seed=len(name))
    rows = [f"{name}\\{row:03d}.png;{name}" for name in ("größe", "b") for row in range(4)]
    path = _csv(tmp_path, ("File;Class\r\n" + "\r\n".join(rows) + "\r\n\r\n").encode(encoding))
    assert load_images(path).fingerprint == load_images(tmp_path).fingerprint


@pytest.mark.parametrize("separator", [",", ";", "|"])
def test_a_first_line_that_names_the_separator_is_read(tmp_path: Path, fill, separator: str) -> None:
    for seed, name in enumerate(("cat", "dog")):
        fill(tmp_path / name, 4, seed)
    table = f"sep={separator}\r\n" + f"path,label\n{GOOD}".replace(",", separator)
    assert load_images(_csv(tmp_path, table)).fingerprint == load_images(tmp_path).fingerprint
    with pytest.raises(DataError, match=r"row 11: dog/009\.png has no label"):
        load_images(_csv(tmp_path, f"{table}dog/009.png{separator}\n"))


GOOD = "".join(f"{name}/{row:03d}.png,{name}\n" for name in ("cat", "dog") for row in range(4))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"labels\.csv is empty"),
        ("file,species\ncat/000.png,cat\n", r"no column for the label: file, species\. Pass --column label=NAME"),
        ("path,label,path\n", r"two columns 'path'"),
        (f"path,label\n{GOOD}cat/000.png,dog\n", r"row 10: cat/000\.png has the label 'dog', but 'cat' in row 2"),
        (f"path,label\n{GOOD}../x.png,dog\n", r"row 10: \.\./x\.png is outside of"),
        (f"path,label\n{GOOD}/etc/x.png,dog\n", r"row 10: /etc/x\.png is outside of"),
        (f"path,label\n{GOOD}dog/009.png,\n", r"row 10: dog/009\.png has no label"),
        (f"path,label\n{GOOD}dog/009.png, \n", r"row 10: dog/009\.png has no label"),
        (f"path,label\n{GOOD},dog\n", r"row 10 has no path"),
        (f"path,label\n{GOOD}dog/009.png\n", r"row 10 has 1 cells, the header 2"),
        (f'path,label\n{GOOD}dog/009.png,"d\nog"\n', r"row 10: the label 'd\\nog' has a line break"),
        ("path,label\n" + "cat/000.png,cat\n", r"only one class, 'cat'"),
        (f'path,label\n{GOOD}dog/009.png,"dog\n' + GOOD, r"row 10 cannot be read: a quote that is not closed"),
        (f'path,label\n{GOOD}dog/009.png,"{"dog" * 99}\ndog"\n', r"row 10: the label .{1,80} has a line break"),
        (f"path,label\n{GOOD}https://x.org/009.png,dog\n", r"row 10: 'https://x\.org/009\.png' is a URL"),
        (f"path,label\n{GOOD}".encode("utf-32"), r"is not UTF-8, but UTF-32"),
        (f"\n\npath,label\n{GOOD}dog/009.png,\n", r"row 12: dog/009\.png has no label"),
        (f"path,label\n{GOOD}".encode("utf-16-le"), r"is not UTF-8: it holds zero bytes, as UTF-16 does"),
        (
            f"path,label\n{GOOD}dog/003.png,d\u200bog\n".replace("dog/003.png,dog\n", ""),
            r"'dog' and 'd\\u200bog' \(U\+200B\)",
        ),
        ("path,label\n", r"has no images"),
        (f"path,label\n{GOOD}".encode() + b"caf\xe9.png,cat\n", r"row 10 is not UTF-8 \(byte 0xe9\)"),
        ("path,label,split\ncat/000.png,cat,train\ndog/000.png,dog,trial\n", r"row 3: .* has the split 'trial'"),
        ("path,label,split\ncat/000.png,cat,train\ndog/000.png,dog,\n", r"row 3: dog/000\.png has no split"),
        ("path,label,split\ncat/000.png,cat,train\ndog/000.png,dog,train\n", r"only the split train"),
        (
            "path,label,split\ncat/000.png,cat,train\ndog/000.png,dog,train\ncat/001.png,cow,test\n",
            r"row 4: cat/001\.png has the label 'cow', which train lacks",
        ),
        (
            "path,label,group\ncat/000.png,cat,a\ndog/000.png,dog,b\ndog/000.png,dog,c\n",
            r"row 4: dog/000\.png has the group 'c', but 'b' in row 3",
        ),
    ],
)
def test_a_bad_table_is_named_with_its_row(tmp_path: Path, fill, text: str | bytes, message: str) -> None:
    for seed, name in enumerate(("cat", "dog")):
        fill(tmp_path / name, 4, seed)
    with pytest.raises(DataError, match=message) as caught:
        load_images(_csv(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert "labels.csv" in str(caught.value)


def test_repeated_rows_are_ignored_with_a_warning(tmp_path: Path, fill, recorder) -> None:
    for seed, name in enumerate(("cat", "dog")):
        fill(tmp_path / name, 4, seed)
    images = load_images(_csv(tmp_path, f"path,label\n{GOOD}cat/001.png, cat\n./dog/000.png,dog\n"))
    assert sum(map(len, (images.train, images.val, images.test))) == 8
    (line,) = recorder.warned
    assert "rows that repeat an image: 2 (row 10 (cat/001.png), row 11 (dog/000.png))" in line


def test_images_of_a_table_that_are_missing_are_named(tmp_path: Path, fill) -> None:
    for seed, name in enumerate(("cat", "dog")):
        fill(tmp_path / name, 3, seed)
    with pytest.raises(DataError, match=r"2 of 8 images cannot be read.*cat/003\.png \(row 5: no such file"):
        load_images(_csv(tmp_path, f"path,label\n{GOOD}"))
    parquet = pytest.importorskip("pyarrow.parquet")
    from pyarrow import csv

    parquet.write_table(csv.read_csv(tmp_path / "labels.csv"), tmp_path / "labels.parquet")
    with pytest.raises(DataError, match=r"cat/003\.png \(row 4: no such file"):
        load_images(tmp_path / "labels.parquet")


def test_labels_that_are_numbers_are_class_names(tmp_path: Path, fill) -> None:
    fill(tmp_path / "images", 9)
    rows = "".join(f"images/{row:03d}.png,{row % 3}\n" for row in range(9))
    assert load_images(_csv(tmp_path, f"path,label\n{rows}")).classes == ("0", "1", "2")


def test_missing_values_of_parquet_are_empty() -> None:
    from tcs_edge.data.tables import _cell

    assert [_cell(value) for value in (None, float("nan"), 1.0, 1.5, "nan")] == ["", "", "1", "1.5", "nan"]


def test_images_of_one_group_stay_in_one_split(tmp_path: Path, fill, recorder) -> None:
    """Ten trees with six photos each, of leaves and of bark."""
    fill(tmp_path / "images", 60)
    rows = "".join(f"images/{row:03d}.png,{'leaf' if row % 2 else 'bark'},tree {row // 6}\n" for row in range(60))
    path = _csv(tmp_path, f"path,label,group\n{rows}")
    draws = set()
    for seed in range(4):
        images = load_images(path, seed)
        trees = [{int(Path(name).stem) // 6 for name in getattr(images, part).names} for part in PARTS]
        assert sum(map(len, trees)) == len(set.union(*trees)) == 10
        assert [len(part) for part in trees] == [8, 1, 1]
        assert set(images.train.labels.tolist()) == set(images.test.labels.tolist()) == {0, 1}
        assert images.train.groups is not None
        draws.add(tuple(images.test.names))
    assert len(draws) > 1
    assert not recorder.warned


def test_rows_without_a_group_are_alone(tmp_path: Path, fill) -> None:
    fill(tmp_path / "images", 60)
    rows = "".join(f"images/{row:03d}.png,{'ab'[row % 2]},{'tree' if row < 6 else ''}\n" for row in range(60))
    images = load_images(_csv(tmp_path, f"path,label,group\n{rows}"))
    assert [len(getattr(images, part)) for part in PARTS] == [48, 6, 6]
    tree = [{name for name in getattr(images, part).names if int(Path(name).stem) < 6} for part in PARTS]
    assert sorted(map(len, tree)) == [0, 0, 6]


def test_a_group_in_two_given_splits_is_a_leak(tmp_path: Path, fill, recorder) -> None:
    fill(tmp_path / "images", 40)
    split = ["train"] * 30 + ["test"] * 10
    rows = "".join(f"images/{row:03d}.png,{'ab'[row % 2]},{split[row]},{row // 4}\n" for row in range(40))
    load_images(_csv(tmp_path, f"path,label,split,group\n{rows}"))
    (line,) = recorder.warned
    assert line.startswith("leakage: 2 images of test are of groups that")
    assert "has too: images/030.png, images/031.png" in line


def test_copies_in_two_groups_stay_in_one_split(tmp_path: Path, fill) -> None:
    fill(tmp_path / "images", 40)
    for row in (0, 2, 20):
        shutil.copy(tmp_path / f"images/{row:03d}.png", tmp_path / f"images/{row + 8:03d}.png")
    rows = "".join(f"images/{row:03d}.png,{'ab'[row // 2 % 2]},{row // 2}\n" for row in range(40))
    images = load_images(_csv(tmp_path, f"path,label,group\n{rows}"))
    contents = [{row.tobytes() for row in getattr(images, part).contents} for part in PARTS]
    assert sum(map(len, contents)) == len(set.union(*contents))


def test_too_few_groups_are_refused(tmp_path: Path, fill) -> None:
    fill(tmp_path / "images", 20)
    rows = "".join(f"images/{row:03d}.png,{'ab'[row % 2]},{row // 10}\n" for row in range(20))
    with pytest.raises(DataError, match=r"class 'a' is too small to split: 2 groups of images, 3 are needed"):
        load_images(_csv(tmp_path, f"path,label,group\n{rows}"))


@pytest.mark.parametrize("cut", [0.5, -700, -1024])
def test_a_truncated_tar_is_refused(pets: Path, cut: float) -> None:
    path = as_tar(pets)
    data = path.read_bytes().rstrip(b"\0")
    data = data + b"\0" * (-len(data) % 512)
    path.write_bytes(data[: int(len(data) * cut) if cut == 0.5 else len(data) + 1024 + int(cut)])
    with pytest.raises(DataError, match=r"pets\.tar is (truncated|not a whole tar)") as caught:
        load_images(path)
    assert "\n" not in str(caught.value)


def test_patterns_of_shards_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\{09\.\.00\} counts down\. Write \{00\.\.09\}"):
        load_images(tmp_path / "p-{09..00}.tar")
    with pytest.raises(DataError, match=r"is a pattern.*\{000\.\.099\}"):
        load_images(tmp_path / "p-*.tar")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tar", b"", "truncated|not a whole tar file"),
        ("a.tar", b"text" * 500, "not a whole tar file"),
        ("a.tar", b"\x1f\x8b\x08" + b"x" * 2000, "compressed by gzip.*plain .tar"),
        ("a.zip", b"PK\x03\x04" + b"x" * 99, "not a whole zip file"),
        ("a.zip", b"", "not a whole zip file"),
        ("a.tar.gz", b"\x1f\x8b\x08" + b"x" * 2000, "is compressed. Unpack it"),
        ("a.tgz", b"\x1f\x8b\x08", "is compressed. Unpack it"),
        ("a.h5", b"x", r"is a file. Pass a folder, or a file that ends in \.csv"),
    ],
)
def test_a_damaged_archive_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load_images(tmp_path / name)
    assert (name in str(caught.value), "\n" in str(caught.value)) == (True, False)


def test_a_shard_that_vanished_is_named(pets: Path) -> None:
    data = as_shards(pets)
    (pets.parent / "shards/01.tar").unlink()
    assert not is_at_hand(data)
    with pytest.raises(DataError, match=r"no such file: .*shards/01\.tar"):
        load_images(data)


def test_members_that_leave_the_archive_are_refused(tmp_path: Path, picture) -> None:
    for name in ("../cat/a.png", "/cat/a.png"):
        with tarfile.open(tmp_path / "a.tar", "w") as archive:
            _add(archive, name, b"x")
        with pytest.raises(DataError, match=r"leaves the archive"):
            load_images(tmp_path / "a.tar")


def test_one_name_in_two_shards_is_refused(pets: Path) -> None:
    data = as_shards(pets)
    shutil.copy(pets.parent / "shards/00.tar", pets.parent / "shards/01.tar")
    with pytest.raises(DataError, match=r"01\.tar holds .*, which .*00\.tar holds already"):
        load_images(data)


def test_an_image_damaged_inside_a_zip_is_skipped(tmp_path: Path, fill) -> None:
    for seed, name in enumerate(("cat", "dog")):
        fill(tmp_path / "pets" / name, 60, seed)
    path = as_zip(tmp_path / "pets")
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("dog/007.png")
    data = bytearray(path.read_bytes())
    data[info.header_offset + 60] ^= 0xFF
    path.write_bytes(bytes(data))
    images = load_images(path)
    assert [bad.path for bad in images.skipped] == ["dog/007.png"]
    assert "damaged in the zip" in images.skipped[0].reason


def test_a_zip_with_backslashes_is_read(pets: Path) -> None:
    folder = load_images(pets)
    with zipfile.ZipFile(pets.parent / "pets.zip", "w") as archive:
        for name in _files(pets):
            archive.writestr(name.replace("/", "\\"), (pets / name).read_bytes())
    assert_same(folder, load_images(pets.parent / "pets.zip"))
    with zipfile.ZipFile(pets.parent / "bad.zip", "w") as archive:
        archive.writestr("..\\cat\\a.png", b"x")
    with pytest.raises(DataError, match="leaves the archive"):
        load_images(pets.parent / "bad.zip")


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (b"{", r"a\.tar: 005\.json is not JSON"),
        (b"[]", r"005\.png has no label"),
        (b'{"label": null}', r"005\.png has no label"),
        (b'{"label": {"name": "cat"}}', r"a\.tar: 005\.json: the value 'label' is not a text"),
        (b'{"label": ["cat", "dog"]}', r"a\.tar: 005\.json: the value 'label' is not a text"),
    ],
)
def test_bad_facts_of_a_shard_are_named(tmp_path: Path, picture, facts: bytes, message: str) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for number in range(8):
            stream = io.BytesIO()
            picture(number).save(stream, "PNG")
            _add(archive, f"{number:03d}.png", stream.getvalue())
            _add(archive, f"{number:03d}.json", facts if number == 5 else b'{"label": %d}' % (number % 2))
    with pytest.raises(DataError, match=message) as caught:
        load_images(tmp_path / "a.tar")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["labels.csv", "hf://name"])
def test_tables_and_data_sets_are_no_unlabeled_images(pets: Path, name: str) -> None:
    as_csv(pets)
    with pytest.raises(DataError, match=r"cannot be unlabeled images\. Pass --unlabeled with a folder, a \.zip or"):
        with_unlabeled(load_images(pets), Path(name) if name.startswith("hf") else pets / name)


def test_an_encrypted_zip_is_refused(tmp_path: Path, fill) -> None:
    fill(tmp_path / "pets/cat", 2)
    path = as_zip(tmp_path / "pets")
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match="is encrypted"):
        load_images(path)


def test_an_archive_replaced_during_a_run_is_a_data_error(pets: Path) -> None:
    images = load_images(as_zip(pets))
    with zipfile.ZipFile(pets.parent / "pets.zip", "w") as archive:
        archive.writestr("x" * 300, b"y" * 9000)
    with pytest.raises(DataError, match=r"cannot read image .*pets\.zip/") as caught:
        images.train.image(len(images.train) - 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a{000..002}.tar", ["a000.tar", "a001.tar", "a002.tar"]),
        ("a{9..11}.tar", ["a9.tar", "a10.tar", "a11.tar"]),
        ("{x,y}-{1..2}.tar", ["x-1.tar", "x-2.tar", "y-1.tar", "y-2.tar"]),
        ("plain.tar", ["plain.tar"]),
    ],
)
def test_braces_name_several_files(pattern: str, names: list[str]) -> None:
    assert [str(path) for path in expanded(Path(pattern))] == names


def test_parquet_needs_its_library(tmp_path: Path) -> None:
    (tmp_path / "labels.parquet").write_bytes(b"PAR1")
    with pytest.raises(TcsEdgeError) as caught:
        load_images(tmp_path / "labels.parquet")
    assert isinstance(caught.value, MissingError | DataError)
    assert "pip install 'tcs-edge[parquet]'" in str(caught.value) or "cannot be read as Parquet" in str(caught.value)


def test_a_parquet_table_gives_the_same_set(pets: Path) -> None:
    pytest.importorskip("pyarrow")
    import pyarrow
    from pyarrow import csv, parquet

    table = csv.read_csv(as_csv(pets))
    parquet.write_table(table, pets / "labels.parquet")
    assert_same(load_images(pets, 3), load_images(pets / "labels.parquet", 3))
    numbers = pyarrow.table({"path": table["path"], "label": [1.0] * 6 + [2.0] * (len(table) - 6)})
    parquet.write_table(numbers, pets / "labels.parquet")
    assert load_images(pets / "labels.parquet").classes == ("1", "2")


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("path", [b"cat/000.png", b"dog/000.png"], "'path' for the path holds binary, not texts"),
        ("image", [{"bytes": b"x", "path": "0.png"}] * 2, "'image' for the path holds struct<.*hf://FOLDER"),
        ("label", [["cat"], ["dog"]], "'label' for the label holds list<.*--column label=NAME"),
        ("label", [float("nan"), 1.0], r"row 1: cat/000\.png has no label"),
        ("label", [None, "dog"], r"row 1: cat/000\.png has no label"),
    ],
)
def test_a_bad_column_of_parquet_is_named(tmp_path: Path, column: str, values: list[object], message: str) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = {"path": ["cat/000.png", "dog/000.png"], "label": ["cat", "dog"]}
    if column == "image":
        del table["path"]
    parquet.write_table(arrow.table(table | {column: values}), tmp_path / "labels.parquet")
    with pytest.raises(DataError, match=message) as caught:
        load_images(tmp_path / "labels.parquet")
    assert "labels.parquet" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_hugging_face_data_set_gives_the_same_images(tmp_path: Path, fill, recorder) -> None:
    datasets = pytest.importorskip("datasets")
    for seed, part in enumerate(PARTS):
        for offset, name in enumerate(("cat", "dog")):
            fill(tmp_path / "pets" / part / name, 4, 10 * offset + seed)
    folder = load_images(tmp_path / "pets")
    loaded = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "pets"), cache_dir=str(tmp_path / "hf"))
    loaded.save_to_disk(tmp_path / "saved")
    assert_same(folder, load_images(Path(f"hf://{tmp_path}/saved")))
    with pytest.raises(DataError, match="has no column 'species'"):
        load_images(Path(f"hf://{tmp_path}/saved"), columns=["label=species"])
    datasets.DatasetDict({"first": loaded["train"], "test": loaded["test"]}).save_to_disk(tmp_path / "odd")
    with pytest.raises(DataError, match=r"has the splits first, test\. It needs train and test"):
        load_images(Path(f"hf://{tmp_path}/odd"))
    several = loaded["test"].remove_columns("label").add_column("label", [[number % 2] for number in range(8)])
    several.save_to_disk(tmp_path / "several")
    with pytest.raises(DataError, match=r"'label' for the label holds List, not texts\. Pass --column label=NAME"):
        load_images(Path(f"hf://{tmp_path}/several"))
    datasets.DatasetDict(loaded | {"unsupervised": loaded["test"]}).save_to_disk(tmp_path / "more")
    recorder.warned.clear()
    assert_same(folder, load_images(Path(f"hf://{tmp_path}/more")))
    assert any("ignored splits that are not train, val or test: unsupervised" in line for line in recorder.warned)
    loaded["train"].save_to_disk(tmp_path / "one")
    one = load_images(Path(f"hf://{tmp_path}/one"))
    assert_same(load_images(tmp_path / "pets/train"), one)


def test_shards_of_the_webdataset_library_are_read(pets: Path, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    folder = load_images(pets, 3)
    (tmp_path / "shards").mkdir()
    with webdataset.ShardWriter(str(tmp_path / "shards/%02d.tar"), maxcount=12, verbose=0) as writer:
        for name in _files(pets):
            _, label = _facts(name)
            key, _, suffix = name.rpartition("/")[0], None, name.rpartition("/")[2].partition(".")[2]
            key = f"{key}/{name.rpartition('/')[2].partition('.')[0]}"
            writer.write({"__key__": key, suffix: (pets / name).read_bytes(), "cls": label})
    last = len(list((tmp_path / "shards").iterdir())) - 1
    assert_same(folder, load_images(tmp_path / f"shards/{{00..{last:02d}}}.tar", 3))


def test_a_data_set_of_the_hub_needs_its_library(tmp_path: Path) -> None:
    with pytest.raises(TcsEdgeError) as caught:
        load_images(Path(f"hf://{tmp_path}/nothing"))
    assert "pip install 'tcs-edge[datasets]'" in str(caught.value) or "no such data set" in str(caught.value)
