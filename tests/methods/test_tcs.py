"""Tests of TCS: each loss, removed coordinates, the warm-up, and the head's learning rate."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cosine_similarity

from tcs_edge.data.images import UNLABELED
from tcs_edge.methods import Batch, CrossEntropy, Tcs
from tcs_edge.tcs.coordinates import fit_coordinates, random_axes
from tcs_edge.tcs.selection import SelectionSchedule

IDENTITY = nn.Identity()
IMAGES, DIMS, WIDTH, CLASSES = 40, 6, 8, 3


def make(mimic="cosine", **options):
    torch.manual_seed(0)
    targets = torch.randn(IMAGES, DIMS)
    return Tcs(WIDTH, CLASSES, targets, SelectionSchedule(), mimic=mimic, **options)


def batch():
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(10, WIDTH, generator=generator)
    return Batch(features, torch.arange(10) % CLASSES, torch.arange(10) * 3)


def test_cosine_mimicking_is_one_minus_the_mean_cosine():
    method = make("cosine", weight=2.0)
    rows = batch()
    losses = method.losses(IDENTITY, rows)
    target = method.targets[rows.index].float()
    expected = (1 - cosine_similarity(method.head.adapter(rows.images), target)).mean()
    torch.testing.assert_close(losses.parts["mimic"], expected.detach())
    torch.testing.assert_close(losses.total.detach(), losses.parts["ce"] + 2 * losses.parts["mimic"])


def test_mse_mimicking_is_one_for_student_that_predicts_zero():
    method = make("mse")
    nn.init.zeros_(method.head.adapter.weight)
    nn.init.zeros_(method.head.adapter.bias)
    assert float(method.losses(IDENTITY, batch()).parts["mimic"]) == pytest.approx(1.0)


def test_lsh_mimicking_is_cross_entropy_on_hash_bits_of_teacher():
    method = make("lsh", hash_bits=64)
    rows = batch()
    bits = (method.targets[rows.index].float() @ method.directions + method.bias > 0).float()
    logits = method.head.adapter(rows.images) @ method.directions + method.bias
    expected = binary_cross_entropy_with_logits(logits, bits)
    torch.testing.assert_close(method.losses(IDENTITY, rows).parts["mimic"], expected.detach())


@pytest.mark.parametrize("mimic", ["cosine", "mse", "lsh", "lsh+mse"])
def test_removed_coordinates_do_not_affect_the_losses(mimic):
    method = make(mimic, hash_bits=64)
    method.head.selection.alive[2] = False
    method.restore_history([])
    before = method.losses(IDENTITY, batch())
    with torch.no_grad():
        method.head.adapter.weight[2] += 10
        method.targets[:, 2] += 10
    if "lsh" in mimic:
        method._rehash()
    after = method.losses(IDENTITY, batch())
    torch.testing.assert_close(before.total, after.total)


def test_loss_without_mimicking_is_cross_entropy():
    losses = make("none").losses(IDENTITY, batch())
    assert set(losses.parts) == {"ce"}
    torch.testing.assert_close(losses.total.detach(), losses.parts["ce"])


def test_warmup_trains_by_mimicking_alone_and_later_steps_by_the_whole_loss():
    method = make("cosine", weight=0.5, mimic_warmup=0.25, soft_labels=torch.randn(IMAGES, CLASSES), soft_share=0.6)
    for step in range(8):
        losses = method.losses(IDENTITY, batch())
        method.zero_grad()
        losses.total.backward()
        task = 0.4 * losses.parts["ce"] + 0.6 * losses.parts["soft"]
        expected = 0.5 * losses.parts["mimic"] + (0 if step < 2 else task)
        torch.testing.assert_close(losses.total.detach(), expected)
        assert method.head.adapter.weight.grad.any()
        for weight in (method.head.classifier.weight, method.head.selection.weight):
            assert bool(weight.grad.any()) == (step >= 2)
        method.after_backward(step, 8)


def test_feature_selection_removes_no_coordinate_in_the_warmup():
    method = make("cosine", mimic_warmup=0.5)
    for step in range(100):
        method.zero_grad()
        method.losses(IDENTITY, batch()).total.backward()
        method.after_backward(step, 100)
    assert min(event["step"] for event in method.history()) >= 55
    assert int(method.head.selection.alive.sum()) == DIMS // 2


@pytest.mark.parametrize("nothing", [{"mimic": "none"}, {"weight": 0.0}])
def test_without_mimicking_there_is_no_warmup(nothing):
    losses = make(mimic_warmup=0.5, **nothing).losses(IDENTITY, batch())
    torch.testing.assert_close(losses.total.detach(), losses.parts["ce"])


def test_checkpoints_contain_no_targets():
    assert not {"targets", "packed", "directions", "bias"} & set(make("lsh", hash_bits=64).state_dict())


def descend(method, steps=200):
    """Train the head alone by plain gradient descent and return the last cross-entropy."""
    rows = batch()
    rows = replace(rows, images=rows.images.double())
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    for step in range(steps):
        losses = method.losses(IDENTITY, rows)
        optimizer.zero_grad()
        losses.total.backward()
        method.after_backward(step, 10**9)
        optimizer.step()
    return float(method.losses(IDENTITY, rows).total.detach())


def test_choice_of_axes_changes_nothing_with_cross_entropy_alone():
    """An orthonormal change of axes before a trainable adapter changes no step of SGD."""
    coordinates = fit_coordinates([torch.randn(60, DIMS, dtype=torch.float64)])
    rotation = coordinates.axes.T @ random_axes(coordinates, torch.Generator().manual_seed(3)).axes
    plain, rotated = make("none").double(), make("none").double()
    with torch.no_grad():
        rotated.head.adapter.weight.copy_(rotation.T @ plain.head.adapter.weight)
        rotated.head.adapter.bias.copy_(rotation.T @ plain.head.adapter.bias)
        rotated.head.classifier.weight.copy_(plain.head.classifier.weight @ rotation)
    for method in (plain, rotated):
        method.head.selection.weight.requires_grad_(False)
    assert descend(plain) == pytest.approx(descend(rotated), abs=1e-12)


def test_cross_entropy_deploys_its_linear_layer():
    method = CrossEntropy(WIDTH, CLASSES)
    features = batch().images
    torch.testing.assert_close(method.deployed(IDENTITY)(features), method.logits(IDENTITY, features))


def a_probe():
    torch.manual_seed(5)
    return nn.Linear(DIMS, CLASSES)


def test_classifier_starts_as_given_probe():
    probe = a_probe()
    started = make(probe=probe).head.classifier
    assert torch.equal(started.weight, probe.weight)
    assert torch.equal(started.bias, probe.bias)
    assert not torch.equal(make().head.classifier.weight, probe.weight)


def test_loss_of_soft_labels_is_the_loss_of_kd():
    rows, temperature, logits = batch(), 3.0, torch.randn(IMAGES, CLASSES)
    method = make("none", soft_labels=logits, soft_share=0.3, temperature=temperature)
    losses = method.losses(IDENTITY, rows)
    target = (logits[rows.index] / temperature).softmax(1)
    predicted = (method.logits(IDENTITY, rows.images) / temperature).log_softmax(1)
    expected = temperature**2 * (target * (target.log() - predicted)).sum(dim=1).mean()
    torch.testing.assert_close(losses.parts["soft"], expected.detach(), rtol=2e-3, atol=1e-4)
    torch.testing.assert_close(losses.total.detach(), 0.7 * losses.parts["ce"] + 0.3 * losses.parts["soft"])


def test_images_without_labels_have_mimicking_and_soft_label_losses():
    rows = replace(batch(), labels=torch.full((10,), UNLABELED))
    losses = make(soft_labels=torch.randn(IMAGES, CLASSES), soft_share=0.2).losses(IDENTITY, rows)
    assert losses.parts["ce"] == 0
    assert losses.parts["mimic"] > 0
    torch.testing.assert_close(losses.total.detach(), losses.parts["soft"] + losses.parts["mimic"])


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_images_without_labels_do_not_weaken_the_labels_of_others(share):
    """The loss is the mean over images: an image's own loss depends on its label alone."""
    logits = torch.randn(IMAGES, CLASSES)
    method = make("none", soft_labels=logits, soft_share=share)
    rows = batch()
    some = replace(rows, labels=torch.where(torch.arange(10) < 4, rows.labels, UNLABELED))
    first, rest = (
        replace(some, **{name: getattr(some, name)[part] for name in ("images", "labels", "index")})
        for part in (slice(0, 4), slice(4, 10))
    )
    total = method.losses(IDENTITY, some).total
    parts = [method.losses(IDENTITY, part).total for part in (first, rest)]
    torch.testing.assert_close(total, (4 * parts[0] + 6 * parts[1]) / 10)
    alone = method.losses(IDENTITY, first)
    expected = (1 - share) * alone.parts["ce"] + share * alone.parts["soft"]
    torch.testing.assert_close(alone.total.detach(), expected)


@pytest.mark.parametrize("dims", [16, 256])
def test_step_at_head_learning_rate_moves_logits_like_one_linear_layer(dims):
    def moved(method, lr):
        features, labels = torch.rand(64, 1024), torch.arange(64) % CLASSES
        rows = Batch(features, labels, torch.arange(64) % IMAGES)
        before = method.logits(IDENTITY, features).detach()
        optimizer = torch.optim.AdamW(method.parameters(), lr=lr)
        method.losses(IDENTITY, rows).total.backward()
        optimizer.step()
        return float((method.logits(IDENTITY, features) - before).detach().abs().mean())

    def wide():
        torch.manual_seed(0)
        return Tcs(1024, CLASSES, torch.randn(IMAGES, dims), SelectionSchedule(), mimic="none")

    tcs = wide()
    one_layer = moved(CrossEntropy(1024, CLASSES), 2e-3)
    own = tcs.head_lr(2e-3)
    norms = tcs.head.classifier.weight.abs().sum(dim=1)
    assert own == pytest.approx(2e-3 / max(1.0, float(norms.detach().mean())))
    assert 0.3 < moved(tcs, own) / one_layer < 3
    assert own > 0.3 * 2e-3 or moved(wide(), 2e-3) / one_layer > 3


def test_head_learning_rate_depends_on_weights_of_probe():
    probe = nn.Linear(DIMS, CLASSES)
    nn.init.constant_(probe.weight, -2.0)
    assert make(probe=probe).head_lr(2e-3) == pytest.approx(2e-3 / (2 * DIMS))


@pytest.mark.parametrize(("lr", "own"), [(2e-3, 2e-4), (4e-3, 4e-4), (5e-4, 2e-4), (2e-4, 2e-4), (1e-4, 1e-4)])
def test_low_backbone_learning_rate_does_not_slow_the_head_down_further(lr, own):
    probe = nn.Linear(DIMS, CLASSES)
    nn.init.constant_(probe.weight, 10 / DIMS)
    assert make(probe=probe).head_lr(lr) == pytest.approx(own)


def test_linear_head_classifies_the_features_and_mimics_beside_them():
    method = make(linear_head=True)
    rows = batch()
    losses = method.losses(IDENTITY, rows)
    target = method.targets[rows.index].float()
    torch.testing.assert_close(method.logits(IDENTITY, rows.images), method.head.classifier(rows.images))
    mimicking = (1 - cosine_similarity(method.head.adapter(rows.images), target)).mean()
    torch.testing.assert_close(losses.parts["mimic"], mimicking.detach())
    torch.testing.assert_close(losses.total.detach(), losses.parts["ce"] + losses.parts["mimic"])
    losses.total.backward()
    for step in range(20):
        method.after_backward(step, 20)
    assert method.history() == []
    assert method.head.selection.alive.all()
    assert method.head_lr(1e-4) == 1e-4
    torch.testing.assert_close(method.deployed(IDENTITY)(rows.images), method.logits(IDENTITY, rows.images))
