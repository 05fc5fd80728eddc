"""Tests of searches in real runs: the chosen student, its record, errors, and a resumed run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tcs_edge.data.images import Split
from tcs_edge.errors import MissingError, TrainingDiverged
from tcs_edge.pipeline.plan import make_plan
from tcs_edge.search import alignment, halving
from tcs_edge.search.student import resolve_search, select
from tcs_edge.specs.config import CompressConfig
from tcs_edge.stages import prepare as preparation
from tcs_edge.stages.prepare import Prepared, Shortlist, list_students
from tcs_edge.stages.targets import teacher_pass
from tcs_edge.students.build import build_student
from tcs_edge.training import trainer

NAMES = ("lcnet_050", "mobilenetv3_small_050", "mobilenetv4_conv_small_050")


@pytest.fixture(autouse=True)
def only_these(candidates, monkeypatch):
    """Three students to choose from, all within the limits."""
    monkeypatch.setattr(preparation, "CANDIDATES", {candidate.name: candidate for candidate in candidates})


@pytest.fixture
def options(photos, teacher_file, feature_cache, weights_folder) -> Callable[..., CompressConfig]:
    """options(search="halving"): options of a run that takes seconds."""

    def make(**changes: Any) -> CompressConfig:
        given: dict[str, Any] = {
            "target": "raspberrypi4", "data": photos, "teacher": "timm/test_vit", "teacher_weights": teacher_file,
            "teacher_img_size": 64, "student_init": str(weights_folder), "img_size": 32, "epochs": 3, "lr": 1e-2,
            "batch_size": 12, "device": "cpu", "threads": 1, "workers": 0, "cache_dir": feature_cache,
        }  # fmt: skip
        return CompressConfig(**given | changes)

    return make


def without_test_images(listed: Shortlist) -> Shortlist:
    """Return the shortlist with test images that cannot be opened."""
    count = len(listed.images.test)
    gone = Split((Path("gone.png"),) * count, np.zeros(count, np.int64), listed.images.test.names)
    return replace(listed, images=replace(listed.images, test=gone))


def searched(config: CompressConfig) -> Prepared:
    listed = list_students(config)
    search = resolve_search(listed)
    assert search != "table"
    return select(without_test_images(listed), search)


def figures(ready: Prepared) -> dict[str, tuple[str, float]]:
    found = {one.candidate.name: one.expected for one in ready.choice.accepted}
    return {name: (expected.search, expected.percent) for name, expected in found.items()}


def test_alignment_compares_students_with_weights_and_caches_their_features(options, tmp_path, monkeypatch):
    config = options(search="alignment", cache_dir=tmp_path / "cache")
    ready = searched(config)
    found = figures(ready)
    assert {name: search for name, (search, _) in found.items()} == dict(
        zip(NAMES, ("alignment", "alignment", "table"), strict=True)
    )
    assert ready.student.name == max(NAMES[:2], key=lambda name: found[name][1])
    assert ready.options.student == ready.student.name
    assert list(found)[-1] == NAMES[2], "a table estimate must rank below compared students"
    assert NAMES[2] not in {one.candidate.name for one in ready.choice.front}
    monkeypatch.setattr(alignment, "_forward", lambda *_: pytest.fail("computed although cached"))
    assert figures(searched(config)) == found


@pytest.mark.slow
def test_halving_trains_every_student_briefly_and_is_reproducible(options):
    config = options(search="halving", student_init="random")
    ready = searched(config)
    found = figures(ready)
    assert {search for search, _ in found.values()} == {"halving"}
    assert ready.choice.winner.expected.percent == max(percent for _, percent in found.values())
    assert figures(searched(config)) == found


@pytest.mark.parametrize(("student_probe", "bound"), [(True, 0.95), (False, 0.6)])
def test_short_runs_use_the_student_probe(options, tmp_path, monkeypatch, student_probe, bound):
    """The classes are colors, which the teacher's noise does not separate but the student's features do."""
    backbone, received = build_student(NAMES[0], 32, "random", seed=1), []
    for part in torch.randn(20, 8, 3, 32, 32, generator=torch.Generator().manual_seed(1)):
        backbone(part)  # in training mode, for the statistics of batch normalization
    save_file(
        {key: value.contiguous() for key, value in backbone.state_dict().items()}, tmp_path / f"{NAMES[0]}.safetensors"
    )

    def train_student(_ready, _files, _backbone, taught):
        received.append(taught.targets)
        raise TrainingDiverged("stopped by the test")

    monkeypatch.setattr(halving, "train_student", train_student)
    few: dict[str, Any] = {"search": "halving", "shots": 4, "rest_unlabeled": True, "student_init": str(tmp_path)}
    ready = list_students(options(**few, tcs={"student_probe": student_probe}))
    features = teacher_pass(ready.images, ready.prepared().options)
    noise = np.random.default_rng(3).normal(size=features.train.shape).astype(np.float16)
    student = next(one.sized_candidate for one in ready.choice.accepted if one.candidate.name == NAMES[0])
    with pytest.raises(TrainingDiverged):
        halving.short_runs(ready, replace(features, train=noise))(student, 1)
    whole = list_students(options()).images.train
    truth = dict(zip(whole.names, whole.labels, strict=True))
    predicted = received[0].soft_labels.argmax(dim=1).numpy()
    accuracy = np.mean([label == truth[name] for label, name in zip(predicted, ready.images.train.names, strict=True)])
    assert accuracy >= bound if student_probe else accuracy < bound


def test_halving_keeps_table_estimate_of_students_without_weights(options, monkeypatch):
    trained = []

    def learn(sized, epochs):
        trained.append(sized.candidate.name)
        return 0.5 + 0.1 * NAMES.index(sized.candidate.name)

    monkeypatch.setattr("tcs_edge.search.student.short_runs", lambda *_: learn)
    ready = searched(options(search="halving"))
    assert sorted(trained) == sorted(NAMES[:2])
    assert ready.student.name == NAMES[1]
    assert figures(ready)[NAMES[2]][0] == "table"


def test_halving_selects_the_input_size_too(options, monkeypatch):
    """The accuracies favor one size; the run continues with it and does not search again."""
    seen = []

    def learn(sized, epochs):
        seen.append((sized.candidate.name, sized.img_size))
        return 0.4 + 0.01 * NAMES.index(sized.candidate.name) + (0.3 if sized.img_size == 48 else 0.0)

    monkeypatch.setattr("tcs_edge.search.student.short_runs", lambda *_: learn)
    config = options(search="halving", student_init="random", img_size=None, search_img_sizes=(64, 48, 32))
    ready = searched(config)
    assert set(seen) == {(name, size) for name in NAMES for size in (32, 48, 64)}
    assert (ready.student.name, ready.options.img_size, ready.preprocess.img_size) == (NAMES[2], 48, 48)
    assert ready.choice.winner.label == f"{NAMES[2]} at 48 px"
    assert f"at 48 px, round {ready.choice.winner.expected.depth} of" in ready.choice.winner.expected.how
    again = list_students(CompressConfig.model_validate(ready.options.model_dump()))
    assert (again.open, again.prepared().preprocess.img_size) == (False, 48)


def test_halving_selects_the_input_size_of_a_named_student(options, monkeypatch):
    learn = lambda sized, epochs: sized.img_size / 100  # noqa: E731
    monkeypatch.setattr("tcs_edge.search.student.short_runs", lambda *_: learn)
    ready = searched(options(search="halving", student=NAMES[0], img_size=None, search_img_sizes=(32, 64)))
    assert (ready.student.name, ready.preprocess.img_size) == (NAMES[0], 64)


@pytest.mark.slow
def test_short_runs_of_all_sizes_share_one_teacher_pass(options, tmp_path):
    config = options(search="halving", student=NAMES[0], student_init="random", img_size=None, epochs=1,
                     search_img_sizes=(32, 48), cache_dir=tmp_path / "cache")  # fmt: skip
    ready = searched(config)
    assert {found.expected.search for found in ready.choice.accepted} == {"halving"}
    assert len([path for path in (tmp_path / "cache/features").glob("*/*") if path.is_dir()]) == 1, "one teacher pass"


def test_default_search_is_alignment_if_its_inputs_are_on_this_machine(options, candidates, tmp_path, monkeypatch):
    both = {candidate.name: candidate for candidate in candidates[:2]}
    monkeypatch.setattr(preparation, "CANDIDATES", both)
    config = options(cache_dir=tmp_path / "cache")
    before = list_students(config)
    assert resolve_search(before) == "table"
    teacher_pass(before.images, before.prepared().options)
    assert resolve_search(list_students(config)) == "alignment"
    assert resolve_search(list_students(options(student=NAMES[0]))) == "table"
    monkeypatch.setattr(preparation, "CANDIDATES", both | {candidates[2].name: candidates[2]})
    assert resolve_search(list_students(config)) == "table", "some weights are missing"


def test_plan_names_the_search(options):
    stages = make_plan(options(search="alignment")).stages
    assert [stage.name for stage in stages][:2] == ["teacher", "search"]
    assert stages[1].what.startswith("alignment over the 3 students that fit")
    several = make_plan(options(search="halving", img_size=None, search_img_sizes=(32, 48))).stages
    assert several[1].what.startswith("halving over the 6 students that fit, at 32, 48 px")


def test_search_without_any_weights_raises_before_the_teacher_pass(options, tmp_path):
    with pytest.raises(MissingError, match="no weights on this machine for any of the 3 students that fit"):
        resolve_search(list_students(options(search="alignment", student_init=str(tmp_path))))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": "nonsense"}, "search"),
        ({"search": "alignment", "student_init": "random"}, "alignment needs pretrained students"),
        ({"search": "halving", "method": "ce"}, "ce has no teacher"),
        ({"search": "table", "search_img_size": "48"}, "search table uses one input size"),
        (
            {"search": "alignment", "student_init": "{folder}/lcnet_050.safetensors"},
            "needs weights of several students",
        ),
    ],
)
def test_impossible_searches_are_wrong_usage(cli, tiny, weights_folder, changes, message):
    given = {name: value.format(folder=weights_folder) for name, value in changes.items()}
    result = cli(*tiny(student=None, img_size=32, **given))
    assert result.exit_code == 2, result.stderr
    assert message in result.stderr.splitlines()[-1]


@pytest.mark.slow
def test_resumed_run_keeps_the_student_of_the_search(cli, tiny, weights_folder, tmp_path, monkeypatch):
    def stop(*_arguments):
        raise KeyboardInterrupt

    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(trainer._Run, "_step", stop)
        arguments = tiny(student=None, student_init=weights_folder, search="alignment", img_size=32)
        assert cli(*arguments, "--out", out).exit_code == 130
    choice = json.loads((out / "reports" / "choice.json").read_text())
    assert [entry["expected_accuracy"]["search"] for entry in choice["candidates"]] == ["alignment"] * 2 + ["table"]
    assert "not on this machine" in choice["candidates"][2]["expected_accuracy"]["how"]
    assert (choice["named"], "pretrained features" in choice["ranking"]) == (False, True)
    chosen = choice["candidates"][0]
    result = cli("compress", "--resume", out)
    assert result.exit_code in (0, 1), result.stderr
    manifest = json.loads((out / "manifest.json").read_text())
    student = manifest["student"]
    assert (student["name"], student["expected_accuracy"]) == (chosen["name"], chosen["expected_accuracy"])
    files = {NAMES[0]: "lcnet_050.safetensors", NAMES[1]: "mobilenetv3_small_050_lamb_in1k.safetensors"}
    assert student["init"] == files[chosen["name"]]
    assert manifest["options"]["search"] == "alignment"
