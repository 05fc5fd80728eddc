"""The store of checked images: a second command only looks at the state of the files."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tcs_edge.data import check, load_images
from tcs_edge.data.compact import Chain, Texts, text_order
from tcs_edge.data.intake import FILE, RACY_NS, Entry, Facts, Stamp, intake_bytes, open_intake, remove_intake
from tcs_edge.data.unlabeled import with_unlabeled

LATER_NS = 10 * RACY_NS


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def pets(tmp_path, fill):
    for seed, name in enumerate(("cat", "dog")):
        fill(tmp_path / "pets" / name, 10, seed)
    return tmp_path / "pets"


@pytest.fixture
def work(monkeypatch):
    """Counts of decoded and hashed files; the clock is late enough for the files to be at rest."""
    counts = {"decoded": 0, "hashed": 0}

    def counted(kind, real):
        def count(path):
            counts[kind] += 1
            return real(path)

        return count

    monkeypatch.setattr(check, "inspect", counted("decoded", check.inspect))
    monkeypatch.setattr(check, "content_hash", counted("hashed", check.content_hash))
    monkeypatch.setattr(check, "now_ns", lambda: time.time_ns() + LATER_NS)

    def done():
        found = counts["decoded"], counts["hashed"]
        counts.update(decoded=0, hashed=0)
        return found

    return done


def load(pets, cache):
    return load_images(pets, cache_dir=cache)


def rewrite_within_a_tick(path, seed):
    """Replace an image by another of the same size, and restore the time of its change."""
    before = path.stat()
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    Image.fromarray(pixels).save(path, "BMP")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def test_a_second_start_opens_no_image(pets, cache, work, recorder):
    first = load(pets, cache)
    assert work() == (20, 20)
    second = load(pets, cache)
    assert work() == (0, 0)
    assert recorder.tracked == [("Checking images", 20)]
    assert second.fingerprint == first.fingerprint
    for one, two in ((first.train, second.train), (first.val, second.val), (first.test, second.test)):
        assert (one.names, one.sources) == (two.names, two.sources)
        assert np.array_equal(one.labels, two.labels)
        assert np.array_equal(one.contents, two.contents)
        assert np.array_equal(one.sizes, two.sizes)


def test_new_changed_and_moved_images_are_checked_again(pets, cache, work, picture):
    load(pets, cache)
    work()
    picture(77).save(pets / "cat/new.png")
    assert len(load(pets, cache).train) == 17
    assert work() == (1, 1)
    picture(78).save(pets / "cat/new.png")
    load(pets, cache)
    assert work() == (1, 1)
    (pets / "dog/000.png").rename(pets / "dog/moved.png")
    load(pets, cache)
    assert work()[0] == 1


def test_other_commands_and_unlabeled_folders_share_the_checks(pets, cache, work):
    images = load(pets, cache)
    work()
    shutil.copytree(pets / "cat", pets.parent / "more")
    (pets.parent / "more/000.png").write_bytes((pets / "dog/000.png").read_bytes() + b"x")
    for _ in range(2):
        with_unlabeled(images, pets.parent / "more", cache_dir=cache)
    assert work() == (10, 10)
    load_images(pets, seed=5, cache_dir=cache)
    load_images(pets, exclude=["000.*"], cache_dir=cache)
    assert work() == (0, 0)


def test_a_file_rewritten_within_a_tick_of_the_clock_is_not_believed(pets, cache, work, monkeypatch):
    """With the same size and time of change: as a program that writes a photo while a command starts."""
    path = pets / "cat/photo.bmp"
    Image.new("RGB", (6, 6)).save(path)
    os.utime(path, ns=(0, time.time_ns()))
    monkeypatch.setattr(check, "now_ns", time.time_ns)
    monkeypatch.setattr(check.Stamp, "of", classmethod(lambda cls, name: cls(*_without_ctime(name))))
    first = load(pets, cache)
    rewrite_within_a_tick(path, 1)
    second = load(pets, cache)
    assert second.fingerprint != first.fingerprint
    monkeypatch.setattr(check, "now_ns", lambda: time.time_ns() + LATER_NS)
    work()
    assert load(pets, cache).fingerprint == second.fingerprint
    assert work() == (0, 21)  # files that were too young are hashed, not decoded
    assert load(pets, cache).fingerprint == second.fingerprint
    assert work() == (0, 0)


def _without_ctime(name):
    """State of a file on a system whose file system keeps no time of other changes."""
    found = Path(name).stat()
    return found.st_size, found.st_mtime_ns, 0


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps no time of the last change of a file's state")
def test_a_file_rewritten_with_its_old_time_is_not_believed(pets, cache, work):
    """As by `cp -p`, or by a restored backup."""
    path = pets / "cat/photo.bmp"
    Image.new("RGB", (6, 6)).save(path)
    first = load(pets, cache)
    rewrite_within_a_tick(path, 1)
    assert load(pets, cache).fingerprint != first.fingerprint


def test_an_image_that_changes_while_it_is_read_is_not_stored(pets, cache, work, monkeypatch):
    real = check.inspect

    def slow(path):
        found = real(path)
        if path.name == "003.png":
            path.write_bytes(path.read_bytes() + b"more")
        return found

    monkeypatch.setattr(check, "inspect", slow)
    load(pets, cache)
    monkeypatch.setattr(check, "inspect", real)
    assert intake_bytes(cache)[1] == 18


def test_unreadable_images_are_looked_at_every_time(pets, cache, work, fill):
    fill(pets / "cat", 150, seed=9)
    (pets / "cat/000.png").write_bytes(b"text")
    assert load(pets, cache).skipped == load(pets, cache).skipped != ()
    (pets / "cat/000.png").unlink()
    assert load(pets, cache).skipped == ()


def test_warnings_about_16_bit_images_come_back(tmp_path, cache, work, recorder):
    for row in range(12):
        values = np.linspace(0, 900 + row, 64).astype(np.uint16).reshape(8, 8)
        (tmp_path / "deep" / "ab"[row % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(tmp_path / "deep" / "ab"[row % 2] / f"{row}.png")
    for _ in range(2):
        load(tmp_path / "deep", cache)
    assert work()[0] == 12
    assert len(recorder.warned) == 2
    assert recorder.warned[0] == recorder.warned[1]


@pytest.mark.parametrize("content", [b"", b"no database" * 500])
def test_a_damaged_store_is_replaced(pets, cache, work, recorder, content):
    load(pets, cache)
    (cache / FILE).write_bytes(content)
    work()
    load(pets, cache)
    assert work()[0] == 20
    assert [line for line in recorder.warned if "is damaged" in line] == recorder.warned[: len(content) and 1]
    load(pets, cache)
    assert work() == (0, 0)


def test_a_store_damaged_in_its_middle_is_replaced(pets, cache, work, recorder, fill):
    fill(pets / "cat", 200, seed=9)
    before = load(pets, cache)
    data = bytearray((cache / FILE).read_bytes())
    data[8192:] = b"\xff" * (len(data) - 8192)
    (cache / FILE).write_bytes(bytes(data))
    assert load(pets, cache).fingerprint == before.fingerprint
    assert load(pets, cache).fingerprint == before.fingerprint
    work()
    load(pets, cache)
    assert work() == (0, 0)


def test_a_store_of_another_version_is_replaced(pets, cache, work):
    load(pets, cache)
    with sqlite3.connect(cache / FILE) as connection:
        connection.execute("PRAGMA user_version = 99")
    work()
    load(pets, cache)
    assert work()[0] == 20


def test_images_load_without_a_place_for_the_store(pets, tmp_path, work):
    (tmp_path / "file").write_text("a file, not a folder")
    assert len(load(pets, tmp_path / "file").train) == 16
    assert len(load(pets, tmp_path / "file" / "below").train) == 16


def test_the_store_can_be_removed(pets, cache, work):
    load(pets, cache)
    assert intake_bytes(cache)[1] == 20
    remove_intake(cache)
    assert intake_bytes(cache) == (0, 0)
    remove_intake(cache)
    work()
    load(pets, cache)
    assert work()[0] == 20


def test_two_processes_at_once_lose_no_entry(pets, cache, fill):
    """Each writes the images of a folder of its own into the same store."""
    fill(pets.parent / "zoo/ape", 100, seed=5)
    fill(pets.parent / "zoo/bee", 100, seed=6)
    code = "import sys, pathlib; from tcs_edge.data import load_images; load_images(*map(pathlib.Path, sys.argv[1:2]))"
    environment = os.environ | {"TCS_EDGE_CACHE": str(cache)}
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(folder)], env=environment)
        for folder in (pets, pets.parent / "zoo")
    ]
    assert [process.wait(120) for process in started] == [0, 0]
    assert intake_bytes(cache)[1] == 220


def test_writers_in_threads_lose_no_entry(cache):
    entry = Entry(Stamp(1, 2, 3), 4, Facts(b"x" * 32, 5, 6, None, False, bytes(48)))

    def write(worker):
        for row in range(20):
            with open_intake(cache) as intake:
                intake.add([(f"/photos/{worker}", f"{row:02d}", entry)])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    with open_intake(cache) as intake:
        names = [f"{row:02d}" for row in range(20)]
        assert all(intake.entries(f"/photos/{worker}", names) == dict.fromkeys(names, entry) for worker in range(4))


def test_names_that_are_not_text_are_kept(tmp_path, cache, work, fill):
    for seed, name in enumerate(("a", "b")):
        fill(tmp_path / "odd" / name, 5, seed)
    try:
        (tmp_path / "odd/a/000.png").rename(tmp_path / "odd/a/\udcff.png")
    except OSError:
        pytest.skip("this file system has text names only")
    first = load(tmp_path / "odd", cache)
    work()
    assert load(tmp_path / "odd", cache).fingerprint == first.fingerprint
    assert work() == (0, 0)


def test_compact_texts_are_a_sequence():
    words = ("b", "", "ä\udcff", "a" * 300, "b")
    texts = Texts.of(words)
    assert (tuple(texts), len(texts), texts[-1], texts[1:3]) == (words, 5, "b", words[1:3])
    assert (texts == words, texts == words[:4], texts.take(np.array([3, 0])) == (words[3], "b")) == (True, False, True)
    with pytest.raises(IndexError):
        texts[5]
    assert [words[row] for row in text_order(texts)] == sorted(words)
    chain = Chain([texts, ("last",)])
    assert chain == (*words, "last")
    assert chain.take(np.array([5, 0])).take(np.array([0])) == ("last",)
    assert Texts.joined([texts, Texts.of([]), Texts.of(["end"])]) == (*words, "end")
