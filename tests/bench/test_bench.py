"""Tests of comparisons: their runs, tables, kept results and messages."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from tcs_edge.bench.grid import (
    ABLATIONS,
    ARMS,
    SCHEMA_VERSION,
    BenchRun,
    RunResult,
    SharedOptions,
    arms_of,
    make_runs,
)
from tcs_edge.bench.rows import make_rows
from tcs_edge.bench.run import run_bench
from tcs_edge.bench.table import to_markdown, write_table
from tcs_edge.errors import SpecError, TcsEdgeError, UnknownName, UsageError
from tcs_edge.specs.config import CompressConfig, ResolvedConfig
from tcs_edge.specs.defaults import ChosenStudent, Machine, resolve, with_data_defaults
from tcs_edge.specs.methods import DkdOptions

BASE = resolve(
    with_data_defaults(CompressConfig(target="x86-avx2", epochs=1, tcs={"dims": 7}), 32),
    ChosenStudent("lcnet_050", "cnn", 32),
    "table",
    ("fp32",),
    Machine(1, 0, "no"),
)
PRETRAINED = ResolvedConfig.model_validate(BASE.model_dump() | {"student_init": "weights.safetensors"})


def found(correct, **given):
    costs = {"peak_memory_mb": 300.0, "peak_gpu_mb": 0.0, "params_m": 0.5, "macs_m": 9.0, "onnx_mb": 2.0}
    measured = {"train_images": 20, "val_accuracy": 0.5, "train_seconds": 2.0, "latency_ms": 1.5, "threads": 1}
    return RunResult(**{"correct": correct} | measured | costs | given)


def test_every_arm_runs_with_every_seed_in_order_of_seeds():
    runs = make_runs([SharedOptions(BASE)], arms_of(["tcs", "ce"], ["random-axes"]), range(2))
    assert [(run.arm, run.options.seed) for run in runs] == [
        ("tcs", 0), ("ce", 0), ("tcs/random-axes", 0), ("tcs", 1), ("ce", 1), ("tcs/random-axes", 1),
    ]  # fmt: skip
    assert len({run.name for run in runs}) == len(runs)
    assert not any("/" in run.name for run in runs)


def test_arms_change_only_their_own_options():
    base = PRETRAINED.model_dump(exclude_unset=True)
    for run in make_runs([SharedOptions(PRETRAINED)], arms_of(list(ARMS), list(ABLATIONS)), [3]):
        changes = {"seed": 3, "tcs": ABLATIONS.get(run.arm.removeprefix("tcs/"), {})} | ARMS[run.arm.split("/")[0]]
        tables = {name: base.get(name, {}) | table for name, table in changes.items() if isinstance(table, dict)}
        expected = ResolvedConfig.model_validate(base | changes | tables)
        assert run.options == expected, run.arm


def test_paper_arm_has_the_papers_losses_whatever_the_shared_defaults():
    paper, tcs = make_runs([SharedOptions(BASE)], arms_of(["tcs-paper", "tcs"], []), [0])
    assert (paper.options.tcs.mimic, paper.options.tcs.soft_labels) == ("lsh", False)
    assert (tcs.options.tcs.mimic, tcs.options.tcs.soft_labels) == ("cosine", True)
    assert paper.options.tcs.dims == tcs.options.tcs.dims == 7
    assert paper.config_key()["options"]["tcs"]["mimic"] == "lsh"


def test_pooled_soft_labels_depend_on_the_options_of_tcs():
    keys = [
        make_runs([SharedOptions(base)], arms_of([arm], []), [0])[0].config_key()
        for arm in ("kd-pooled", "kd")
        for base in (BASE, BASE.replaced(tcs=BASE.tcs.replaced(dims=9)))
    ]
    assert keys[0] != keys[1]
    assert keys[2] == keys[3]


@pytest.mark.parametrize("arm", ["probe", "lp-ft", "kd-own"])
def test_arms_with_the_students_own_probe_need_pretrained_weights(arm):
    (run,) = make_runs([SharedOptions(PRETRAINED)], arms_of([arm], []), [0])
    assert run.teacher is None
    with pytest.raises(SpecError, match="needs pretrained weights"):
        make_runs([SharedOptions(BASE)], arms_of([arm], []), [0])


def test_shared_option_that_an_arm_does_not_support_raises():
    smoothed = ResolvedConfig.model_validate(BASE.model_dump() | {"train": {"label_smoothing": 0.1}})
    assert len(make_runs([SharedOptions(smoothed)], arms_of(["tcs", "kd", "dkd", "ce"], []), [0])) == 4
    with pytest.raises(SpecError, match="method simkd uses no labels"):
        make_runs([SharedOptions(smoothed)], arms_of(["tcs", "simkd"], []), [0])


def test_unknown_arms_raise():
    with pytest.raises(UnknownName, match=r"unknown method 'simdk'\. Did you mean simkd"):
        arms_of(["simdk"], [])
    with pytest.raises(UnknownName, match="unknown ablation"):
        arms_of([], ["random"])


def test_runs_share_a_teacher_pass_only_with_the_same_features():
    runs = {run.arm: run for run in make_runs([SharedOptions(PRETRAINED)], arms_of(list(ARMS), []), [0])}
    shared = ("tcs", "kd", "kd-loop", "kd-pooled", "dkd", "dkd-pooled")
    assert len({runs[name].teacher for name in shared}) == 1
    assert len({runs[name].teacher for name in ("tcs", "simkd", "simkd-loop", "ce")}) == 4
    assert runs["ce"].teacher is None


def test_table_has_statistics_of_its_runs():
    runs = make_runs([SharedOptions(BASE)], arms_of(["tcs", "ce"], []), [0, 1])
    marks = {("tcs", 0): "1110", ("tcs", 1): "1111", ("ce", 0): "1000", ("ce", 1): "0111"}
    rows = make_rows({run: found(marks[run.arm, run.options.seed], train_seconds=run.options.seed + 1.0)
                      for run in runs})  # fmt: skip
    tcs, ce = rows
    assert (tcs.arm, tcs.accuracy, tcs.paired) == ("tcs", 0.875, None)
    assert tcs.deviation == pytest.approx(np.std([0.75, 1.0], ddof=1))
    assert ce.seconds == 1.5
    assert (ce.paired.only_first, ce.paired.only_second) == (3, 0)
    assert ce.paired.p_value == pytest.approx(stats.binomtest(3, 3, 0.5).pvalue)
    markdown = to_markdown(rows)
    assert "| tcs | 87.50 ± 17.68 | 2 | 0 | 300 | 2.00 | 1.50 | - |" in markdown
    assert "lcnet_050, 1 epochs of 20 images" in markdown
    assert "3 / 0, p = 0.25" in markdown


def few_shot_rows(marks):
    shared = [SharedOptions(BASE.replaced(shots=shots, epochs=60 // shots)) for shots in (1, 5)]
    runs = make_runs(shared, arms_of(["tcs", "ce"], []), [0, 1])
    return make_rows({run: found(marks[run.arm, run.options.shots]) for run in runs})


def test_few_shot_table_has_methods_as_rows_and_shots_as_columns():
    right = "1" * 20
    rows = few_shot_rows({("tcs", 1): right, ("tcs", 5): right, ("ce", 1): "0" * 20, ("ce", 5): "1" * 19 + "0"})
    markdown = to_markdown(rows)
    assert "| accuracy % at shots | 1 | 5 |" in markdown
    assert "| tcs | 100.00 ± 0.00 | 100.00 ± 0.00 |" in markdown
    assert "| ce | 0.00 ± 0.00* | 95.00 ± 0.00 |" in markdown  # * marks p < 0.05; one image is not significant
    assert "epochs by shots: 60 at 1, 12 at 5" in markdown
    assert "Costs at 5 shots" in markdown


def test_every_student_has_its_own_table_and_paired_test():
    shared = [SharedOptions(BASE.replaced(student=name)) for name in ("lcnet_050", "test_vit")]
    runs = make_runs(shared, arms_of(["tcs", "ce"], []), [0])
    marks = {"lcnet_050": "1111", "test_vit": "0000"}
    rows = make_rows({run: found(marks[run.options.student]) for run in runs})
    assert [(row.student, row.arm, row.paired is None) for row in rows] == [
        ("lcnet_050", "tcs", True), ("lcnet_050", "ce", False), ("test_vit", "tcs", True), ("test_vit", "ce", False),
    ]  # fmt: skip
    assert all(row.paired.p_value == 1 for row in rows if row.paired)
    assert to_markdown(rows).count("| method | accuracy % |") == 2


def test_single_seed_has_no_deviation(tmp_path):
    runs = make_runs([SharedOptions(BASE)], arms_of(["ce"], []), [0])
    markdown = write_table(make_rows({runs[0]: found("10")}), tmp_path)
    assert "50.00 |" in markdown
    assert json.loads((tmp_path / "table.json").read_text())["rows"][0]["deviation"] is None
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == markdown


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
def base(folder, resolved):
    return resolved(
        target="x86-avx2", data=folder, student_init="random", img_size=32, epochs=1, shots=2, batch_size=4,
        threads=1, workers=0, device="cpu",
    )  # fmt: skip


@pytest.mark.slow
def test_results_are_kept_and_rejected_for_other_options(base, tmp_path, monkeypatch):
    out = tmp_path / "bench"
    (run,) = make_runs([SharedOptions(base)], arms_of(["ce"], []), [0])
    first = run_bench([run], out)[run]
    assert (len(first.correct), first.train_images) == (8, 4)
    assert first.peak_memory_mb > 100
    assert 0 < first.latency_ms < 1000
    assert first.onnx_mb * 1e6 > 4e6 * first.params_m
    assert sorted(path.name for path in out.iterdir()) == [
        "ce-lcnet_050-2shots-seed0.json", "ce-lcnet_050-2shots-seed0.metrics.jsonl",
    ]  # fmt: skip

    monkeypatch.setattr("subprocess.run", None)
    assert run_bench([run], out)[run] == first
    (other,) = make_runs([SharedOptions(base.replaced(epochs=2))], arms_of(["ce"], []), [0])
    (untouched,) = make_runs([SharedOptions(base)], arms_of(["kd"], []), [0])
    with pytest.raises(UsageError, match="result of other options"):
        run_bench([untouched, other], out)


@pytest.mark.slow
def test_failed_run_raises_its_message_and_exit_code(base, tmp_path):
    gone = base.replaced(data=Path(tmp_path / "gone"))
    (run,) = make_runs([SharedOptions(gone)], arms_of(["ce"], []), [0])
    with pytest.raises(TcsEdgeError, match=r"ce, lcnet_050, 2 shots, seed 0: .*gone") as caught:
        run_bench([run], tmp_path / "bench")
    assert caught.value.exit_code == 3
    assert not list((tmp_path / "bench").iterdir())


def test_config_key_does_not_depend_on_machine():
    plain, busy = (BenchRun("ce", BASE.replaced(threads=count)) for count in (1, 8))
    assert plain.config_key() == busy.config_key()


def test_config_key_leaves_out_options_of_other_methods():
    changed = BASE.replaced(tcs=BASE.tcs.replaced(dims=9), dkd=DkdOptions(beta=3.0))
    before, after = (
        {
            run.arm: run.config_key()
            for run in make_runs([SharedOptions(base)], arms_of(["tcs", "kd", "dkd", "ce"], []), [0])
        }
        for base in (BASE, changed)
    )
    assert {arm for arm in before if before[arm] != after[arm]} == {"tcs", "dkd"}


def test_kept_teacher_pass_of_another_teacher_raises(base, tmp_path, monkeypatch):
    monkeypatch.setattr("subprocess.run", None)
    dino = base.replaced(teacher="dinov2")
    tcs, kd = make_runs([SharedOptions(dino)], arms_of(["tcs", "kd"], []), [0])
    kept = {"schema_version": SCHEMA_VERSION, **tcs.config_key(), "found": {"seconds": 3.0}}
    (tmp_path / f"{tcs.teacher}.json").write_text(json.dumps(kept))
    for run in (tcs, kd):
        result = {"schema_version": SCHEMA_VERSION, **run.config_key(), "found": found("1100").to_json()}
        (tmp_path / f"{run.name}.json").write_text(json.dumps(result))
    assert [one.teacher_seconds for one in run_bench([tcs, kd], tmp_path).values()] == [3.0, 3.0]

    (tmp_path / f"{kd.name}.json").unlink()
    (other,) = make_runs([SharedOptions(base.replaced(teacher="mae-base"))], arms_of(["kd"], []), [0])
    with pytest.raises(
        UsageError, match=r"teacher-features-lcnet_050-2shots-seed0\.json is the result of other options"
    ):
        run_bench([other], tmp_path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("images", "other images"),
        ("teacher", "other weights or features of the teacher"),
        ("student_init", "other first weights"),
        ("version", "another version"),
    ],
)
def test_kept_results_of_other_files_are_refused(base, tmp_path, changed, message):
    inputs = {"images": "a", "teacher": "b", "student_init": "c", "version": "d"}
    kept, new = (
        make_runs([SharedOptions(base, inputs=tuple(one.items()))], arms_of(["tcs", "ce"], []), [0])
        for one in (inputs, inputs | {changed: "new"})
    )
    for run in kept:
        result = {"schema_version": SCHEMA_VERSION, **run.config_key(), "found": found("1100").to_json()}
        (tmp_path / f"{run.name}.json").write_text(json.dumps(result))
    for before, after in zip(kept, new, strict=True):
        if before.arm == "ce" and changed == "teacher":
            assert run_bench([after], tmp_path)[after].accuracy == 0.5  # it has no teacher
            continue
        with pytest.raises(UsageError, match=f"is the result of {message}"):
            run_bench([after], tmp_path)


def test_file_names_are_distinct_for_student_names_with_a_dot():
    base = BASE.replaced(student="vit_tiny_patch16_224.augreg_in21k", shots=5)
    runs = make_runs(
        [SharedOptions(base), SharedOptions(base.replaced(shots=1))],
        arms_of(["tcs", "ce"], ["random-axes"]),
        [0, 1],
    )
    names = {run.name for run in runs} | {run.teacher for run in runs if run.teacher}
    assert len(names) == 12 + 4
    assert len({Path(f"{name}.config_key").with_suffix(".json") for name in names}) == len(names)


@pytest.mark.slow
def test_interrupted_few_shot_bench_continues(cli, photos, tmp_path):
    out = tmp_path / "bench"
    command = [
        "bench", "--data", photos, "--methods", "ce", "--shots", "1,2", "--seeds", 1, "--budget", "12-images",
        "--student", "lcnet_050", "--student-init", "random", "--img-size", 32, "--threads", 1, "--workers", 0,
        "--device", "cpu", "--out", out,
    ]  # fmt: skip
    done = cli(*command, "--json")
    assert done.exit_code == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [(row["shots"], row["epochs"], row["train_images"]) for row in rows] == [(1, 4, 3), (2, 2, 6)]
    assert {"table.json", "table.md", "accuracy.svg"} <= {path.name for path in out.iterdir()}

    one, two = (out / f"ce-lcnet_050-{shots}shots-seed0.json" for shots in (1, 2))
    kept = one.stat().st_mtime_ns
    two.unlink()
    again = cli(*command)
    assert again.exit_code == 0, again.stderr
    assert "| accuracy % at shots | 1 | 2 |" in again.stdout
    assert one.stat().st_mtime_ns == kept
    assert two.exists()


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--shots", "25"], 3, "class 'blue' has 24 training images, --shots asks for 25"),
        (["--shots", "1,many"], 2, "such as 1,5,16"),
        (["--shots", "0"], 2, "such as 1,5,16"),
        (["--budget", "10"], 2, "Write 30-epochs, 200k-images"),
        (["--budget", "70-images"], 2, "less than one pass over 72 training images"),
        (["--methods", "tsc"], 2, "Did you mean tcs"),
        (["--methods", " , "], 2, "nothing to compare. Pass --methods"),
        (["--student", "lcnet_50"], 2, "unknown student"),
    ],
)
def test_wrong_flags_print_one_line_and_write_nothing(cli, photos, tmp_path, flags, code, message):
    done = cli("bench", "--data", photos, "--methods", "ce", "--out", tmp_path / "bench", *flags, "--quiet")
    assert done.exit_code == code
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "bench").exists()
