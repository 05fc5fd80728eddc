"""Tests of a run's options: files, defaults, resolving, and messages on wrong values."""

from __future__ import annotations

import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tcs_edge.errors import SpecError, UsageError
from tcs_edge.project.read import read_options
from tcs_edge.specs.config import CompressConfig, ResolvedConfig, config_toml, load_config
from tcs_edge.specs.defaults import ChosenStudent, Machine, default_lr, resolve, with_data_defaults
from tcs_edge.specs.methods import METHODS, TcsOptions
from tcs_edge.specs.options import Int8Options
from tcs_edge.specs.strict import validated
from tcs_edge.specs.training import TrainOptions

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
paths = st.text("abc é'\"\\/.#\n", min_size=1, max_size=12).map(Path)
positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
sizes = st.integers(16, 1024)
FIELDS = {
    "target": words, "data": st.none() | paths, "teacher": st.none() | words, "teacher_weights": st.none() | paths,
    "teacher_img_size": st.none() | sizes, "student": words, "student_init": words,
    "method": st.sampled_from(["tcs", "ce"]), "shots": st.none() | st.integers(1, 10**4),
    "epochs": st.none() | st.integers(1, 10**6),
    "batch_size": st.integers(2, 4096), "img_size": st.none() | sizes, "lr": st.none() | st.floats(1e-9, 100),
    "augment": st.sampled_from([None, "none", "crop", "crop-flip"]), "max_latency_ms": st.none() | positive,
    "max_size_mb": st.none() | positive, "max_params_m": st.none() | positive,
    "device": st.sampled_from(["auto", "cpu", "cuda", "mps"]),
    "threads": st.none() | st.integers(1, 512), "workers": st.none() | st.integers(0, 64),
    "precision": st.none() | st.lists(st.sampled_from(["fp32", "fp16", "int8"])).map(tuple),
    "max_accuracy_drop": st.floats(0, 0.99), "dynamic_batch": st.booleans(), "embed_preprocess": st.booleans(),
    "with_embedding": st.booleans(),
    "int8": st.builds(Int8Options, calibration_images=st.integers(8, 4096), rounds=st.integers(0, 64)),
    "cache_dir": st.none() | paths, "cache_gb": st.floats(0, 1e6), "seed": st.integers(0, 2**31 - 1),
    "log": st.none() | st.lists(st.sampled_from(["tensorboard", "wandb", "mlflow"]), max_size=3).map(tuple),
    "tcs": st.builds(
        TcsOptions, dims=st.integers(2, 4096), kept_fraction=st.floats(0.01, 1), mimic_weight=st.floats(0, 100),
        mimic=st.sampled_from(["cosine", "mse", "lsh", "lsh+mse", "none"]), hash_bits=st.integers(8, 4096),
    ),
}  # fmt: skip
FIELDS["train"] = st.builds(
    TrainOptions, amp=st.sampled_from(["auto", "no", "bf16", "fp16"]), mixup=st.floats(0, 100),
    label_smoothing=st.floats(0, 0.99), rand_augment=st.integers(0, 30), rand_augment_ops=st.integers(1, 14),
    ema_decay=st.floats(0, 0.9999), weight_decay=st.floats(0, 1), warmup_fraction=st.floats(0, 0.99),
    grad_clip=positive, compile=st.booleans(), deterministic=st.booleans(),
)  # fmt: skip
configs = st.builds(CompressConfig, **FIELDS)


@settings(deadline=None)
@given(configs)
def test_config_survives_writing_and_reading(tmp_path_factory, config):
    path = tmp_path_factory.mktemp("config") / "run.toml"
    path.write_bytes(config_toml(config).encode())
    assert validated(CompressConfig, load_config(path), path) == config


def resolved(config, kind="cnn", typical_px=64, student="lcnet_050") -> ResolvedConfig:
    asked = with_data_defaults(config, typical_px)
    chosen = ChosenStudent(student if asked.student == "auto" else asked.student, kind, asked.img_sizes[0])
    return resolve(asked, chosen, "table", asked.precision or ("fp32",), Machine(asked.threads or 1, 0, "no"))


@settings(deadline=None)
@given(configs, st.integers(1, 5000), st.sampled_from(["cnn", "hybrid", "transformer", "unknown"]))
def test_resolving_fills_every_open_option_and_is_idempotent(config, typical_px, kind):
    run = resolved(config, kind, typical_px)
    resolved_names = ("teacher", "student", "student_init", "epochs", "img_size", "lr", "augment", "threads", "workers")
    assert [name for name in resolved_names if getattr(run, name) in (None, "auto")] == []
    assert None not in run.tcs.model_dump(exclude={"soft_share"}).values()
    again = CompressConfig.model_validate(run.model_dump(exclude_none=True))
    assert resolved(again, kind, typical_px) == run


def test_resolved_config_rejects_open_options():
    open_options = CompressConfig(target="t", data=Path("d")).model_dump()
    with pytest.raises(ValidationError):
        ResolvedConfig.model_validate(open_options)
    with pytest.raises(ValidationError, match="not resolved"):
        resolved(CompressConfig(target="t")).replaced(student="auto")


def test_changed_config_is_validated_again():
    with pytest.raises(ValidationError, match="method ce needs labels"):
        CompressConfig(target="t", shots=2, rest_unlabeled=True).replaced(method="ce")
    changed = CompressConfig(target="t", shots=2).replaced(epochs=3)
    assert changed.model_fields_set == {"target", "shots", "epochs"}


@pytest.mark.parametrize("name", ["ncnn", "litert"])
def test_an_embedding_is_not_for_formats_with_one_output(name):
    with pytest.raises(ValidationError, match=f"files of {name} have one output"):
        CompressConfig(target="raspberrypi", with_embedding=True, format=(name,))
    assert CompressConfig(target="raspberrypi", with_embedding=True).with_embedding


@settings(deadline=None)
@given(configs, st.integers(1, 5000))
def test_explicit_options_survive_resolving(config, typical_px):
    run = resolved(config, "transformer", typical_px).model_dump()
    chosen = config.model_dump(exclude_none=True)
    for table in ("tcs", "kd", "dkd", "int8", "train"):
        given_table = {name: value for name, value in chosen.pop(table).items() if name != "amp"}
        assert run.pop(table).items() >= given_table.items()
    assert [name for name, value in chosen.items() if value != "auto" and run[name] != value] == []


@pytest.mark.parametrize(("typical_px", "img_size"), [(1, 32), (32, 32), (33, 64), (64, 64), (200, 224), (3000, 224)])
def test_default_input_size_follows_image_size_up_to_224(typical_px, img_size):
    assert with_data_defaults(CompressConfig(target="t", data=Path("d")), typical_px).img_size == img_size


def test_student_from_random_weights_trains_longer():
    defaults = {
        init: with_data_defaults(CompressConfig(target="t", data=Path("d"), student_init=init), 64).epochs
        for init in ("random", "auto")
    }
    assert (defaults["random"] or 0) > (defaults["auto"] or 0)


def resolved_tcs(kind, init, **given):
    return resolved(CompressConfig(target="t", data=Path("d"), student_init=init, **given), kind).tcs


def test_no_student_has_a_mimic_warmup_unless_asked():
    for kind in ("cnn", "hybrid", "transformer"):
        for init in ("random", "pretrained", "weights.safetensors"):
            assert resolved_tcs(kind, init).mimic_warmup == 0
    assert resolved_tcs("cnn", "random", tcs=TcsOptions(mimic_warmup=0.3)).mimic_warmup == 0.3


WITHOUT_LABELS = {"--unlabeled": {"unlabeled": Path("more")}, "--shots": {"shots": 5, "rest_unlabeled": True}}


@pytest.mark.parametrize("images", [{}, {"shots": 5}, *WITHOUT_LABELS.values()], ids=str)
@pytest.mark.parametrize("init", ["random", "pretrained", "weights.safetensors"])
@pytest.mark.parametrize("kind", ["cnn", "hybrid", "transformer"])
def test_default_losses_are_the_same_for_every_student_and_set_of_labels(kind, init, images):
    tcs = resolved_tcs(kind, init, **images)
    assert (tcs.soft_labels, tcs.soft_share, tcs.mimic, tcs.mimic_weight) == (True, None, "cosine", 0.1)
    assert tcs.probe_start is (init == "random")


def test_given_losses_override_defaults():
    tcs = resolved_tcs("cnn", "pretrained", tcs=TcsOptions(soft_share=0.5, probe_start=True))
    assert (tcs.soft_share, tcs.mimic_weight, tcs.probe_start) == (0.5, 0.1, True)


@pytest.mark.parametrize("init", ["random", "pretrained", "weights.safetensors"])
def test_default_learning_rate_is_lower_for_transformers_and_pretrained_weights(init):
    def lr(kind, init=init, **given):
        return resolved(CompressConfig(target="t", data=Path("d"), student_init=init, **given), kind).lr

    assert lr("transformer") < lr("cnn") == lr("unknown")
    assert lr("cnn") <= lr("cnn", "random")
    assert lr("transformer", lr=0.5) == 0.5


@pytest.mark.parametrize(
    ("init", "epochs", "images", "rate"),
    [
        ("pretrained", 3, 1300, 2e-3), ("pretrained", 15, 1200, 1.9e-3), ("pretrained", 30, 3000, 1e-3),
        ("pretrained", 1, 100, 2e-3), ("random", 7, 1300, 7.4e-3), ("random", 5, 6000, 4.1e-3),
        ("random", 60, 3000, 2e-3), ("random", 1, 100, 8e-3),
    ],
)  # fmt: skip
def test_default_learning_rate_is_higher_in_short_runs(init, epochs, images, rate):
    asked = with_data_defaults(CompressConfig(target="t", data=Path("d"), student_init=init, epochs=epochs), 64)
    assert default_lr(asked, "cnn", images) == pytest.approx(rate, rel=0.03)
    assert default_lr(asked, "transformer", images) == default_lr(asked, "transformer", 10**6)
    assert default_lr(asked.replaced(batch_size=256), "cnn", 10**7) == 2 * default_lr(asked, "cnn", 10**7)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"epoch": 3}, "Did you mean epochs"),
        ({"max_latency": 3}, "max_latency_ms"),
        ({"tcs": {"kept_fractoin": 0.5}}, "Did you mean kept_fraction"),
        ({"epochs": 0}, "epochs: "),
        ({"train": {"mix_up": 0.2}}, "Did you mean mixup"),
        ({"train": {"label_smoothing": 1.0}}, "train.label_smoothing: "),
        ({"method": "ce", "search": "halving"}, "has no teacher, but search halving needs one"),
        (
            {"method": "kd", "kd": {"soft_labels": "student"}, "search": "alignment"},
            "has no teacher, but search alignment needs one",
        ),
        ({"search": "table", "search_img_sizes": [32]}, "uses one input size"),
        (
            {"method": "ce", "online_teacher": True},
            "not available with method ce. Methods that have it: simkd, kd, dkd",
        ),
        ({"unlabeled": "more"}, "Pass --data too"),
        ({"rest_unlabeled": True}, "Pass --shots too"),
        (
            {"shots": 2, "rest_unlabeled": True, "method": "dkd"},
            "needs labels. Methods that do not: tcs, tcs-paper, simkd, kd",
        ),
        ({"method": "simkd", "train": {"label_smoothing": 0.1}}, "uses no labels. Leave label_smoothing out"),
        ({"train": {"ema_decay": 1.0}}, "train.ema_decay: "),
        ({"train": {"rand_augment": 31}}, "train.rand_augment: "),
        ({"train": {"amp": "fp8"}}, "Known: auto, no, bf16"),
        ({"lr": float("nan")}, "lr: "),
        ({"tcs": {"kept_fraction": 1.1}}, "tcs.kept_fraction: "),
        ({"method": "tsc"}, "Did you mean tcs"),
        ({"img_size": "large"}, "img_size: "),
        ({"seed": -1}, "seed: "),
    ],
)
def test_message_on_wrong_option_names_key_and_fix(raw, message):
    with pytest.raises(SpecError) as caught:
        validated(CompressConfig, {"target": "t"} | raw, Path("run.toml"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text('target = "raspberrypi4"\nepochs = 9\nlr = 0.5\n[tcs]\ndims = 7\n')
    return path


def test_flags_override_config_file(file):
    options = read_options({"epochs": 3}, file, resume=None)
    assert (options.target, options.epochs, options.lr, options.tcs.dims) == ("raspberrypi4", 3, 0.5, 7)


def test_flags_of_training_loop_override_train_table(file):
    with file.open("a") as table:
        table.write("[train]\nmixup = 0.3\nema_decay = 0.9\n")
    train = read_options({"mixup": 0.1, "amp": "bf16"}, file, resume=None).train
    assert (train.mixup, train.ema_decay, train.amp) == (0.1, 0.9, "bf16")
    assert read_options({"target": "t", "deterministic": True}, None, None).train == TrainOptions(deterministic=True)


def test_train_option_that_is_not_a_table_raises_even_with_flags(file):
    file.write_text('target = "t"\ntrain = 3\n')
    with pytest.raises(SpecError, match="train: "):
        read_options({"mixup": 0.1}, file, resume=None)


def test_train_options_and_run_options_have_different_names():
    """Their flags share one command line."""
    assert not set(TrainOptions.model_fields) & set(CompressConfig.model_fields)


def test_options_come_from_flags_or_file_alone(file):
    assert read_options({"target": "x86-avx2"}, None, None).epochs is None
    assert read_options({}, file, None).epochs == 9
    with pytest.raises(UsageError, match="no target"):
        read_options({"epochs": 3}, None, None)


@pytest.mark.parametrize("content", [b"epochs = ", b"\xff\xfe", b"epochs = 1\nepochs = 2", b"\r"])
def test_invalid_toml_raises(tmp_path, content):
    (tmp_path / "run.toml").write_bytes(content)
    with pytest.raises(SpecError, match="TOML"):
        load_config(tmp_path / "run.toml")


@given(st.binary(max_size=60))
def test_any_file_content_loads_or_raises_spec_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("bytes") / "run.toml"
    path.write_bytes(content)
    try:
        tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        with pytest.raises(SpecError, match=r"run\.toml"):
            load_config(path)
    else:
        assert isinstance(load_config(path), dict)


def test_folder_or_missing_path_as_config_raises(tmp_path):
    for path in (tmp_path, tmp_path / "none.toml"):
        with pytest.raises(SpecError, match=str(path)):
            load_config(path)


def test_limit_of_demo_does_not_apply_to_named_student():
    chosen = with_data_defaults(CompressConfig(target="t"), 8)
    named = with_data_defaults(CompressConfig(target="t", student="resnet18"), 8)
    assert (chosen.max_latency_ms, chosen.max_params_m) == (None, 0.9)
    assert (named.max_latency_ms, named.max_params_m) == (None, None)
    assert with_data_defaults(CompressConfig(target="t", student="resnet18", max_latency_ms=1), 8).max_latency_ms == 1


def test_every_method_of_registry_has_build_function():
    for name, facts in METHODS.items():
        assert callable(import_module(facts.module).build), name


def test_tcs_paper_has_the_losses_of_the_paper_for_every_student_and_overrides():
    """Cross-entropy and hash bits; no soft labels, no probe, no warm-up (arXiv 2412.09388)."""
    for kind, init in (("cnn", "random"), ("cnn", "pretrained"), ("transformer", "random")):
        for images in ({}, *WITHOUT_LABELS.values()):
            tcs = resolved_tcs(kind, init, method="tcs-paper", **images)
            assert (tcs.soft_labels, tcs.mimic, tcs.mimic_weight) == (False, "lsh", 5)
            assert (tcs.mimic_warmup, tcs.probe_start) == (0, False)
    asked = resolved_tcs("cnn", "pretrained", method="tcs-paper", tcs=TcsOptions(mimic="mse", mimic_weight=2))
    assert (asked.mimic, asked.mimic_weight, asked.soft_labels) == ("mse", 2, False)
    assert resolved_tcs("cnn", "pretrained").mimic == "cosine"
