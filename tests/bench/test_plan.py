"""A comparison is planned before anything is trained: one base per student and number of shots."""

import pytest

from tcs_edge.bench.budget import BenchBudget
from tcs_edge.bench.cells import arms_of
from tcs_edge.bench.plan import FEW_SHOT_BUDGET, plan_bases
from tcs_edge.errors import DataError, MissingError, NoCandidate, UnknownName
from tcs_edge.specs.config import CompressConfig

CE = arms_of(["ce"], [])
CLASSES, IMAGES = 3, 72  # of the fixture `photos`


@pytest.fixture
def options(photos):
    return CompressConfig(target="raspberrypi4", data=photos, student_init="random", threads=1, device="cpu")


def test_every_student_meets_every_number_of_shots_and_nothing_is_left_open(options):
    bases = plan_bases(options, ["lcnet_050", "mobilenetv3_small_050"], [1, 5], None, CE)
    assert [(base.student, base.shots) for base in bases] == [
        ("lcnet_050", 1), ("lcnet_050", 5), ("mobilenetv3_small_050", 1), ("mobilenetv3_small_050", 5),
    ]  # fmt: skip
    assert all(base.img_size and base.lr and base.augment and base.epochs for base in bases)


def test_auto_becomes_the_student_that_is_chosen(options):
    (base,) = plan_bases(options, ["auto"], [], None, CE)
    assert base.student not in ("auto", "")


def test_a_budget_of_images_is_the_same_training_at_any_number_of_shots(options):
    bases = plan_bases(options, ["lcnet_050"], [1, 5], BenchBudget(600, "images"), CE)
    assert [base.epochs * base.shots * CLASSES for base in bases] == [600, 600]
    (everything,) = plan_bases(options, ["lcnet_050"], [], BenchBudget(10 * IMAGES, "images"), CE)
    assert (everything.epochs, everything.shots) == (10, None)


def test_few_shots_without_a_budget_train_as_long_as_the_default_says(options):
    (few,) = plan_bases(options, ["lcnet_050"], [2], None, CE)
    assert few.epochs == FEW_SHOT_BUDGET.epochs(2 * CLASSES)
    (own,) = plan_bases(options.model_copy(update={"epochs": 4}), ["lcnet_050"], [2], None, CE)
    assert own.epochs == 4


def test_what_cannot_work_is_refused_before_anything_is_trained(options, offline):
    with pytest.raises(DataError, match="class 'blue' has 24 training images, --shots asks for 25"):
        plan_bases(options, ["lcnet_050"], [1, 25], None, CE)
    with pytest.raises(UnknownName, match="unknown student 'lcnet_51'"):
        plan_bases(options, ["lcnet_050", "lcnet_51"], [], None, CE)
    with pytest.raises(NoCandidate):
        plan_bases(options.model_copy(update={"max_size_mb": 0.1}), ["lcnet_050"], [], None, CE)
    with pytest.raises(MissingError):
        plan_bases(options, ["lcnet_050"], [], None, arms_of(["ce", "tcs"], []))
