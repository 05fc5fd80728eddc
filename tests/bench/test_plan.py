"""Tests of the plan of a comparison: shared options for each student and number of shots."""

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from tcs_edge.bench.budget import BenchBudget
from tcs_edge.bench.grid import arms_of, make_runs
from tcs_edge.bench.plan import FEW_SHOT_BUDGET, plan_shared
from tcs_edge.errors import DataError, MissingError, NoCandidate, UnknownName
from tcs_edge.specs.config import CompressConfig
from tcs_edge.students.build import build_student

CE = arms_of(["ce"], [])
CLASSES, IMAGES = 3, 72  # in the fixture `photos`


@pytest.fixture
def options(photos):
    return CompressConfig(target="raspberrypi4", data=photos, student_init="random", threads=1, device="cpu")


def test_plan_has_resolved_options_for_every_student_and_number_of_shots(options):
    shared = plan_shared(options, ["lcnet_050", "mobilenetv3_small_050"], [1, 5], None, CE)
    assert [(base.options.student, base.options.shots) for base in shared] == [
        ("lcnet_050", 1), ("lcnet_050", 5), ("mobilenetv3_small_050", 1), ("mobilenetv3_small_050", 5),
    ]  # fmt: skip
    assert all(one.img_size and one.lr and one.augment and one.epochs for one in (base.options for base in shared))


def test_auto_resolves_to_chosen_student(options):
    (base,) = plan_shared(options, ["auto"], [None], None, CE)
    assert base.options.student not in ("auto", "")


def test_budget_in_images_gives_same_training_for_all_shots(options):
    shared = plan_shared(options, ["lcnet_050"], [1, 5], BenchBudget(600, "images"), CE)
    assert [base.options.epochs * base.options.shots * CLASSES for base in shared] == [600, 600]
    (everything,) = plan_shared(options, ["lcnet_050"], [None], BenchBudget(10 * IMAGES, "images"), CE)
    assert (everything.options.epochs, everything.options.shots) == (10, None)


def test_few_shots_without_budget_use_default_budget(options):
    (few,) = plan_shared(options, ["lcnet_050"], [2], None, CE)
    assert few.options.epochs == FEW_SHOT_BUDGET.epochs(2 * CLASSES)
    (own,) = plan_shared(options.replaced(epochs=4), ["lcnet_050"], [2], None, CE)
    assert own.options.epochs == 4


def test_impossible_comparisons_raise_before_training(options, offline):
    with pytest.raises(DataError, match="class 'blue' has 24 training images, --shots asks for 25"):
        plan_shared(options, ["lcnet_050"], [1, 25], None, CE)
    with pytest.raises(UnknownName, match="unknown student 'lcnet_51'"):
        plan_shared(options, ["lcnet_050", "lcnet_51"], [None], None, CE)
    with pytest.raises(NoCandidate):
        plan_shared(options.replaced(max_size_mb=0.1), ["lcnet_050"], [None], None, CE)
    with pytest.raises(MissingError):
        plan_shared(options, ["lcnet_050"], [None], None, arms_of(["ce", "tcs"], []))


def test_arms_without_a_teacher_need_no_weights_of_one(options, offline):
    pretrained = options.replaced(student_init="pretrained")
    assert plan_shared(pretrained, ["lcnet_050"], [None], None, arms_of(["kd-own", "ce"], []))
    with pytest.raises(MissingError):
        plan_shared(pretrained, ["lcnet_050"], [None], None, arms_of(["kd-own", "kd"], []))


def test_a_file_of_features_without_some_images_is_refused_before_training(options, tmp_path):
    np.savez(tmp_path / "f.npz", names=["train/blue/00.jpg"], features=np.eye(1, 3))
    own = options.replaced(teacher_features=tmp_path / "f.npz")
    with pytest.raises(DataError, match="no features of 95 of 96 training and validation images"):
        plan_shared(own, ["lcnet_050"], [None], None, arms_of(["ce", "kd"], []))
    assert plan_shared(own, ["lcnet_050"], [None], None, CE)


def test_the_plan_knows_the_content_of_images_features_and_first_weights(options, photos, tmp_path):
    def inputs() -> dict[str, str]:
        (shared,) = plan_shared(learning, ["lcnet_050"], [None], None, arms_of(["kd"], []))
        return dict(shared.inputs)

    def write(number: float) -> None:
        names = sorted(str(path.relative_to(photos).as_posix()) for path in photos.glob("*/*/*"))
        rows = np.random.default_rng(int(number)).random((len(names), 4), np.float32)
        np.savez(tmp_path / "features.npz", features=rows, names=np.array(names))
        state = build_student("lcnet_050", 32, "random", seed=int(number)).state_dict()
        save_file(state, tmp_path / "lcnet_050.safetensors")

    write(1)
    learning = options.replaced(
        teacher_features=tmp_path / "features.npz", student_init=str(tmp_path / "lcnet_050.safetensors")
    )
    first = inputs()
    assert inputs() == first
    write(2)
    second = inputs()
    assert {name for name in first if first[name] != second[name]} == {"teacher", "student_init"}
    image = next(photos.rglob("*.jpg"))
    Image.new("RGB", (40, 40), (1, 2, 3)).save(image)
    assert inputs()["images"] != second["images"]


def test_methods_that_need_labels_get_the_same_number_of_images_seen(options):
    rest = options.replaced(shots=2, rest_unlabeled=True)
    (base,) = plan_shared(rest, ["lcnet_050"], [2], BenchBudget(10 * IMAGES, "images"), CE)
    assert (base.options.epochs, base.options.rest_unlabeled) == (10, True)
    assert base.labeled_epochs == round(10 * IMAGES / (2 * CLASSES))
    runs = {run.arm: run.options for run in make_runs([base], arms_of(["tcs", "ce", "dkd"], []), [0])}
    assert (runs["tcs"].rest_unlabeled, runs["tcs"].epochs) == (True, 10)
    for arm in ("ce", "dkd"):
        assert (runs[arm].rest_unlabeled, runs[arm].epochs, runs[arm].shots) == (False, base.labeled_epochs, 2)
