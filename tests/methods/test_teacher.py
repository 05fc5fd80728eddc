"""Tests of cached targets per image, and of an online teacher on the student's view."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tcs_edge.data import Preprocess
from tcs_edge.methods import Batch, CachedTargets, DistillationTargets, Dkd, Kd, OnlineTeacher, SimKd

STUDENT = Preprocess(8, mean=(0.2, 0.3, 0.4), std=(0.5, 0.6, 0.7))
TEACHER = Preprocess(12, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))


class Teacher(nn.Module):
    """Teacher with nine maps of its input; it keeps the last view."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 9, 3)

    def forward(self, view):
        self.seen = view
        return self.conv(view)


def test_cached_targets_keep_their_shape_and_stay_out_of_checkpoints():
    targets = torch.randn(20, 4, 3, 3)
    cached = CachedTargets(targets)
    index = torch.tensor([7, 0, 7])
    torch.testing.assert_close(cached(Batch(torch.zeros(3), index, index)), targets.half().float()[index])
    assert not cached.state_dict()


def test_online_teacher_gets_student_image_at_its_own_size_and_normalization():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    student = torch.from_numpy(STUDENT(Image.fromarray(pixels)))[None]
    same_size = Preprocess(8, mean=TEACHER.mean, std=TEACHER.std)
    online = OnlineTeacher(nn.Identity(), STUDENT, same_size)
    expected = torch.from_numpy(same_size(Image.fromarray(pixels)))[None]
    torch.testing.assert_close(online.view(student), expected, rtol=1e-5, atol=1e-5)

    larger = OnlineTeacher(nn.Identity(), STUDENT, TEACHER).view(student)
    expected = torch.from_numpy(TEACHER(Image.fromarray(pixels)))[None]
    # Pillow rounds to whole gray values in between: half a step of 1/255, over std 0.2.
    assert (larger - expected).abs().max() < 1.1 / 255 / 0.2


def test_bicubic_enlargement_stays_in_pixel_range():
    checker = (torch.arange(8)[:, None] + torch.arange(8)) % 4 // 2
    student = ((checker.float() - 0.2) / 0.5).expand(1, 3, 8, 8).clone()
    pre = Preprocess(8, mean=(0.2,) * 3, std=(0.5,) * 3)
    bicubic = Preprocess(20, interpolation="bicubic", mean=(0.0,) * 3, std=(1.0,) * 3)
    view = OnlineTeacher(nn.Identity(), pre, bicubic).view(student)
    assert view.min() >= 0
    assert view.max() <= 1


@pytest.mark.parametrize("name", ["kd", "dkd", "simkd"])
def test_online_teacher_gets_no_gradient_and_is_in_no_checkpoint(backbone, batch, name):
    teacher = Teacher()
    if name == "simkd":
        online = OnlineTeacher(lambda view: nn.functional.adaptive_avg_pool2d(teacher(view), 2), STUDENT, TEACHER)
        method = SimKd(10, nn.Linear(9, 3), online, grid=2, signed=True)
    else:
        online = OnlineTeacher(lambda view: teacher(view).mean(dim=(2, 3))[:, :3], STUDENT, TEACHER)
        method = {"kd": Kd, "dkd": Dkd}[name](12, 3, online)
    method.after_backward(50, 100)
    losses = method.losses(backbone, batch)
    losses.total.backward()
    assert teacher.conv.weight.grad is None
    assert teacher.seen.shape == (10, 3, 12, 12)
    torch.testing.assert_close(teacher.seen, online.view(batch.images))
    assert backbone.stem[0].weight.grad.abs().sum() > 0
    saved = set(method.state_dict()) | {name for name, _ in method.named_parameters()}
    assert not any("conv" in name or "teacher" in name for name in saved)


def test_online_teacher_has_no_cached_targets():
    with pytest.raises(ValueError, match="needs cached targets"):
        DistillationTargets(online=OnlineTeacher(nn.Identity(), STUDENT, TEACHER)).cached()
