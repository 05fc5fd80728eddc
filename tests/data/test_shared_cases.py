"""Generators of real people's folders in the shared folder, read as a user's images."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from tcs_edge.data import load_images
from tcs_edge.errors import DataError


@pytest.fixture
def case(shared, tmp_path):
    """case(NAME): folder that the generator of the shared folder writes."""

    def make(name: str):
        script = shared(f"cases/{name}/make.py")
        subprocess.run([sys.executable, script, tmp_path / "pets"], check=True, timeout=300)
        return tmp_path / "pets"

    return make


def total(images):
    return sum(map(len, (images.train, images.val, images.test)))


def test_thumbnails_of_network_storage_are_left_out(case, recorder):
    assert total(load_images(case("nas-thumbnails"))) == 30
    assert "@eaDir 3" in recorder.said[0]


@pytest.mark.slow
def test_compress_in_a_plain_script_needs_no_guard(shared, tmp_path):
    script = shared("cases/spawn-guard/run.py")
    fill = "import sys; sys.path.insert(0, sys.argv[1]); from common import fill\n"
    fill += "for seed, color in enumerate(('red', 'green')): fill(f'base/{color}', color, 30, seed)"
    subprocess.run([sys.executable, "-c", fill, script.parents[1]], cwd=tmp_path, check=True, timeout=100)
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=400)
    assert (done.returncode, done.stdout.split()[0]) == (0, "passed"), done.stderr
    assert (tmp_path / "runs" / "spawn" / "manifest.json").is_file()


def test_split_names_are_understood(case):
    images = load_images(case("split-names"))
    assert (images.classes, len(images.test)) == (("blue", "green", "red"), 12)


def test_an_open_split_is_refused(case):
    with pytest.raises(DataError, match="Rename eval/ to val/"):
        load_images(case("three-parts-renamed"))


def test_unread_formats_are_reported_and_jfif_is_read(case, recorder):
    from tcs_edge.data.formats import readable_formats

    folder = case("skipped-suffixes")
    if "HEIF" in readable_formats():
        pytest.skip("the extra 'heif' is installed, and these files are damaged")
    assert total(load_images(folder)) == 60
    assert "60 .heic (green: 30 of 40, red: 30 of 40)" in recorder.warned[0]


def test_12_bit_images_use_the_whole_range(case, recorder):
    pixels = np.asarray(load_images(case("twelve-bit")).train.image(0))
    assert pixels.max() > 150
    assert len(np.unique(pixels)) > 100
    assert not [line for line in recorder.warned if "copies" not in line], "the pictures differ in noise alone"


def test_transparent_16_bit_gray_is_white(case):
    pixels = np.asarray(load_images(case("grey16-transparent")).train.image(0))
    assert (pixels[:, 0] == 255).all()


def test_a_class_name_that_is_not_text_is_refused(case):
    with pytest.raises(DataError, match=r"'caf\\udce9' .* has bytes that are not UTF-8"):
        load_images(case("class-name-bytes"))


def test_unicode_forms_are_one_class(case):
    images = load_images(case("nfc-nfd"))
    assert (images.classes, len(images.test)) == (("café", "tea"), 8)


def test_runs_inside_the_images_are_left_out(case):
    images = load_images(case("runs-inside"))
    assert (images.classes, total(images)) == (("blue", "green", "red"), 36)
