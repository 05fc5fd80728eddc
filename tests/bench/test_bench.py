"""Comparisons: which cells there are, what a table says of them, and that cells are kept."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from tcs_edge.bench.cell import few_shot
from tcs_edge.bench.cells import CONTROLS, METHODS, Cell, Found, arms_of, make_cells
from tcs_edge.bench.run import run_bench
from tcs_edge.bench.table import make_rows, to_markdown, write_table
from tcs_edge.data.images import ImageSet, Split
from tcs_edge.errors import DataError, TcsEdgeError, UnknownName, UsageError
from tcs_edge.specs.config import CompressConfig

BASE = CompressConfig(target="x86-avx2", epochs=1, tcs={"dims": 7})


def found(correct, **given):
    costs = {"peak_memory_mb": 300.0, "peak_gpu_mb": 0.0, "params_m": 0.5, "macs_m": 9.0, "weights_mb": 2.0}
    return Found(**{"correct": correct, "train_images": 20, "train_seconds": 2.0} | costs | given)


def test_every_arm_runs_at_every_seed_seed_by_seed():
    cells = make_cells(BASE, arms_of(["tcs", "ce"], ["random-axes"]), range(2))
    assert [(cell.arm, cell.options.seed) for cell in cells] == [
        ("tcs", 0), ("ce", 0), ("tcs/random-axes", 0), ("tcs", 1), ("ce", 1), ("tcs/random-axes", 1),
    ]  # fmt: skip
    assert len({cell.name for cell in cells}) == len(cells)
    assert not any("/" in cell.name for cell in cells)


def test_arms_differ_from_the_base_in_what_they_say_and_nothing_else():
    for cell in make_cells(BASE, arms_of(list(METHODS), list(CONTROLS)), [3]):
        control = CONTROLS.get(cell.arm.removeprefix("tcs/"), {})
        tcs = BASE.tcs.model_copy(update=control)
        expected = BASE.model_copy(update={"seed": 3, "tcs": tcs} | METHODS[cell.arm.split("/")[0]])
        assert cell.options == expected, cell.arm


def test_unknown_arms_are_refused():
    with pytest.raises(UnknownName, match=r"unknown method 'simdk'\. Did you mean simkd"):
        arms_of(["simdk"], [])
    with pytest.raises(UnknownName, match="unknown control"):
        arms_of([], ["random"])


def test_cells_share_a_teacher_pass_only_where_they_read_the_same_numbers():
    cells = {cell.arm: cell for cell in make_cells(BASE, arms_of(list(METHODS), []), [0])}
    assert cells["tcs"].teacher == cells["kd"].teacher == cells["kd-loop"].teacher == cells["dkd"].teacher
    assert len({cells[name].teacher for name in ("tcs", "simkd", "simkd-loop", "ce")}) == 4
    assert cells["ce"].teacher is None


def test_the_table_is_the_statistics_of_its_cells():
    cells = make_cells(BASE, arms_of(["tcs", "ce"], []), [0, 1])
    marks = {("tcs", 0): "1110", ("tcs", 1): "1111", ("ce", 0): "1000", ("ce", 1): "0111"}
    rows = make_rows({cell: found(marks[cell.arm, cell.options.seed], train_seconds=cell.options.seed + 1.0)
                      for cell in cells})  # fmt: skip
    tcs, ce = rows
    assert (tcs.arm, tcs.accuracy, tcs.paired) == ("tcs", 0.875, None)
    assert tcs.deviation == pytest.approx(np.std([0.75, 1.0], ddof=1))
    assert ce.seconds == 1.5
    assert (ce.paired.only_first, ce.paired.only_second) == (3, 0)
    assert ce.paired.p_value == pytest.approx(stats.binomtest(3, 3, 0.5).pvalue)
    markdown = to_markdown(rows)
    assert "| tcs | 87.50 ± 17.68 | 2 |" in markdown
    assert "3 / 0, p = 0.25" in markdown


def test_a_single_seed_has_no_deviation(tmp_path):
    cells = make_cells(BASE, arms_of(["ce"], []), [0])
    markdown = write_table(make_rows({cells[0]: found("10")}), tmp_path)
    assert "50.00 |" in markdown
    assert json.loads((tmp_path / "table.json").read_text())["rows"][0]["deviation"] is None
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == markdown


def image_set():
    labels = np.array([0, 1, 0, 1, 0, 1, 0])
    split = Split(np.arange(7 * 4, dtype=np.uint8).reshape(7, 2, 2), labels, tuple(f"{i}" for i in range(7)))
    return ImageSet("some", ("a", "b"), split, split, split, "f" * 64)


def test_few_shots_are_as_many_of_every_class_fixed_by_the_seed():
    images = image_set()
    small = few_shot(images, 2, seed=0)
    assert np.bincount(small.train.labels).tolist() == [2, 2]
    assert small.train.names == few_shot(images, 2, seed=0).train.names
    assert len({few_shot(images, 2, seed).train.names for seed in range(20)}) > 3
    for row, name in enumerate(small.train.names):
        assert small.train.labels[row] == images.train.labels[int(name)]
        assert small.train.image(row).tobytes() == images.train.image(int(name)).tobytes()
    assert small.test is images.test
    with pytest.raises(DataError, match="class b has 3 training images, --shots asks for 4"):
        few_shot(images, 4, seed=0)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for part, count in (("train", 6), ("val", 3), ("test", 4)):
        for label, channel in (("red", 0), ("blue", 2)):
            (tmp_path / "data" / part / label).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 160, (32, 32, 3), np.uint8)
                pixels[..., channel] += 90
                Image.fromarray(pixels).save(tmp_path / "data" / part / label / f"{number}.png")
    return tmp_path / "data"


@pytest.fixture
def base(folder):
    return CompressConfig(
        target="x86-avx2", data=folder, student="lcnet_050", student_init="random", img_size=32, epochs=1,
        batch_size=4, threads=1, workers=0, device="cpu",
    )  # fmt: skip


@pytest.mark.slow
def test_cells_run_once_are_kept_and_are_refused_for_another_question(base, tmp_path, monkeypatch):
    out = tmp_path / "bench"
    (cell,) = make_cells(base, arms_of(["ce"], []), [0], shots=2)
    first = run_bench([cell], out)[cell]
    assert (len(first.correct), first.train_images) == (8, 4)
    assert first.peak_memory_mb > 100
    assert sorted(path.name for path in out.iterdir()) == ["ce-seed0.json", "ce-seed0.metrics.jsonl"]

    monkeypatch.setattr("subprocess.run", None)
    assert run_bench([cell], out)[cell] == first
    (other,) = make_cells(base.model_copy(update={"epochs": 2}), arms_of(["ce"], []), [0], shots=2)
    (untouched,) = make_cells(base, arms_of(["kd"], []), [0], shots=2)
    with pytest.raises(UsageError, match="made with other options"):
        run_bench([untouched, other], out)


@pytest.mark.slow
def test_a_cell_that_fails_says_why_and_with_which_code(base, tmp_path):
    gone = base.model_copy(update={"data": Path(tmp_path / "gone")})
    (cell,) = make_cells(gone, arms_of(["ce"], []), [0])
    with pytest.raises(TcsEdgeError, match=r"ce, seed 0: .*gone") as caught:
        run_bench([cell], tmp_path / "bench")
    assert caught.value.exit_code == 3
    assert not list((tmp_path / "bench").iterdir())


def test_a_cells_question_does_not_depend_on_the_machine():
    plain, busy = (Cell("ce", BASE.model_copy(update={"threads": count})) for count in (1, 8))
    assert plain.question() == busy.question()
