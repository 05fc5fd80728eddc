"""Tests of SimKD: the projector's shape, the loss, the reused classifier, and the deployed model and its cost."""

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from torch import nn

from tcs_edge.methods import CachedTargets, SimKd, SimKdStudent
from tcs_edge.methods.simkd import make_projector
from tcs_edge.models.feature_map import drop_head, last_map, map_shape, pooled_to
from tcs_edge.training.fold import deployed_cost, fold_student, load_deployed, save_deployed

CHANNELS, WIDTH, CLASSES, IMAGES, GRID = 10, 16, 3, 48, 2


def make(signed=True):
    torch.manual_seed(0)
    maps = torch.randn(IMAGES, WIDTH, GRID, GRID)
    return SimKd(CHANNELS, nn.Linear(WIDTH, CLASSES), CachedTargets(maps), GRID, signed), maps


def test_projector_has_layers_of_paper():
    layers = list(make_projector(32, 64, signed=False))
    kinds = [type(layer) for layer in layers]
    assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 3
    convs = layers[::3]
    assert [(c.in_channels, c.out_channels, c.kernel_size) for c in convs] == [
        (32, 32, (1, 1)), (32, 32, (3, 3)), (32, 64, (1, 1)),
    ]  # fmt: skip
    assert all(conv.bias is None for conv in convs)
    assert type(make_projector(32, 64, signed=True)[-1]) is nn.BatchNorm2d


def test_loss_is_mean_squared_error_to_teacher_map_of_same_image(backbone, batch):
    method, maps = make()
    backbone.eval()
    method.eval()
    losses = method.losses(backbone, batch)
    projected = method.projector(nn.functional.adaptive_avg_pool2d(backbone.stem(batch.images), GRID)).detach().numpy()
    expected = np.mean((projected - maps[batch.index].half().float().numpy()) ** 2)
    assert losses.total.item() == pytest.approx(expected, rel=1e-5)
    assert set(losses.parts) == {"mse"}


def test_labels_change_no_loss_and_classifier_is_frozen(backbone, batch):
    method, _ = make()
    losses = method.losses(backbone, batch)
    assert losses.total == method.losses(backbone, replace(batch, labels=batch.labels * 0)).total
    losses.total.backward()
    assert method.classifier.weight.grad is None
    assert not method.classifier.weight.requires_grad
    assert all(parameter.grad is not None for parameter in method.projector.parameters())
    assert all(parameter.grad is not None for parameter in backbone.stem.parameters())


def test_student_with_teacher_map_has_teacher_logits(batch):
    """Inference runs the probe on the mean of the projected map."""
    method, maps = make()
    method.projector = nn.Identity()
    expected = method.classifier(maps.mean(dim=(2, 3)))

    class Perfect(nn.Module):
        def forward_features(self, images):
            return images

    torch.testing.assert_close(method.logits(Perfect(), maps), expected)


def test_checkpoints_contain_no_maps(backbone):
    method, _ = make()
    assert {name.split(".")[0] for name in method.state_dict()} == {"projector", "classifier"}


@pytest.mark.parametrize("signed", [True, False])
def test_deployed_model_equals_trained_model_after_save_and_load(backbone, batch, tmp_path, signed):
    method, _ = make(signed)
    drop_head(backbone, 8)
    backbone.train()
    for _ in range(3):
        method.losses(backbone, batch)
    model, difference = fold_student(backbone, method, batch.images)
    assert difference == 0
    save_deployed(tmp_path / "deployed.safetensors", model)
    fresh = type(backbone)()
    again = load_deployed(tmp_path / "deployed.safetensors", fresh, 8)
    assert torch.equal(again(batch.images), method.logits(backbone, batch.images))


def test_deployed_cost_counts_projector_but_not_unused_head(backbone):
    method, _ = make()
    drop_head(backbone, 8)
    half = WIDTH // 2
    stem = 3 * CHANNELS * 9 + CHANNELS + 2 * CHANNELS
    projector = CHANNELS * half + half * half * 9 + half * WIDTH + 2 * (half + half + WIDTH)
    params_m, macs_m = deployed_cost(method.deployed(backbone).eval(), 8)
    assert params_m * 1e6 == pytest.approx(stem + projector + (WIDTH + 1) * CLASSES)
    convs = 9 * 3 * CHANNELS * 9 + GRID**2 * (CHANNELS * half + half * half * 9 + half * WIDTH)
    assert macs_m * 1e6 == pytest.approx(convs + WIDTH * CLASSES)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit", "lcnet_050", "mobilenetv3_small_050"])
def test_dropping_head_keeps_last_map(name):
    torch.manual_seed(0)
    size = 160 if name == "test_vit" else 64
    options = {"img_size": 160} if name == "test_vit" else {}
    model = timm.create_model(name, num_classes=0, **options).eval()
    images = torch.randn(2, 3, size, size)
    before, parameters = last_map(model, images), sum(p.numel() for p in model.parameters())
    drop_head(model, size)
    assert torch.equal(last_map(model, images), before)
    assert not model.training
    if name in ("lcnet_050", "mobilenetv3_small_050"):
        assert sum(p.numel() for p in model.parameters()) < parameters


def test_map_of_vit_has_patch_tokens_in_row_order_without_class_token():
    model = timm.create_model("test_vit", num_classes=0, img_size=160).eval()
    images = torch.randn(2, 3, 160, 160)
    tokens = model.forward_features(images)
    features = last_map(model, images)
    assert features.shape == (2, 64, 10, 10)
    torch.testing.assert_close(features[:, :, 3, 7], tokens[:, 1 + 3 * 10 + 7])
    assert map_shape(model, 160) == (64, 10)


def test_larger_maps_are_averaged_and_others_kept():
    features = torch.arange(16.0).view(1, 1, 4, 4)
    assert torch.equal(pooled_to(features, 2), torch.tensor([[[[2.5, 4.5], [10.5, 12.5]]]]))
    assert pooled_to(features, 4) is features


def test_blueprint_builds_same_network(backbone):
    student = SimKdStudent(backbone, CHANNELS, WIDTH, CLASSES, GRID, signed=False)
    again = SimKdStudent(backbone, **student.blueprint())
    assert again.blueprint() == student.blueprint()
    assert {n: v.shape for n, v in again.state_dict().items()} == {n: v.shape for n, v in student.state_dict().items()}
