from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch
from safetensors import safe_open
from sklearn.neighbors import KNeighborsClassifier

from tcs_edge.data.digits import digits
from tcs_edge.data.images import ImageSet, Split
from tcs_edge.data.preprocess import Preprocess
from tcs_edge.errors import MissingError
from tcs_edge.teachers import digits as teacher_module
from tcs_edge.teachers.digits import (
    DIM,
    IMG_SIZE,
    LICENSE,
    MEAN,
    STD,
    WEIGHTS,
    DigitsTeacher,
    load_digits_teacher,
)


@pytest.fixture(scope="module")
def teacher() -> DigitsTeacher:
    return load_digits_teacher()


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return digits()


def _pixels(split: Split) -> torch.Tensor:
    preprocess = Preprocess(IMG_SIZE, mean=MEAN, std=STD)
    return torch.from_numpy(np.stack([preprocess(split.image(row)) for row in range(len(split))]))


@torch.inference_mode()
def _knn_accuracy(network: DigitsTeacher, images: ImageSet) -> float:
    bank, queries = (network(_pixels(split)).numpy() for split in (images.train, images.val))
    knn = KNeighborsClassifier(5, metric="cosine").fit(bank, images.train.labels)
    return float(knn.score(queries, images.val.labels))


@torch.inference_mode()
def test_map_and_features_have_the_documented_shapes(teacher: DigitsTeacher) -> None:
    batch = torch.rand(2, 3, IMG_SIZE, IMG_SIZE, generator=torch.Generator().manual_seed(0))
    last_map, features = teacher.forward_features(batch), teacher(batch)
    assert last_map.shape == (2, DIM, 4, 4)
    assert features.shape == (2, DIM)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, last_map.flatten(2).mean(dim=2))


def test_weights_are_small_fp16_and_complete(teacher: DigitsTeacher) -> None:
    assert WEIGHTS.stat().st_size <= 2_000_000
    floats = {key for key, value in teacher.state_dict().items() if value.is_floating_point()}
    with safe_open(WEIGHTS, "pt") as file:
        assert set(file.keys()) == floats
        assert {file.get_slice(key).get_dtype() for key in file.keys()} == {"F16"}  # noqa: SIM118


def test_weights_file_records_its_source() -> None:
    with safe_open(WEIGHTS, "pt") as file:
        facts = json.loads(file.metadata()["tcs_edge"])
    assert facts["license"] == LICENSE == "Apache-2.0"
    assert "CC BY 4.0" in facts["data"]
    accuracy = facts["accuracy_percent"]
    assert accuracy["teacher"]["linear_test"] >= 98
    assert accuracy["teacher"]["linear_test"] > accuracy["random_weights"]["linear_test"]


def test_loads_without_network_in_eval_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError("the built-in teacher used the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert not any(part.training for part in load_digits_teacher().modules())


@torch.inference_mode()
def test_features_do_not_depend_on_the_load_or_the_batch(images: ImageSet) -> None:
    batch = _pixels(images.val.subset(range(6)))
    first, second = load_digits_teacher(), load_digits_teacher()
    assert torch.equal(first(batch), second(batch))
    torch.testing.assert_close(first(batch[:1]), first(batch)[:1], rtol=1e-4, atol=1e-5)


def test_mean_and_std_match_the_training_images(images: ImageSet) -> None:
    pixels = _pixels(images.train)
    assert pixels.mean().item() == pytest.approx(0, abs=0.01)
    assert pixels.std().item() == pytest.approx(1, abs=0.01)


def test_features_beat_random_weights_on_validation(teacher: DigitsTeacher, images: ImageSet) -> None:
    torch.manual_seed(0)
    control = DigitsTeacher().eval()
    trained, untrained = _knn_accuracy(teacher, images), _knn_accuracy(control, images)
    assert trained >= 0.97
    assert trained > untrained + 0.03


def test_error_names_the_missing_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(teacher_module, "WEIGHTS", tmp_path / "digits.safetensors")
    with pytest.raises(MissingError, match=r"are missing: .*digits\.safetensors"):
        load_digits_teacher()
