"""Tests of the training loop: learning, exact resuming, stopping at NaN, folding."""

import json
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tcs_edge.errors import DataError, MissingError, TrainingDiverged
from tcs_edge.training import trainer
from tcs_edge.training.fold import fold_student, load_deployed, save_deployed
from tcs_edge.training.schedule import Schedule
from tcs_edge.training.trainer import VALIDATIONS, Data, accuracy_of, train, validates

BUDGET = Schedule(epochs=6, batch_size=16, lr=0.02)


@pytest.fixture(autouse=True)
def checkpoint_every_epoch(monkeypatch):
    monkeypatch.setattr(trainer, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)


def test_training_learns_and_logs_every_epoch(problem, accelerator):
    backbone, method, lines = problem.backbone(), problem.method(), []
    train(backbone, method, problem.data, BUDGET, 0, accelerator, log=lines.append)
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert lines[-1]["ce"] < lines[0]["ce"] / 2
    assert lines[-1]["val_accuracy"] > 0.9
    json.dumps(lines)
    assert accuracy_of(backbone, method, problem.data.val(), accelerator) == lines[-1]["val_accuracy"]


def test_every_epoch_is_one_line_with_loss_and_validation_accuracy(problem, accelerator, recorder):
    schedule = Schedule(epochs=VALIDATIONS + 2, batch_size=16, lr=0.02)  # every other epoch is validated
    metrics = []
    train(problem.backbone(), problem.method(), problem.data, schedule, 0, accelerator, log=metrics.append)
    lines = [line for line in recorder.said if line.startswith("epoch ")]
    assert len(lines) == schedule.epochs
    for line, found in zip(lines, metrics, strict=True):
        assert line.startswith(f"epoch {found['epoch']} of {schedule.epochs}: loss {found['loss']:.3f}, ")
        assert ("validation accuracy" in line) == ("val_accuracy" in found)
    assert f"validation accuracy {100 * metrics[-1]['val_accuracy']:.1f} %, " in lines[-1]


def test_method_and_backbone_have_their_own_learning_rates(problem, accelerator, monkeypatch):
    steps, lines = [], []
    backbone, method = problem.backbone(), problem.method()
    monkeypatch.setattr(method, "head_lr", lambda lr: 0.25 * lr)

    class Watched(torch.optim.AdamW):
        def step(self, *args, **options):
            own = {id(weight) for weight in method.parameters()}
            steps.append({(id(group["params"][0]) in own, group["lr"]) for group in self.param_groups})
            return super().step(*args, **options)

    monkeypatch.setattr(torch.optim, "AdamW", Watched)
    train(backbone, method, problem.data, BUDGET, 0, accelerator, log=lines.append)
    for number, rates in enumerate(steps):
        lr = BUDGET.lr_at(number, len(steps))
        assert rates == {(False, lr), (True, 0.25 * lr)}
    assert lines[-1]["lr"] == BUDGET.lr_at(len(steps) - 1, len(steps))


def test_fused_adamw_equals_the_plain_loop(problem, accelerator, monkeypatch):
    plain_adamw = torch.optim.AdamW

    def trained():
        backbone = problem.backbone()
        train(backbone, problem.method(), problem.data, BUDGET, 0, accelerator)
        assert not backbone[0].weight.is_contiguous()  # channels last, with another order in memory
        return backbone[0].weight.detach()

    fused = trained()
    monkeypatch.setattr(torch.optim, "AdamW", lambda groups, lr, fused: plain_adamw(groups, lr=lr, foreach=False))
    torch.testing.assert_close(fused, trained(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("epochs", [1, 2, 19, 20, 21, 40, 187])
def test_validation_follows_the_last_epoch_and_is_rare_for_many_epochs(epochs):
    validated = [epoch for epoch in range(epochs) if validates(epoch, epochs)]
    assert validated[-1] == epochs - 1
    assert min(epochs, 10) <= len(validated) <= VALIDATIONS


@pytest.mark.parametrize(("mimic", "mimic_warmup"), [("cosine", 0.0), ("cosine", 0.7), ("lsh+mse", 0.2)])
def test_a_resumed_run_equals_an_uninterrupted_one(problem, accelerator, tmp_path, mimic, mimic_warmup):
    def finish(stop_after, path, resume=False, backbone=None, method=None):
        backbone, method = problem.backbone(), problem.method(mimic=mimic, mimic_warmup=mimic_warmup, hash_bits=64)
        seen = []

        def batches(epoch):
            if epoch == stop_after:
                raise KeyboardInterrupt
            seen.append(epoch)
            return problem.batches(epoch)

        data = Data(batches, 3, problem.data.val)
        try:
            train(backbone, method, data, BUDGET, 0, accelerator, path, resume)
        except KeyboardInterrupt:
            assert path.exists()
        return backbone.state_dict() | method.state_dict(), method.history(), seen

    whole, history, _ = finish(None, tmp_path / "whole.safetensors")
    finish(3, tmp_path / "broken.safetensors")
    resumed, resumed_history, seen = finish(None, tmp_path / "broken.safetensors", resume=True)
    assert seen == [3, 4, 5]
    assert resumed_history == history
    assert history
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_a_nan_loss_stops_with_its_step_and_keeps_the_checkpoint(problem, accelerator, tmp_path):
    def batches(epoch):
        for index, (images, labels, ids) in enumerate(problem.batches(epoch)):
            yield (images * float("nan") if (epoch, index) == (2, 1) else images), labels, ids

    path = tmp_path / "last.safetensors"
    data = Data(batches, 3, problem.data.val)
    with pytest.raises(TrainingDiverged, match=r"nan at step 7\. Lower --lr"):
        train(problem.backbone(), problem.method(), data, BUDGET, 0, accelerator, path)
    train(problem.backbone(), problem.method(), problem.data, BUDGET, 0, accelerator, path, resume=True)


def test_a_damaged_or_foreign_checkpoint_is_refused(problem, accelerator, tmp_path):
    path = tmp_path / "last.safetensors"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(DataError, match="does not fit this run"):
        train(problem.backbone(), problem.method(), problem.data, BUDGET, 0, accelerator, path, resume=True)


@pytest.mark.parametrize("name", ["optimizer/many/exp_avg", "optimizer/9999/exp_avg", "optimizer/0", "optimizer/-/-/-"])
def test_a_checkpoint_with_damaged_moments_is_refused(problem, accelerator, tmp_path, name):
    path = tmp_path / "last.safetensors"
    train(problem.backbone(), problem.method(), problem.data, BUDGET, 0, accelerator, path)
    with safe_open(path, framework="pt") as stored:
        tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118
        notes = stored.metadata()
    save_file(tensors | {name: torch.zeros(3)}, path, notes)
    with pytest.raises(DataError, match="does not fit this run"):
        train(problem.backbone(), problem.method(), problem.data, BUDGET, 0, accelerator, path, resume=True)


def test_the_deployed_model_equals_the_trained_one(problem, accelerator, tmp_path):
    backbone, method = problem.backbone(), problem.method()
    train(backbone, method, problem.data, BUDGET, 0, accelerator)
    model, difference = fold_student(backbone, method, problem.images)
    assert difference <= 1e-5
    reference = method.logits(backbone, problem.images)
    torch.testing.assert_close(model(problem.images), reference, rtol=1e-4, atol=1e-4)

    save_deployed(tmp_path / "deployed.safetensors", model)
    again = load_deployed(tmp_path / "deployed.safetensors", problem.backbone(), 8)
    assert torch.equal(again(problem.images), model(problem.images))


def test_the_learning_rate_rises_then_falls_to_zero():
    schedule = Schedule(epochs=1, batch_size=2, lr=1.0, warmup_fraction=0.1)
    rates = [schedule.lr_at(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == pytest.approx(1.0)
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[-1] < 0.01


def test_nan_weights_after_the_last_step_are_not_saved(problem, accelerator, tmp_path):
    path, backbone = tmp_path / "last.safetensors", problem.backbone()

    def batches(epoch):
        yield from problem.batches(epoch)
        if epoch == 2:
            backbone[0].weight.data[0] = float("nan")

    with pytest.raises(TrainingDiverged, match=r"after step 8\. Lower --lr"):
        train(backbone, problem.method(), Data(batches, 3, problem.data.val), BUDGET, 0, accelerator, path)
    with safe_open(path, "pt") as stored:
        assert all(torch.isfinite(stored.get_tensor(name)).all() for name in stored.keys())  # noqa: SIM118


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of file sizes on Windows")
def test_a_full_disk_is_an_error_and_leaves_no_files(problem, accelerator, tmp_path):
    import resource

    backbone, method = problem.backbone(), problem.method()
    model, _ = fold_student(backbone, method, problem.images)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(MissingError, match="cannot be written"):
            save_deployed(tmp_path / "deployed.safetensors", model)
        with pytest.raises(MissingError, match="cannot be written"):
            train(backbone, method, problem.data, BUDGET, 0, accelerator, tmp_path / "last.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_every_step_once(problem, accelerator, recorder):
    train(problem.backbone(), problem.method(), problem.data, BUDGET, 0, accelerator)
    steps = BUDGET.epochs * problem.data.steps_per_epoch
    assert recorder.tracked == [("distill", steps)]
    assert recorder.ticks == steps
