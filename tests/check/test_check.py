"""`tcs-edge check` on photos-like images with known faults."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from tests.altered import altered

CLASSES = ("cat", "dog")
COUNTS = {"train": 12, "val": 4, "test": 6}


def scene(seed: int, side: int = 96) -> Image.Image:
    """A random image with large and small structure, as photos have it."""
    draw = np.random.default_rng(seed)
    total = np.zeros((side, side, 3))
    for cells in (3, 6, 12, 24, 48):
        coarse = draw.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        layer = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
        total += np.asarray(layer, float) / cells
    total -= total.min()
    return Image.fromarray((255 * total / total.max()).astype(np.uint8))


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """train/, val/ and test/ with two classes of different scenes."""
    seed = 0
    for part, count in COUNTS.items():
        for name in CLASSES:
            folder = tmp_path / "pets" / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                seed += 1
                scene(seed).save(folder / f"{index:02d}.png")
    return tmp_path / "pets"


@pytest.fixture
def check(cli, tmp_path: Path) -> Callable[..., tuple[int, dict, str]]:
    """check("--data", folder): exit code, JSON document and messages."""

    def run(*arguments: object) -> tuple[int, dict, str]:
        place = tmp_path / "out" / "check.html"
        result = cli("check", "--out", place, "--json", "--cache-dir", tmp_path / "cache", *arguments)
        return result.exit_code, json.loads(result.stdout) if result.stdout else {}, result.stderr

    return run


def pairs(document: dict) -> set[frozenset[str]]:
    return {frozenset((pair["first"]["image"], pair["second"]["image"])) for pair in document["copies"]}


def test_different_images_are_no_copies(pets, check) -> None:
    code, document, _ = check("--data", pets)
    assert code == 0
    assert document["copies"] == []
    assert document["images"] == {"train": 24, "val": 8, "test": 12}
    assert document["teacher"] is None
    assert document["doubts"] == []


@pytest.mark.parametrize("how", ["encoded", "resized", "mirrored", "cropped"])
def test_altered_copies_of_training_images_in_test_are_leaks(pets, check, how) -> None:
    altered(Image.open(pets / "train/cat/03.png"), how).save(pets / "test/dog/copy.png")
    code, document, errors = check("--data", pets)
    assert code == 3
    assert pairs(document) == {frozenset(("train/cat/03.png", "test/dog/copy.png"))}
    assert document["copies"][0]["leak"]
    assert "1 copies are in train and in test" in errors
    assert check("--data", pets, "--allow-leaks")[0] == 0


def test_copies_inside_a_split_are_found_and_are_no_leak(pets, check) -> None:
    altered(Image.open(pets / "train/cat/03.png"), "mirrored").save(pets / "train/cat/again.png")
    shutil.copy(pets / "train/dog/01.png", pets / "train/dog/same.png")
    code, document, _ = check("--data", pets)
    assert code == 0
    kinds = {pair["second"]["image"]: pair["kind"] for pair in document["copies"]}
    assert kinds == {"train/cat/again.png": "near copy", "train/dog/same.png": "same bytes"}


def test_a_leak_behind_closer_copies_in_test_is_found(pets, check) -> None:
    original = Image.open(pets / "train/cat/03.png")
    for number in range(4):
        altered(original, "mirrored").resize((90 + number, 90)).save(pets / f"test/cat/copy{number}.png")
    code, document, _ = check("--data", pets)
    assert code == 3
    assert {frozenset(("train/cat/03.png", f"test/cat/copy{number}.png")) for number in range(4)} <= pairs(document)


def water(grain: int, left: float = 0.0, side: int = 64) -> Image.Image:
    """A smooth tile with a bright corner, from `left` on in both directions, with a grain of its own."""
    place = left + (1 - left) * (np.arange(side) + 0.5) / side
    corner = np.exp(-((place[:, None] - 1) ** 2 + (place[None] - 1) ** 2) / 0.2)
    noise = np.random.default_rng(grain).normal(0, 1.5, (side, side))
    return Image.fromarray((50 + 14 * corner + noise).round().astype(np.uint8))


def test_smooth_tiles_are_copies_only_if_their_grain_agrees(pets, check) -> None:
    water(0).save(pets / "train/cat/lake.png")
    water(1, left=0.12).save(pets / "test/cat/other lake.png")
    code, document, _ = check("--data", pets)
    assert (code, document["copies"]) == (0, [])
    water(0).crop((8, 8, 64, 64)).save(pets / "test/cat/part.png")
    _, document, _ = check("--data", pets)
    assert pairs(document) == {frozenset(("train/cat/lake.png", "test/cat/part.png"))}


def test_images_of_a_fixed_camera_are_no_leaks(tmp_path, check) -> None:
    background, number = scene(5, 128), 0
    for part in ("train", "val", "test"):
        for name, color in (("blue", (0, 0, 220)), ("red", (220, 0, 0))):
            (tmp_path / "belt" / part / name).mkdir(parents=True)
            for index in range(8):
                number += 1
                image, left, top = background.copy(), number * 29 % 110, number * 47 % 110
                image.paste(color, (left, top, left + 8, top + 8))
                image.save(tmp_path / "belt" / part / name / f"{index}.png")
    code, document, _ = check("--data", tmp_path / "belt")
    assert code == 0
    assert len(document["copies"]) > 10
    assert not any(pair["leak"] for pair in document["copies"])
    shutil.copy(tmp_path / "belt/train/red/0.png", tmp_path / "belt/test/red/same.png")
    code, document, _ = check("--data", tmp_path / "belt")
    assert (code, document["leaks"]) == (3, 1)


def test_flaws_are_found(pets, check) -> None:
    folder = pets / "train/cat"
    Image.new("RGB", (96, 96), (90, 90, 90)).save(folder / "even.png")
    scene(900).point(lambda value: value // 12).save(folder / "night.png")
    scene(901).point(lambda value: 255 - value // 20).save(folder / "white.png")
    scene(902).filter(ImageFilter.GaussianBlur(4)).save(folder / "soft.png")
    scene(903).resize((14, 14)).save(folder / "stamp.png")
    scene(904, 400).crop((0, 0, 400, 60)).save(folder / "strip.png")
    code, document, _ = check("--data", pets)
    assert code == 0
    assert {flaw["image"].rsplit("/", 1)[1]: flaw["kind"] for flaw in document["flaws"]} == {
        "even.png": "all equal", "night.png": "dark", "white.png": "overexposed", "soft.png": "blurred",
        "stamp.png": "tiny", "strip.png": "long",
    }  # fmt: skip


def test_without_a_teacher_the_table_names_what_is_left_out(cli, pets, tmp_path) -> None:
    result = cli("check", "--data", pets, "--out", tmp_path / "page.html", "--cache-dir", tmp_path / "cache")
    assert result.exit_code == 0, result.stderr
    assert "left out without a teacher: doubtful labels" in result.stdout
    assert "classes with few images 0" in " ".join(result.stdout.split())


def features_of(folder: Path, draw: np.random.Generator, wrong: set[str] = frozenset()) -> dict[str, np.ndarray]:
    """Features that separate the classes, by name; those of `wrong` are of the other class."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    sign = {name: (1 if "/cat/" in name else -1) * (-1 if name in wrong else 1) for name in names}
    rows = [np.array([3.0 * sign[name], *draw.normal(0, 1, 7)], np.float32) for name in names]
    return dict(zip(names, rows, strict=True))


def saved(features: dict[str, np.ndarray], path: Path) -> Path:
    np.savez(path, names=np.array(list(features)), features=np.stack(list(features.values())))
    return path


def test_wrong_labels_come_first_and_the_saved_list_mends_them(pets, check, tmp_path) -> None:
    wrong = {"train/cat/05.png", "test/dog/02.png"}
    file = saved(features_of(pets, np.random.default_rng(0), wrong), tmp_path / "features.npz")
    code, document, _ = check("--data", pets, "--teacher-features", file)
    assert code == 0
    assert document["teacher"] == "features.npz"
    assert {doubt["image"] for doubt in document["doubts"][:2]} == wrong
    assert {(doubt["label"], doubt["suggested"]) for doubt in document["doubts"][:2]} == {
        ("cat", "dog"),
        ("dog", "cat"),
    }
    chosen = tmp_path / "exclude.txt"
    chosen.write_text("train/cat/05.png\tdog\ntest/dog/02.png\n")
    _, mended, _ = check("--data", pets, "--teacher-features", file, "--exclude", f"@{chosen}")
    assert mended["images"]["test"] == 11
    assert not wrong & {doubt["image"] for doubt in mended["doubts"]}
    assert {one["name"]: one["images"] for one in mended["classes"]} == {"cat": 21, "dog": 22}


def test_outliers_and_unfamiliar_unlabeled_images_are_found(pets, check, tmp_path) -> None:
    new = tmp_path / "new"
    new.mkdir()
    for index in range(5):
        scene(500 + index).save(new / f"{index}.png")
    draw = np.random.default_rng(0)
    features = features_of(pets, draw)
    far = np.zeros(8, np.float32)
    features["train/dog/07.png"] = far + 40 * np.eye(8, dtype=np.float32)[5]
    features |= {f"unlabeled/{index}.png": np.array([3.0, *draw.normal(0, 1, 7)], np.float32) for index in range(1, 5)}
    features["unlabeled/0.png"] = far - 40 * np.eye(8, dtype=np.float32)[6]
    file = saved(features, tmp_path / "features.npz")
    _, document, _ = check("--data", pets, "--unlabeled", new, "--teacher-features", file)
    assert document["images"]["unlabeled"] == 5
    assert document["unfamiliar"][0]["image"] == "unlabeled/0.png"
    assert document["unfamiliar"][0]["label"] is None
    assert "train/dog/07.png" in {one["image"] for one in document["outliers"]}


def test_cached_features_are_used_without_a_teacher_flag(pets, check, tiny, teacher_file, tmp_path) -> None:
    teacher = ("--teacher", "timm/test_vit", "--teacher-weights", teacher_file, "--teacher-img-size", 64)
    _, computed, _ = check("--data", pets, *teacher, "--device", "cpu", "--workers", 0)
    assert computed["images_with_features"] == 44
    _, cached, messages = check("--data", pets)
    assert (cached["images_with_features"], cached["doubts"]) == (44, computed["doubts"])
    assert "cached for 44 of 44 images" in messages


def test_the_page_escapes_hostile_names(pets, check, tmp_path) -> None:
    name = '"><img src=x onerror=alert(1)>\n\u202egnp.png'
    shutil.copy(pets / "train/cat/01.png", pets / "train/cat" / name)
    check("--data", pets)
    page = (tmp_path / "out/check.html").read_text()
    assert "<img src=x" not in page
    assert "\u202e" not in page
    assert "https://" not in page.replace("https://www.w3.org", "")
    assert page.count("<script>") == 1


def test_damaged_options_are_one_line(cli, pets, tmp_path) -> None:
    result = cli("check", "--data", pets, "--teacher", "dinov9", "--out", tmp_path / "page.html")
    assert result.exit_code == 2
    assert "dinov" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    result = cli("check", "--data", tmp_path / "nowhere", "--out", tmp_path / "page.html")
    assert result.exit_code == 3
    assert not (tmp_path / "page.html").exists()


def test_the_demo_data_can_be_checked(check) -> None:
    code, document, _ = check()
    assert code == 0
    assert document["images"] == {"train": 1197, "val": 240, "test": 360}


def test_many_hashes_are_compared_in_seconds_and_bounded_memory() -> None:
    """5,000 thumbnails: the matrix of all pairs would take 100 MB in float32, for each window."""
    import time
    import tracemalloc
    from types import SimpleNamespace

    from tcs_edge.check.copies import find_copies

    draw = np.random.default_rng(0)
    small = draw.integers(0, 256, (5000, 8, 8), dtype=np.uint8)
    gray = np.kron(small, np.ones((4, 4), np.uint8))
    gray[4990:] = gray[:10]
    contents = draw.integers(0, 256, (5000, 32)).astype(np.uint8)
    images = SimpleNamespace(all=SimpleNamespace(content_table=lambda: contents), part=np.zeros(5000, np.int8))
    tracemalloc.start()
    started = time.process_time()
    found = find_copies(images, gray)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert {(pair.first, pair.second) for pair in found} == {(row, 4990 + row) for row in range(10)}
    assert time.process_time() - started < 60
    assert peak < 130e6
