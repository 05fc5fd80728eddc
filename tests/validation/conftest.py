"""One tiny model and its exports, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

from tcs_edge.data.preprocess import Preprocess
from tcs_edge.export.onnx import export_onnx
from tcs_edge.export.openvino import export_openvino

IMG_SIZE = 32
LABELS = ("cat", 'the "dog"', "Straße & <b>", "δ")


@pytest.fixture(scope="session")
def labels() -> tuple[str, ...]:
    return LABELS


@pytest.fixture(scope="session")
def preprocess() -> dict:
    return Preprocess(img_size=IMG_SIZE).to_json()


@pytest.fixture(scope="session")
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model("test_efficientnet", num_classes=len(LABELS)).eval()


@pytest.fixture(scope="session")
def onnx_path(model, labels, preprocess, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("static") / "model.onnx"
    return export_onnx(model, path, IMG_SIZE, labels=labels, preprocess=preprocess)


@pytest.fixture(scope="session")
def xml_path(onnx_path) -> Path:
    return export_openvino(onnx_path, onnx_path.with_suffix(".xml"))[0]
