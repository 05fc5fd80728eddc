"""Choice of the learning rate: every arm gets its best rate of one grid, by validation images alone."""

from __future__ import annotations

import json

import pytest

from tcs_edge.bench import tune
from tcs_edge.bench.grid import SCHEMA_VERSION, RunResult, SharedOptions, arms_of, make_runs
from tcs_edge.bench.rows import make_rows
from tcs_edge.bench.table import to_markdown
from tcs_edge.bench.tune import choose_rate, parse_rates, run_tuned
from tcs_edge.errors import TrainingDiverged, UsageError

VALIDATION = {("tcs", 0.001): 0.7, ("tcs", 0.002): 0.8, ("tcs", 0.004): 0.6, ("ce", 0.001): 0.5, ("ce", 0.002): 0.5,
              ("ce", 0.004): 0.6}  # fmt: skip


@pytest.fixture
def executed(monkeypatch):
    """Runs that were executed, with made results: the test accuracy is highest where validation is lowest."""
    executed = []

    def run_bench(runs, out):
        executed.extend(runs)
        return {run: result(VALIDATION[run.arm, run.options.lr]) for run in runs}

    def result(accuracy):
        right = round(10 * (1 - accuracy))
        return RunResult("1" * right + "0" * (10 - right), 1.0, 300.0, 0.0, 0.5, 9.0, 2.0, 1.5, 1, 20, accuracy)

    monkeypatch.setattr(tune, "run_bench", run_bench)
    return executed


@pytest.fixture
def tuned(executed, resolved, tmp_path):
    return run_tuned([SharedOptions(resolved())], arms_of(["tcs", "ce"], []), range(3), (0.001, 0.002, 0.004), tmp_path)


def test_the_grid_runs_on_the_first_seed_and_the_choice_on_the_others(tuned, executed):
    asked = [(run.arm, run.options.seed, run.options.lr) for run in executed]
    assert asked == [
        *[("tcs", 0, rate) for rate in (0.001, 0.002, 0.004)], *[("ce", 0, rate) for rate in (0.001, 0.002, 0.004)],
        ("tcs", 1, 0.002), ("ce", 1, 0.004), ("tcs", 2, 0.002), ("ce", 2, 0.004),
    ]  # fmt: skip
    assert len({run.name for run in executed}) == len(executed)


def test_the_table_has_the_chosen_rate_and_every_validation_accuracy(tuned):
    tcs, ce = make_rows(*tuned)
    assert (tcs.lr, tcs.seeds, tcs.accuracies) == (0.002, (0, 1, 2), (0.2, 0.2, 0.2))
    assert tcs.tuning == {0.001: 0.7, 0.002: 0.8, 0.004: 0.6}
    assert ce.lr == 0.004
    json.dumps(tcs.to_json())
    markdown = to_markdown([tcs, ce])
    assert "| method | accuracy % | learning rate |" in markdown
    assert "| ce | 40.00 ± 0.00 | 0.004 |" in markdown
    assert "the highest validation accuracy on the first seed" in markdown


def test_a_choice_at_the_end_of_the_grid_is_a_warning(tuned, executed, recorder, resolved, tmp_path):
    run_tuned([SharedOptions(resolved())], arms_of(["tcs", "ce"], []), [0], (0.001, 0.002, 0.004), tmp_path)
    assert recorder.said == ["learning rate of tcs, lcnet_050: 0.002", "learning rate of ce, lcnet_050: 0.004"]
    assert recorder.warned == ["learning rate of ce, lcnet_050: 0.004 is at an end of --lr-grid. Extend the grid."]


@pytest.mark.parametrize(("default", "warned"), [(0.0005, True), (0.001, False), (0.004, False), (0.008, True)])
def test_a_grid_without_the_default_rate_is_a_warning(tuned, executed, recorder, resolved, tmp_path, default, warned):
    base = SharedOptions(resolved(lr=default))
    run_tuned([base], arms_of(["tcs"], []), [0], (0.001, 0.002, 0.004), tmp_path)
    text = f"learning rate, lcnet_050: the default, {default:g}, is outside of --lr-grid. Extend the grid to it."
    assert recorder.warned == [text] * warned


def test_a_method_without_training_has_no_rate_to_warn_of(monkeypatch, recorder, resolved, tmp_path):
    found = RunResult("1", 0.0, 300.0, 0.0, 0.5, 9.0, 2.0, 1.5, 1, 20, 0.5)
    monkeypatch.setattr(tune, "run_bench", lambda runs, out: dict.fromkeys(runs, found))
    base = SharedOptions(resolved(student_init="weights.safetensors"))
    run_tuned([base], arms_of(["probe"], []), [0], (0.001, 0.002), tmp_path)
    assert recorder.said == recorder.warned == []


def test_each_number_of_shots_has_its_own_line(monkeypatch, recorder, resolved, tmp_path):
    found = RunResult("1", 1.0, 300.0, 0.0, 0.5, 9.0, 2.0, 1.5, 1, 20, 0.5)
    monkeypatch.setattr(tune, "run_bench", lambda runs, out: dict.fromkeys(runs, found))
    shared = [SharedOptions(resolved(shots=shots)) for shots in (1, 5)]
    run_tuned(shared, arms_of(["ce"], []), [0], (0.001, 0.002), tmp_path)
    assert recorder.said == [f"learning rate of ce, lcnet_050, {shots} shots: 0.001" for shots in (1, 5)]


def test_a_rate_that_diverges_is_left_out(recorder, resolved, tmp_path):
    base = SharedOptions(resolved())
    arms, rates = arms_of(["ce"], []), (0.001, 0.002, 0.004)
    found = RunResult("1", 1.0, 300.0, 0.0, 0.5, 9.0, 2.0, 1.5, 1, 20, 0.5)
    for run in make_runs([base], arms, [0], rates):
        diverged = run.options.lr == 0.004
        part = {"diverged": "the task became nan at step 3. Lower --lr."} if diverged else found.to_json()
        kept = {"schema_version": SCHEMA_VERSION, **run.config_key(), "found": part}
        (tmp_path / f"{run.name}.json").write_text(json.dumps(kept))
    _, accuracies = run_tuned([base], arms, [0], rates, tmp_path)
    assert list(accuracies.values()) == [{0.001: 0.5, 0.002: 0.5}]
    assert recorder.warned[0] == (
        "run 3 of 3: ce, lcnet_050, seed 0, learning rate 0.004: diverged, left out (the task became nan at step 3)"
    )


def test_a_method_that_diverges_at_every_rate_is_an_error(monkeypatch, resolved, tmp_path):
    monkeypatch.setattr(tune, "run_bench", lambda runs, out: {})
    with pytest.raises(TrainingDiverged, match=r"^ce, lcnet_050: diverged at every rate of --lr-grid\."):
        run_tuned([SharedOptions(resolved())], arms_of(["ce"], []), [0], (0.001, 0.002), tmp_path)


@pytest.mark.slow
def test_a_worker_notes_that_a_rate_diverges(cli, photos, tmp_path):
    out = tmp_path / "bench"
    done = cli(
        "bench", "--data", photos, "--methods", "ce", "--seeds", 1, "--budget", "1-epochs", "--lr-grid", "1e-3,1e30",
        "--student", "lcnet_050", "--student-init", "random", "--img-size", 32, "--threads", 1, "--workers", 0,
        "--device", "cpu", "--out", out, "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert "learning rate 1e+30: diverged, left out (" in done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert (row["lr"], list(row["tuning"])) == (0.001, ["0.001"])
    assert not list(out.glob("*.state"))


def test_the_smallest_of_equally_good_rates_is_chosen():
    assert choose_rate({0.004: 0.9, 0.001: 0.9, 0.002: 0.8}) == 0.001


@pytest.mark.parametrize(
    "text", ["", "1e-3", "1e-3,1e-3", "1e-3,1.0000001e-3", "1e-3,fast", "0,1e-3", "-1,1", "nan,1", "1e-3,inf", "1,1e31"]
)
def test_other_grids_are_refused(text):
    with pytest.raises(UsageError, match="Write them such as 5e-4,1e-3,2e-3"):
        parse_rates(text)
    assert parse_rates("2e-3, 5e-4") == (0.0005, 0.002)


def test_a_grid_and_a_rate_contradict_each_other(cli, photos, tmp_path):
    done = cli("bench", "--data", photos, "--lr-grid", "1e-3,2e-3", "--lr", "1e-3", "--out", tmp_path / "bench")
    assert (done.exit_code, done.stderr) == (2, "error: --lr-grid chooses the learning rate. Leave --lr out.\n")


@pytest.mark.slow
def test_a_grid_is_run_and_kept(cli, photos, tmp_path):
    out = tmp_path / "bench"
    command = [
        "bench", "--data", photos, "--methods", "ce", "--seeds", 1, "--budget", "1-epochs", "--lr-grid", "1e-9,1e-2",
        "--student", "lcnet_050", "--student-init", "random", "--img-size", 32, "--threads", 1, "--workers", 0,
        "--device", "cpu", "--out", out, "--json",
    ]  # fmt: skip
    done = cli(*command)
    assert done.exit_code == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert set(row["tuning"]) == {"1e-09", "0.01"}
    assert {path.name for path in out.glob("ce*.json")} == {
        "ce-lcnet_050-seed0-lr1e-09.json", "ce-lcnet_050-seed0-lr0.01.json",
    }  # fmt: skip
    assert cli(*command).stdout == done.stdout
