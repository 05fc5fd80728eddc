from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tcs_edge.data import Preprocess, Split
from tcs_edge.data.augment import Augment
from tcs_edge.data.cache import keep_decoded
from tcs_edge.data.images import UNLABELED
from tcs_edge.data.loader import earlier_draws, epoch_order, evaluation_loader, training_loader
from tcs_edge.errors import DataError, UsageError
from tcs_edge.utils.launcher import Ranks

PREP = Preprocess(8)
CROP = Augment("crop-flip", PREP)


def make(count: int) -> Split:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 10, 11, 3), dtype=np.uint8)
    labels = np.arange(count, dtype=np.int64) % 3
    return Split(pixels, labels, tuple(map(str, range(count))))


def epoch_of(images, seed=0, epoch=0, workers=0, batch_size=4):
    return list(training_loader(images, CROP, batch_size, seed, epoch, workers))


def equal(first, second):
    return len(first) == len(second) and all(
        torch.equal(a, b) for left, right in zip(first, second, strict=True) for a, b in zip(left, right, strict=True)
    )


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 30), batch_size=st.integers(1, 12), seed=st.integers(0, 2**31))
def test_an_epoch_has_every_image_once_but_no_batch_of_one(count, batch_size, seed):
    images = make(count)
    batches = epoch_of(images, seed, batch_size=batch_size)
    seen = torch.cat([index for _, _, index in batches]).tolist()
    dropped = 1 if count > batch_size > 1 and count % batch_size == 1 else 0
    assert len(seen) == len(set(seen)) == count - dropped
    for pixels, labels, index in batches:
        assert pixels.shape == (len(index), 3, 8, 8)
        assert (pixels.dtype, labels.dtype, index.dtype) == (torch.float32, torch.int64, torch.int64)
        assert labels.tolist() == images.labels[index.numpy()].tolist()
        assert len(index) > 1 or batch_size == 1 or count == 1


def test_batches_depend_on_seed_and_epoch_alone():
    images = make(11)
    first = epoch_of(images, seed=1, epoch=2)
    torch.manual_seed(99)
    np.random.default_rng(5).random()
    assert equal(first, epoch_of(images, seed=1, epoch=2))
    for other in ({"seed": 1, "epoch": 3}, {"seed": 2, "epoch": 2}):
        again = epoch_of(images, **other)
        assert not torch.equal(first[0][2], again[0][2])
        view = {int(i): v for pixels, _, index in again for v, i in zip(pixels, index, strict=True)}
        assert not torch.equal(first[0][0][0], view[int(first[0][2][0])])


def test_iterating_does_not_advance_the_global_generator():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    epoch_of(make(9))
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_the_batches(workers):
    images = make(11)
    assert equal(epoch_of(images), epoch_of(images, workers=workers))


def test_cached_images_give_the_same_batches_as_files(tmp_path, fill):
    fill(tmp_path, 6)
    paths = tuple(sorted(tmp_path.glob("*.png")))
    split = Split(paths, np.zeros(6, np.int64), tuple(path.name for path in paths))
    augment = Augment("crop", Preprocess(16))
    kept = keep_decoded(split, augment.preprocess)
    from_files, from_memory = (list(training_loader(s, augment, 4, 0, 0)) for s in (split, kept))
    assert kept is not split
    assert equal(from_files, from_memory)


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_is_in_order_and_complete(workers):
    images = make(9)
    batches = list(evaluation_loader(images, PREP, 4, workers))
    assert [len(labels) for _, labels, _ in batches] == [4, 4, 1]
    assert torch.cat([index for _, _, index in batches]).tolist() == list(range(9))
    expected = np.stack([PREP(images.image(index)) for index in range(9)])
    assert np.array_equal(torch.cat([pixels for pixels, _, _ in batches]).numpy(), expected)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_deleted_file_is_a_data_error(tmp_path, workers):
    split = Split((tmp_path / "gone.png", tmp_path / "too.png"), np.zeros(2, np.int64), ("gone.png", "too.png"))
    with pytest.raises(DataError, match=r"^cannot read image [^\n]*gone\.png[^\n]*$"):
        list(evaluation_loader(split, PREP, 2, workers))


INTERRUPTED = """
import signal
import time
import numpy as np
from tcs_edge.data import Preprocess, Split
from tcs_edge.data.loader import evaluation_loader

if __name__ == "__main__":
    # A background job of a shell script ignores Ctrl-C at the start, and these tests may run in one.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    split = Split(np.zeros((4000, 8, 8), np.uint8), np.zeros(4000, np.int64), tuple(map(str, range(4000))))
    try:
        for _ in evaluation_loader(split, Preprocess(8), 2, workers=2):
            print("running", flush=True)
            time.sleep(0.05)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs process groups, as a terminal uses them")
def test_ctrl_c_ends_workers_without_tracebacks(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(INTERRUPTED)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment,
    ) as process:
        assert process.stdout.readline() == "running\n"
        time.sleep(0.2)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert out.endswith("interrupted\n")
    assert "Traceback" not in err
    assert process.returncode == 0


def test_without_unlabeled_images_an_epoch_is_a_permutation():
    labels = np.arange(10) % 3
    plain = np.random.default_rng(4).permutation(10).tolist()
    assert epoch_order(labels, 0.5, np.random.default_rng(4)).tolist() == plain
    few_without = np.where(np.arange(10) < 3, UNLABELED, 1)
    assert epoch_order(few_without, 0.5, np.random.default_rng(4)).tolist() == plain


@pytest.mark.parametrize(("labeled", "share"), [(6, 0.5), (30, 0.4), (1, 0.25)])
def test_every_batch_has_the_labeled_fraction(labeled, share):
    labels = np.where(np.arange(256) < labeled, 0, UNLABELED)
    order = np.array(epoch_order(labels, share, np.random.default_rng(0)))
    assert len(order) == 256
    has_label = labels[order] != UNLABELED
    assert abs(has_label.reshape(-1, 64).sum(axis=1) - 64 * share).max() <= 2
    drawn = np.bincount(order, minlength=256)
    assert drawn[:labeled].max() - drawn[:labeled].min() <= 1
    assert drawn[labeled:].max() == 1


@given(labeled=st.integers(1, 60), others=st.integers(0, 300), seed=st.integers(0, 99))
def test_images_without_labels_never_cost_draws_of_labeled_ones(labeled, others, seed):
    labels = np.where(np.arange(labeled + others) < labeled, 0, UNLABELED)
    fraction = (1 + labeled / len(labels)) / 2  # the default
    drawn = np.bincount(epoch_order(labels, fraction, np.random.default_rng(seed)), minlength=len(labels))
    assert drawn[:labeled].min() >= 1


def test_repeated_draws_of_an_image_give_different_views():
    images = make(48)
    few = Split(images.sources, np.where(np.arange(48) < 2, images.labels, UNLABELED), images.names)
    batches = list(training_loader(few, CROP, 8, seed=3, epoch=1, labeled_fraction=0.5))
    views, index = torch.cat([batch[0] for batch in batches]), torch.cat([batch[2] for batch in batches])
    plain = {int(one): view for batch in epoch_of(images, 3, 1) for view, one in zip(batch[0], batch[2], strict=True)}
    for image in (0, 1):
        seen = views[index == image]
        assert len(seen) == 12
        assert len({view.numpy().tobytes() for view in seen}) > 8  # views of such a small image can coincide
        assert torch.equal(seen[0], plain[image])  # the first view equals the view in an epoch without repetitions


def test_the_order_differs_between_epochs():
    labels = np.where(np.arange(100) < 10, 0, UNLABELED)
    first, second = (epoch_order(labels, 0.5, np.random.default_rng([0, epoch, 0])) for epoch in (0, 1))
    assert first.tolist() != second.tolist()


@given(st.lists(st.integers(0, 6)))
def test_every_draw_counts_the_earlier_draws_of_its_image(order):
    counted = earlier_draws(np.array(order, np.int64)).tolist()
    assert counted == [order[:place].count(index) for place, index in enumerate(order)]


@pytest.mark.parametrize(("count", "size", "steps"), [(40, 3, 3), (29, 3, 2), (36, 2, 3)])
def test_processes_get_equal_parts_of_the_batches_of_one(count, size, steps):
    images = make(count)
    whole = epoch_of(images, 3, 1, batch_size=12)
    parts = [list(training_loader(images, CROP, 12, 3, 1, place=Ranks(rank, size, size))) for rank in range(size)]
    assert {len(batches) for batches in parts} == {steps if count % 12 >= 2 * size else count // 12}
    for batch, *shares in zip(whole[: len(parts[0])], *parts, strict=True):
        assert len({len(share[2]) for share in shares}) == 1
        view_of = {int(index): view for view, index in zip(batch[0], batch[2], strict=True)}
        seen = [(int(index), view) for share in shares for view, index in zip(share[0], share[2], strict=True)]
        assert len({index for index, _ in seen}) == len(seen) == len(batch[2]) // size * size
        assert all(torch.equal(view, view_of[index]) for index, view in seen)


def test_processes_evaluate_every_image_once():
    parts = [evaluation_loader(make(11), PREP, 4, place=Ranks(rank, 3, 3)) for rank in range(3)]
    assert sorted(int(index) for loader in parts for batch in loader for index in batch[2]) == list(range(11))


@pytest.mark.parametrize(("count", "batch_size"), [(40, 13), (40, 3), (5, 12)])
def test_a_batch_that_processes_cannot_share_is_refused(count, batch_size):
    with pytest.raises(UsageError, match="3 processes cannot share batches of"):
        training_loader(make(count), CROP, batch_size, 0, 0, place=Ranks(0, 3, 3))
