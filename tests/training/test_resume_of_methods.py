"""Tests that every method resumes exactly: a resumed run equals an uninterrupted one."""

import pytest
import torch
from torch import nn

from tcs_edge.methods import CachedTargets, CrossEntropy, Dkd, Kd, OnlineTeacher, SimKd
from tcs_edge.training import trainer
from tcs_edge.training.schedule import Schedule
from tcs_edge.training.trainer import Data, train

BUDGET = Schedule(epochs=4, batch_size=16, lr=0.02)
FEATURES, CLASSES, WIDTH, GRID = 12, 3, 6, 2


class View:
    img_size, interpolation, mean, std = 8, "bilinear", (0.0,) * 3, (1.0,) * 3


class MapBackbone(nn.Sequential):
    """A convolutional backbone with access to the map before its pooling."""

    def forward_features(self, images):
        return self[:-2](images)


def targets(problem, shape, online):
    generator = torch.Generator().manual_seed(5)
    rows = torch.randn(len(problem.images), *shape, generator=generator)
    if not online:
        return CachedTargets(rows)
    weight = torch.randn(shape[0], 3, generator=generator)
    return OnlineTeacher(lambda view: _targets_of(view, weight, len(shape)), View(), View())


def _targets_of(view, weight, dimensions):
    maps = nn.functional.adaptive_avg_pool2d(torch.einsum("bchw,kc->bkhw", view, weight), GRID)
    return maps if dimensions == 3 else maps.mean(dim=(2, 3))


def make(name, problem, online):
    torch.manual_seed(1)
    if name == "simkd":
        teacher = targets(problem, (WIDTH, GRID, GRID), online)
        return SimKd(FEATURES, nn.Linear(WIDTH, CLASSES), teacher, GRID, signed=True)
    if name == "ce":
        return CrossEntropy(FEATURES, CLASSES)
    return {"kd": Kd, "dkd": Dkd}[name](FEATURES, CLASSES, targets(problem, (CLASSES,), online))


CASES = [("ce", False)] + [(name, online) for name in ("kd", "dkd", "simkd") for online in (False, True)]


@pytest.mark.parametrize(("name", "online"), CASES)
def test_a_resumed_run_equals_an_uninterrupted_one(problem, accelerator, tmp_path, monkeypatch, name, online):
    monkeypatch.setattr(trainer, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)

    def finish(path, stop_after=None, resume=False):
        backbone, method = MapBackbone(*problem.backbone()), make(name, problem, online)

        def batches(epoch):
            if epoch == stop_after:
                raise KeyboardInterrupt
            return problem.batches(epoch)

        train(backbone, method, Data(batches, 3, problem.data.val), BUDGET, 0, accelerator, path, resume)
        return {f"{kind}.{key}": value for kind, module in (("backbone", backbone), ("method", method))
                for key, value in module.state_dict().items()}  # fmt: skip

    whole = finish(tmp_path / "whole.safetensors")
    with pytest.raises(KeyboardInterrupt):
        finish(tmp_path / "broken.safetensors", stop_after=1)
    resumed = finish(tmp_path / "broken.safetensors", resume=True)
    for key, value in whole.items():
        assert torch.equal(value, resumed[key]), key


@pytest.mark.parametrize("name", ["kd", "dkd", "simkd"])
def test_methods_learn_from_a_perfect_teacher(problem, accelerator, name):
    """The teacher classifies the colors perfectly, so the student must learn them."""
    torch.manual_seed(1)
    hot = nn.functional.one_hot(problem.labels, CLASSES).float()
    if name == "simkd":
        probe = nn.Linear(4 * CLASSES, CLASSES)
        probe.weight.data, probe.bias.data = torch.eye(CLASSES).repeat(1, 4), torch.zeros(CLASSES)
        maps = hot.repeat(1, 4)[:, :, None, None].expand(-1, -1, GRID, GRID)
        method = SimKd(FEATURES, probe, CachedTargets(maps), GRID, signed=False)
    else:
        method = {"kd": Kd, "dkd": Dkd}[name](FEATURES, CLASSES, CachedTargets(6 * hot))
    lines = []
    schedule = Schedule(epochs=10, batch_size=16, lr=0.02)
    train(MapBackbone(*problem.backbone()), method, problem.data, schedule, 0, accelerator, log=lines.append)
    assert lines[-1]["val_accuracy"] > 0.9
