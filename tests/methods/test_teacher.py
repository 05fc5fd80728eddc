"""The teacher's answers: per image from the cache, or from the teacher itself for the student's view."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tcs_edge.data import Preprocess
from tcs_edge.methods import Batch, CachedAnswers, DistillationTargets, Dkd, Kd, OnlineTeacher, SimKd

STUDENT = Preprocess(8, mean=(0.2, 0.3, 0.4), std=(0.5, 0.6, 0.7))
TEACHER = Preprocess(12, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))


class Teacher(nn.Module):
    """Nine maps of its input; remembers whether anybody trained it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 9, 3)

    def forward(self, view):
        self.seen = view
        return self.conv(view)


def test_cached_answers_keep_their_shape_and_stay_out_of_checkpoints():
    answers = torch.randn(20, 4, 3, 3)
    cached = CachedAnswers(answers)
    index = torch.tensor([7, 0, 7])
    torch.testing.assert_close(cached(Batch(torch.zeros(3), index, index)), answers.half().float()[index])
    assert not cached.state_dict()


def test_the_teacher_sees_the_students_picture_at_its_own_size_and_normalization():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    student = torch.from_numpy(STUDENT(Image.fromarray(pixels)))[None]
    same_size = Preprocess(8, mean=TEACHER.mean, std=TEACHER.std)
    loop = OnlineTeacher(nn.Identity(), STUDENT, same_size)
    wanted = torch.from_numpy(same_size(Image.fromarray(pixels)))[None]
    torch.testing.assert_close(loop.view(student), wanted, rtol=1e-5, atol=1e-5)

    larger = OnlineTeacher(nn.Identity(), STUDENT, TEACHER).view(student)
    wanted = torch.from_numpy(TEACHER(Image.fromarray(pixels)))[None]
    # Pillow rounds to whole gray values in between: half a step of 1/255, over std 0.2.
    assert (larger - wanted).abs().max() < 1.1 / 255 / 0.2


def test_bicubic_enlarging_stays_inside_the_range_of_pictures():
    checker = (torch.arange(8)[:, None] + torch.arange(8)) % 4 // 2
    student = ((checker.float() - 0.2) / 0.5).expand(1, 3, 8, 8).clone()
    pre = Preprocess(8, mean=(0.2,) * 3, std=(0.5,) * 3)
    bicubic = Preprocess(20, interpolation="bicubic", mean=(0.0,) * 3, std=(1.0,) * 3)
    view = OnlineTeacher(nn.Identity(), pre, bicubic).view(student)
    assert view.min() >= 0
    assert view.max() <= 1


@pytest.mark.parametrize("name", ["kd", "dkd", "simkd"])
def test_no_gradient_reaches_a_teacher_in_the_loop_and_no_checkpoint_holds_it(backbone, batch, name):
    teacher = Teacher()
    if name == "simkd":
        loop = OnlineTeacher(lambda view: nn.functional.adaptive_avg_pool2d(teacher(view), 2), STUDENT, TEACHER)
        method = SimKd(10, nn.Linear(9, 3), loop, grid=2, signed=True)
    else:
        loop = OnlineTeacher(lambda view: teacher(view).mean(dim=(2, 3))[:, :3], STUDENT, TEACHER)
        method = {"kd": Kd, "dkd": Dkd}[name](12, 3, loop)
    method.after_backward(50, 100)
    losses = method.losses(backbone, batch)
    losses.total.backward()
    assert teacher.conv.weight.grad is None
    assert teacher.seen.shape == (10, 3, 12, 12)
    torch.testing.assert_close(teacher.seen, loop.view(batch.images))
    assert backbone.stem[0].weight.grad.abs().sum() > 0
    held = set(method.state_dict()) | {name for name, _ in method.named_parameters()}
    assert not any("conv" in name or "teacher" in name for name in held)


def test_rows_are_refused_where_the_teacher_is_in_the_loop():
    with pytest.raises(ValueError, match="cached answers"):
        _ = DistillationTargets(online=OnlineTeacher(nn.Identity(), STUDENT, TEACHER)).rows
