"""Features from a file: matched by name or hash in any order; gaps, doubles and damage are one line."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import re
import unicodedata
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors

from tcs_edge import compress
from tcs_edge.data.images import ImageSet
from tcs_edge.errors import DataError, MissingError
from tcs_edge.teachers import feature_file, parquet_file
from tcs_edge.teachers.given import given_features

PAGE = Path(__file__).resolve().parents[2] / "docs/how-to/teachers.md"
DIM = 6
Rows = dict[str, np.ndarray]


def write(path: Path, rows: Rows, kind: str = "names", dtype: Any = np.float32) -> Path:
    """Write a file of features in the format of its suffix."""
    keys, features = list(rows), np.stack(list(rows.values())).astype(dtype)
    if path.suffix == ".npz":
        np.savez(path, **{kind: np.array(keys), "features": features})
    elif path.suffix == ".safetensors":
        save_file({"features": features}, path, metadata={kind: json.dumps(keys)})
    else:
        pyarrow = pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({kind: keys, "features": list(features)}), path)
    return path


def shuffled(names: list[str], seed: int = 0) -> Rows:
    """Random features of the images, in random order."""
    rng = np.random.default_rng(seed)
    return {names[row]: rng.normal(size=DIM) for row in rng.permutation(len(names))}


def names_of(images: ImageSet) -> list[str]:
    return [*images.train.names, *images.val.names]


@pytest.fixture
def rows(image_set: ImageSet) -> Rows:
    return shuffled(names_of(image_set))


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".parquet"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_rows_are_matched_by_name_in_any_order(image_set, rows, tmp_path, suffix, dtype):
    found = given_features(image_set, write(tmp_path / f"f{suffix}", rows, dtype=dtype))
    for split, features in ((image_set.train, found.train), (image_set.val, found.val)):
        np.testing.assert_array_equal(features, np.stack([rows[name] for name in split.names]).astype(np.float16))
    assert (found.meta.name, found.meta.license) == (f"f{suffix}", f"unknown (f{suffix})")
    assert found.meta.weights_sha256 == hashlib.sha256((tmp_path / f"f{suffix}").read_bytes()).hexdigest()


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_rows_are_matched_by_the_hash_of_the_bytes(image_set, tmp_path, suffix):
    splits = (image_set.train, image_set.val)
    hashes = [split.content_sha256(row).upper() for split in splits for row in range(len(split))]
    given = shuffled(hashes)
    found = given_features(image_set, write(tmp_path / f"f{suffix}", given, "sha256"))
    expected = np.stack([given[key] for key in hashes]).astype(np.float16)
    np.testing.assert_array_equal(np.concatenate([found.train, found.val]), expected)


def test_the_hash_of_an_image_is_that_of_its_file(photos, tmp_path):
    from tcs_edge.data import load_images

    images = load_images(photos, 0)
    files = {hashlib.sha256(path.read_bytes()).hexdigest() for path in photos.rglob("*.*")}
    found = given_features(images, write(tmp_path / "f.npz", shuffled(sorted(files)), "sha256"))
    assert found.train.shape == (72, DIM)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("shape", [(DIM,), (1, DIM)])
@pytest.mark.parametrize("hashed", [False, True])
def test_a_file_may_have_one_vector_for_each_image(image_set, rows, tmp_path, suffix, shape, hashed):
    splits, path = (image_set.train, image_set.val), tmp_path / f"f{suffix}"
    key_of = {name: split.content_sha256(row) for split in splits for row, name in enumerate(split.names)}
    vectors = {key_of[name] if hashed else name: row.astype(np.float32).reshape(shape) for name, row in rows.items()}
    save_file(vectors, path) if suffix == ".safetensors" else np.savez(path, **vectors)
    found = given_features(image_set, path)
    for split, features in ((image_set.train, found.train), (image_set.val, found.val)):
        np.testing.assert_array_equal(features, np.stack([rows[name] for name in split.names]).astype(np.float16))


def renamed(images: ImageSet, names: list[str]) -> ImageSet:
    """The same images with `names` for the first ones of the training split."""
    return replace(images, train=replace(images.train, names=(*names, *images.train.names[len(names) :])))


@pytest.mark.parametrize(
    "spelling",
    [
        lambda name: unicodedata.normalize("NFD", name),
        lambda name: name.replace("/", "\\"),
        lambda name: f"./{name}",
        lambda name: ".\\" + unicodedata.normalize("NFD", name).replace("/", "\\"),
    ],
)
def test_other_spellings_of_a_name_are_the_same_image(image_set, tmp_path, spelling):
    images = renamed(image_set, ["train/caf\u00e9/1.jpg"])
    given = shuffled(names_of(images))
    path = write(tmp_path / "f.npz", {spelling(name): row for name, row in given.items()})
    expected = np.stack([given[name] for name in images.train.names]).astype(np.float16)
    np.testing.assert_array_equal(given_features(images, path).train, expected)


def test_a_spelling_of_two_images_is_neither(image_set, tmp_path):
    composed, decomposed = "train/caf\u00e9.jpg", "train/cafe\u0301.jpg"
    images = renamed(image_set, [composed, decomposed])
    given = shuffled(names_of(images))
    assert given_features(images, write(tmp_path / "f.npz", given)).train.shape == (20, DIM)
    given.pop(decomposed)
    with pytest.raises(DataError, match="no features of 1 of 27"):
        given_features(images, write(tmp_path / "f.npz", given))


def test_rows_of_other_images_are_counted(image_set, rows, tmp_path, recorder):
    more = rows | shuffled([*image_set.test.names, "elsewhere.jpg"])
    given_features(image_set, write(tmp_path / "f.npz", more))
    assert recorder.said == ["teacher features: left out rows of other images, such as test images: 6"]


def test_unlabeled_images_need_features_too(image_set, rows, tmp_path):
    from tcs_edge.data.images import UNLABELED, Split

    train = image_set.train
    pixels = np.concatenate([train.sources, train.sources[:2]])
    labels = np.r_[train.labels, UNLABELED, UNLABELED]
    both = replace(image_set, train=Split(pixels, labels, (*train.names, "unlabeled/a.jpg", "unlabeled/b.jpg")))
    path = write(tmp_path / "f.npz", rows)
    with pytest.raises(
        DataError, match=r"no features of 2 of 29 training and validation images: unlabeled/a\.jpg, unl"
    ):
        given_features(both, path)
    more = rows | shuffled(["unlabeled/a.jpg", "unlabeled/b.jpg"])
    assert given_features(both, write(tmp_path / "f.npz", more)).train.shape == (22, DIM)


def spoiled(rows: Rows, name: str, value: float) -> Rows:
    return rows | {name: np.r_[value, rows[name][1:]]}


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "features of val/3 have NaN or Inf"),
        (-np.inf, "features of val/3 have NaN or Inf"),
        (7e4, "features of val/3 reach 7e\\+04, above the fp16 limit of 65504"),
    ],
)
def test_unusable_numbers_are_refused_with_the_name_of_the_image(image_set, rows, tmp_path, suffix, value, message):
    with pytest.raises(DataError, match=message):
        given_features(image_set, write(tmp_path / f"f{suffix}", spoiled(rows, "val/3", value)))


def test_numbers_of_other_images_do_not_matter(image_set, rows, tmp_path):
    more = spoiled(rows | shuffled(["test/0"]), "test/0", np.nan)
    assert given_features(image_set, write(tmp_path / "f.npz", more)).val.shape == (7, DIM)


def test_equal_features_of_all_images_are_refused(image_set, rows, tmp_path):
    with pytest.raises(DataError, match="same features for all training images"):
        given_features(image_set, write(tmp_path / "f.npz", dict.fromkeys(rows, np.ones(DIM))))


@pytest.mark.parametrize(("factor", "offset"), [(1e-9, 0.0), (1.0, 5e3), (1e-3, 2.0)])
def test_differences_that_fp16_rounds_away_are_refused(image_set, rows, tmp_path, factor, offset):
    path = write(tmp_path / "f.npz", {name: factor * row + offset for name, row in rows.items()})
    with pytest.raises(DataError, match=r"fp16 cannot hold\. Subtract their mean, and divide all by one number"):
        given_features(image_set, path)


@pytest.mark.parametrize(("factor", "offset"), [(1e-5, 0.0), (1.0, 100.0)])
def test_small_and_shifted_features_are_usable(image_set, rows, tmp_path, factor, offset):
    path = write(tmp_path / "f.npz", {name: factor * row + offset for name, row in rows.items()})
    assert given_features(image_set, path).train.shape == (20, DIM)


def test_missing_images_are_counted_and_three_are_named(image_set, rows, tmp_path):
    fewer = {name: row for name, row in rows.items() if not name.startswith("val")}
    with pytest.raises(DataError, match=r"7 of 27 .*: val/0, val/1, val/2 and 4 more\. Its first name is 'train/"):
        given_features(image_set, write(tmp_path / "f.npz", fewer))


def save_npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


NAMES = np.array(["a", "b"])
FEATURES = np.eye(2, 3, dtype=np.float32)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"names": np.array(["a", "a"]), "features": FEATURES},
            "1 names appear twice, such as 'a'. Name images by their path in the data folder",
        ),
        ({"sha256": np.array(["AB", "ab"]), "features": FEATURES}, "1 sha256 appear twice, such as 'ab'"),
        ({"names": NAMES}, "has names. It needs features"),
        ({"x": FEATURES, "y": NAMES}, "has x, y. It needs features"),
        ({"x": FEATURES, "y": NAMES.astype(object)}, "has x, y. It needs features"),
        ({"x": FEATURES[0], "y": FEATURES[0, :2]}, "has x, y. It needs features"),
        ({"names": NAMES, "sha256": NAMES, "features": FEATURES}, "has features, names, sha256. It needs"),
        ({"names": NAMES, "features": FEATURES[:1]}, "has 2 names for 1 rows"),
        ({"names": NAMES, "features": FEATURES[:, 0]}, r"features is float32 \(2,\)"),
        ({"names": NAMES, "features": FEATURES[:, :1]}, "d of 2 or more"),
        ({"names": NAMES, "features": FEATURES.astype(int)}, "features is int64"),
        ({"names": np.arange(2), "features": FEATURES}, "names is not a list of texts"),
        ({"names": np.array([65, 2**31 - 1], "<u4").view("<U1"), "features": FEATURES}, "names is not a list of texts"),
        ({"names": np.array([b"a", b"\xff"]), "features": FEATURES}, "names is not a list of texts"),
        ({"names": NAMES.astype(object), "features": FEATURES}, "Python objects"),
    ],
)
def test_another_layout_is_one_line(image_set, tmp_path, arrays, message):
    with pytest.raises(DataError, match=message):
        given_features(image_set, save_npz(tmp_path / "f.npz", **arrays))


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_nothing_in_a_file_is_unpickled(image_set, tmp_path):
    trap = tmp_path / "executed"
    objects = save_npz(tmp_path / "f.npz", names=np.array([Bomb(trap), "b"], object), features=FEATURES)
    (tmp_path / "g.npz").write_bytes(pickle.dumps(Bomb(trap)))
    for path in (objects, tmp_path / "g.npz"):
        with pytest.raises(DataError):
            given_features(image_set, path)
    assert not trap.exists()


def test_a_false_shape_or_size_does_not_ask_for_memory(image_set, tmp_path, monkeypatch):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 8)})
    with zipfile.ZipFile(tmp_path / "f.npz", "w") as archive:
        archive.writestr("features.npy", header.getvalue() + b"\0" * 64)
    with pytest.raises(DataError, match="which its size contradicts"):
        given_features(image_set, tmp_path / "f.npz")
    np.savez_compressed(tmp_path / "g.npz", names=NAMES, features=np.zeros((2, 10**6), np.float32))
    monkeypatch.setattr(feature_file, "MAX_BYTES", 10**6)
    with pytest.raises(DataError, match=r"features\.npy is larger than 1 MB"):
        given_features(image_set, tmp_path / "g.npz")
    np.savez_compressed(tmp_path / "i.npz", a=np.zeros(2 * 10**5, np.float32), b=np.zeros(2 * 10**5, np.float32))
    with pytest.raises(DataError, match="holds more than 1 MB"):
        given_features(image_set, tmp_path / "i.npz")
    (tmp_path / "h.npz").write_bytes(b"PK" + b"\0" * 10**6)
    with pytest.raises(DataError, match="is larger than 1 MB"):
        given_features(image_set, tmp_path / "h.npz")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("cut", [0.0, 0.3, 0.9])
def test_a_damaged_file_is_one_line(image_set, rows, tmp_path, suffix, cut):
    path = write(tmp_path / f"f{suffix}", rows)
    content = path.read_bytes()
    path.write_bytes(content[: int(cut * len(content))])
    with pytest.raises(DataError) as caught:
        given_features(image_set, path)
    assert "\n" not in str(caught.value)


def test_safetensors_without_keys_or_with_other_text_is_one_line(image_set, tmp_path):
    save_file({"features": FEATURES}, tmp_path / "f.safetensors")
    with pytest.raises(DataError, match=r"has features\. It needs"):
        given_features(image_set, tmp_path / "f.safetensors")
    for text in ("{", '{"a": 1}', "[1, 2]"):
        save_file({"features": FEATURES}, tmp_path / "f.safetensors", metadata={"names": text})
        with pytest.raises(DataError, match="names"):
            given_features(image_set, tmp_path / "f.safetensors")


def test_safetensors_of_a_type_that_numpy_lacks_is_one_line(image_set, tmp_path):
    features = torch.eye(2, 3).to(torch.float8_e4m3fn)
    save_tensors({"features": features}, tmp_path / "f.safetensors", metadata={"names": '["a", "b"]'})
    with pytest.raises(DataError, match="as safetensors of float16 or float32"):
        given_features(image_set, tmp_path / "f.safetensors")


def test_bfloat16_is_read(image_set, rows, tmp_path):
    names, features = list(rows), torch.from_numpy(np.stack(list(rows.values()))).bfloat16()
    save_tensors({"features": features}, tmp_path / "f.safetensors", metadata={"names": json.dumps(names)})
    expected = features[[names.index(name) for name in image_set.train.names]].half().numpy()
    np.testing.assert_array_equal(given_features(image_set, tmp_path / "f.safetensors").train, expected)


def test_parquet_without_pyarrow_names_the_extra(image_set, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_file, "is_installed", lambda module: False)
    (tmp_path / "f.parquet").write_bytes(b"PAR1")
    with pytest.raises(MissingError, match=r"pip install 'tcs-edge\[parquet\]'"):
        given_features(image_set, tmp_path / "f.parquet")


def test_damaged_parquet_is_one_line(image_set, rows, tmp_path):
    path = write(tmp_path / "f.parquet", rows)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        given_features(image_set, path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"names": ["a", "b"], "features": [[1.0, 2.0], [1.0]]}, "several lengths"),
        ({"names": ["a", "b"], "features": [[1.0, 2.0], None]}, "1 rows of features are null"),
        ({"names": ["a", "b"], "features": [[[1.0], [2.0]]] * 2}, "is a column of list<.*, not of lists of numbers"),
        ({"names": ["a", "b"], "features": [["x", "y"]] * 2}, "is a column of list<.*, not of lists of numbers"),
        ({"names": ["a", "b"], "features": [1.0, 2.0]}, "is a column of double, not of lists of numbers"),
        ({"sha256": [b"\xff" * 32, b"\xfe" * 32], "features": [[1.0, 2.0]] * 2}, "sha256 is not a column of texts"),
    ],
)
def test_other_columns_of_parquet_are_one_line(image_set, tmp_path, columns, message):
    pyarrow = pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), tmp_path / "f.parquet")
    with pytest.raises(DataError, match=message):
        given_features(image_set, tmp_path / "f.parquet")


def test_a_null_row_of_parquet_does_not_move_the_others(image_set, tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    from pyarrow import parquet

    names = names_of(image_set)
    width = len(names)  # so that the numbers of one row less still make rows for all
    rows = [None, *np.random.default_rng(0).normal(size=(len(names) - 1, width)).tolist()]
    features = pyarrow.array(rows, pyarrow.list_(pyarrow.float32(), width))
    parquet.write_table(pyarrow.table({"names": names, "features": features}), tmp_path / "f.parquet")
    with pytest.raises(DataError, match="1 rows of features are null"):
        given_features(image_set, tmp_path / "f.parquet")


@pytest.fixture
def arguments(tiny: Callable[..., list[str]]) -> Callable[..., list[str]]:
    """Arguments of a `compress` without another teacher."""
    return lambda **changes: tiny(**{"teacher": None, "teacher_weights": None, "teacher_img_size": None} | changes)


@pytest.fixture
def colors(photos: Path) -> Rows:
    """Features of all photos: mean color, and noise."""
    from PIL import Image

    paths = sorted(path for path in photos.rglob("*") if path.is_file())
    rng = np.random.default_rng(0)
    means = {path: np.asarray(Image.open(path)).mean(axis=(0, 1)) / 255 for path in paths}
    return {path.relative_to(photos).as_posix(): np.r_[mean, rng.normal(size=3)] for path, mean in means.items()}


@pytest.mark.parametrize("method", ["tcs", "kd"])
def test_a_run_learns_from_a_file(photos, colors, tmp_path, short_training, method):
    path = write(tmp_path / "colors.npz", colors)
    run = compress(
        photos, target="raspberrypi4", teacher_features=path, method=method, student="lcnet_050",
        student_init="random", img_size=32, epochs=2, batch_size=12, threads=1, workers=0, out=tmp_path / "run",
        cache_dir=tmp_path / "cache", quiet=True,
    )  # fmt: skip
    assert run.manifest.teacher.probe_accuracy == 1.0
    assert run.manifest.teacher.license == "unknown (colors.npz)"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["intake.sqlite3"]  # no features
    assert "teacher: colors.npz (license unknown)" in run.folder.log.read_text(encoding="utf-8")


def test_the_script_of_the_page_writes_such_a_file(photos, tmp_path, monkeypatch):
    from tcs_edge.data import load_images

    script = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL).group(1)
    small = script.replace("vit_7b_patch16_dinov3.lvd1689m", "test_vit").replace("pretrained=True", "pretrained=False")
    assert len(script.strip().splitlines()) <= 13
    assert small.count("test_vit") == small.count("pretrained=False") == 1
    (tmp_path / "photos").symlink_to(photos)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    exec(compile(small, PAGE.name, "exec"), {})
    found = given_features(load_images(photos, 0), tmp_path / "features.npz")
    assert (found.train.shape, found.val.shape) == ((72, 64), (24, 64))


def test_the_plan_reads_the_file(cli, arguments, colors, tmp_path):
    result = cli(*arguments(teacher_features=write(tmp_path / "colors.npz", colors)), "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    stage = json.loads(result.stdout)["stages"][0]
    assert (stage["seconds"], stage["what"]) == (0.0, "colors.npz, features of 96 images")


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ({"teacher_features": "none.npz"}, 4, "no such file"),
        ({"teacher_features": "f.csv"}, 2, ".npz, .safetensors, .parquet"),
        ({"teacher_features": "few.npz"}, 3, "no features of 95 of 96 training and validation images"),
        ({"teacher_features": "few.npz", "method": "simkd"}, 2, "simkd needs feature maps"),
        ({"teacher_features": "few.npz", "teacher_img_size": 64}, 2, "Leave --teacher-img-size out"),
        ({"teacher_features": "few.npz", "teacher_weights": "w.safetensors"}, 2, "Leave --teacher-weights out"),
    ],
)
def test_refusals_are_one_line_before_a_run_folder(cli, arguments, colors, tmp_path, options, code, words):
    name = next(name for name in colors if name.startswith("train/"))
    write(tmp_path / "few.npz", {name: colors[name]})
    (tmp_path / "f.csv").write_text("name,1\n")
    given = {
        name: tmp_path / value if isinstance(value, str) and "." in value else value for name, value in options.items()
    }
    result = cli(*arguments(**given), "--out", tmp_path / "run")
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.stderr
    assert words in result.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()
