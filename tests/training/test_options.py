"""Tests of the loop with mixup, averaging, mixed precision and compiling: results and exact resuming."""

from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator

from tcs_edge.errors import DataError, TrainingDiverged
from tcs_edge.methods import CrossEntropy
from tcs_edge.specs.training import TrainOptions
from tcs_edge.training import trainer
from tcs_edge.training.accelerator import make_accelerator
from tcs_edge.training.ema import WeightAverage
from tcs_edge.training.mixup import draw_mix
from tcs_edge.training.schedule import Schedule
from tcs_edge.training.trainer import Data, accuracy_of, train

BUDGET = Schedule(epochs=4, batch_size=16, lr=0.02)
EVERYTHING = {"mixup": 0.4, "ema_decay": 0.9}


@pytest.fixture(autouse=True)
def checkpoint_every_epoch(monkeypatch):
    monkeypatch.setattr(trainer, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    monkeypatch.setattr(trainer, "COMPILER", "aot_eager")  # traces like torch.compile, without a C++ compiler


def run(
    problem,
    options,
    path=None,
    resume=False,
    stop_after=None,
    accelerator=None,
    mimic="cosine",
    log=None,
    schedule=BUDGET,
):
    """Return backbone and method after training, and all their weights by name."""
    backbone, method = problem.backbone(), problem.method(mimic=mimic, hash_bits=64)

    def batches(epoch):
        if epoch == stop_after:
            raise KeyboardInterrupt
        return problem.batches(epoch)

    data, options = Data(batches, 3, problem.data.val), TrainOptions(**options)
    accelerator = accelerator or make_accelerator("cpu", options.amp)
    try:
        train(backbone, method, data, schedule, 0, accelerator, path, resume, options, log or (lambda line: None))
    except KeyboardInterrupt:
        assert stop_after is not None
    return backbone, method, {**backbone.state_dict(), **method.state_dict()}


def differing(one, other):
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]


CASES = [
    {"mixup": 0.4}, {"ema_decay": 0.9}, {"amp": "bf16"}, {"compile": True},
    EVERYTHING | {"amp": "bf16"}, EVERYTHING | {"compile": True},
]  # fmt: skip


@pytest.mark.parametrize("options", CASES, ids=lambda options: "+".join(options))
def test_a_resumed_run_equals_an_uninterrupted_one(problem, tmp_path, options):
    *_, whole = run(problem, options, tmp_path / "whole", mimic="lsh+mse")
    run(problem, options, tmp_path / "broken", stop_after=2, mimic="lsh+mse")
    *_, resumed = run(problem, options, tmp_path / "broken", resume=True, mimic="lsh+mse")
    assert differing(whole, resumed) == []


@pytest.mark.parametrize("options", CASES[:3], ids=lambda options: "+".join(options))
def test_every_option_changes_the_result_and_keeps_names_and_types(problem, options):
    *_, plain = run(problem, {})
    *_, changed = run(problem, options)
    assert differing(plain, changed)
    assert {name: value.dtype for name, value in changed.items()} == {name: v.dtype for name, v in plain.items()}
    assert all(torch.isfinite(value).all() for value in changed.values())


@pytest.mark.parametrize("options", [{}, *CASES[:3]], ids=lambda options: "+".join(options) or "plain")
def test_training_learns_with_every_option(problem, options):
    options = options | ({"ema_decay": 0.6} if "ema_decay" in options else {})
    backbone, method, _ = run(problem, options, schedule=replace(BUDGET, epochs=8))
    assert accuracy_of(backbone, method, problem.data.val(), make_accelerator("cpu")) > 0.8


def test_each_step_uses_its_own_mixup_draw(problem, accelerator):
    seen = []

    class Spy(CrossEntropy):
        def losses(self, backbone, batch):
            seen.append(batch)
            return super().losses(backbone, batch)

    train(problem.backbone(), Spy(12, 3), problem.data, BUDGET, 5, accelerator, options=TrainOptions(mixup=0.4))
    plain = [rows for epoch in range(4) for rows in problem.batches(epoch)]
    assert len(seen) == len(plain) == 12
    for step, (batch, (images, labels, index)) in enumerate(zip(seen, plain, strict=True)):
        mix = draw_mix(16, 0.4, 5, step // 3, step, torch.device("cpu"))
        torch.testing.assert_close(batch.images, mix.share * images + (1 - mix.share) * images[mix.partner])
        assert torch.equal(batch.labels, labels)
        assert torch.equal(batch.index, index)


def test_averaging_does_not_change_training_and_validates_the_average(problem, monkeypatch):
    """The steps are the same as without averaging, and the final weights are the average over the steps."""
    taken, update = [], WeightAverage.update

    def spy(average, step):
        update(average, step)
        taken.append((step, average.live["method.head.adapter.weight"].clone()))

    monkeypatch.setattr(WeightAverage, "update", spy)
    lines = []
    backbone, method, averaged = run(problem, {"ema_decay": 0.8}, log=lines.append)
    *_, plain = run(problem, {})
    assert torch.equal(taken[-1][1], plain["head.adapter.weight"])
    wanted = problem.method().head.adapter.weight.detach().double()
    for step, weight in taken:
        decay = min(0.8, (1 + step) / (10 + step))
        wanted = decay * wanted + (1 - decay) * weight.double()
    torch.testing.assert_close(averaged["head.adapter.weight"].double(), wanted, rtol=1e-5, atol=1e-6)
    assert lines[-1]["val_accuracy"] == accuracy_of(backbone, method, problem.data.val(), make_accelerator("cpu"))


def test_a_checkpoint_without_the_average_is_refused(problem, tmp_path):
    run(problem, {}, tmp_path / "state", stop_after=2)
    with pytest.raises(DataError, match="does not fit this run"):
        run(problem, {"ema_decay": 0.9}, tmp_path / "state", resume=True)


def test_compiled_training_equals_plain_training(problem):
    (*_, plain), (*_, compiled) = run(problem, {"mixup": 0.4}), run(problem, {"mixup": 0.4, "compile": True})
    assert plain.keys() == compiled.keys()
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("options", [{"amp": "bf16"}, EVERYTHING, {"compile": True}], ids=lambda o: "+".join(o))
def test_a_nan_stops_the_training_with_every_option(problem, options):
    problem.images[problem.labels == 1] = float("nan")
    with pytest.raises(TrainingDiverged, match=r"nan at step 0\. Lower --lr"):
        run(problem, options)


def float16(**options):
    """Return an fp16 accelerator on the CPU with the scaler of a GPU, which make_accelerator refuses."""
    accelerator = Accelerator(cpu=True)
    accelerator.state._mixed_precision, accelerator.native_amp = "fp16", True
    accelerator.scaler = torch.amp.GradScaler("cpu", **options)
    return accelerator


@pytest.fixture
def undo_float16():
    yield
    make_accelerator("cpu", "bf16")  # another precision resets accelerate's state


@pytest.mark.usefixtures("undo_float16")
def test_a_step_with_overflowed_fp16_gradients_changes_nothing(problem):
    """A loss scale of 2^100 overflows and halves at every step, so all twelve steps are skipped."""
    before = problem.method().state_dict()
    _, method, after = run(problem, {}, accelerator=float16(init_scale=2.0**100, growth_interval=1000))
    learned = [name for name in before if not torch.equal(before[name], after[name])]
    assert learned == [], "no weight, score or mask may change"
    assert method.history() == []


@pytest.mark.usefixtures("undo_float16")
def test_fp16_resumes_with_its_loss_scale(problem, tmp_path):
    scaler = {"init_scale": 2.0**14, "growth_interval": 2}
    whole = float16(**scaler)
    *_, unbroken = run(problem, {}, tmp_path / "whole", accelerator=whole)
    run(problem, {}, tmp_path / "broken", stop_after=2, accelerator=float16(**scaler))
    second = float16(**scaler)
    *_, resumed = run(problem, {}, tmp_path / "broken", resume=True, accelerator=second)
    assert differing(unbroken, resumed) == []
    assert second.scaler.get_scale() == whole.scaler.get_scale() != 2.0**14


@pytest.mark.usefixtures("undo_float16")
def test_fp16_without_a_usable_loss_scale_stops(problem, monkeypatch):
    monkeypatch.setattr(trainer, "SMALLEST_LOSS_SCALE", 2.0**99)
    with pytest.raises(TrainingDiverged, match=r"at every scale, up to step 2\. Lower --lr or pass --amp"):
        run(problem, {}, accelerator=float16(init_scale=2.0**100))
