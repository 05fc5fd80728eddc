"""Fixtures: tiny teachers with random weights, and images in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import timm
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

from tcs_edge.data.images import ImageSet, Split


def _random_weights(architecture: str, folder: Path) -> Path:
    torch.manual_seed(0)
    path = folder / f"{architecture}.safetensors"
    save_file(timm.create_model(architecture, num_classes=0).state_dict(), path)
    return path


@pytest.fixture(scope="session")
def vit_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _random_weights("test_vit", tmp_path_factory.mktemp("vit"))


@pytest.fixture(scope="session")
def cnn_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _random_weights("test_efficientnet", tmp_path_factory.mktemp("cnn"))


def _split(part: str, count: int, seed: int) -> Split:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 40, 40, 3), np.uint8)
    return Split(pixels, np.arange(count) % 2, tuple(f"{part}/{i}" for i in range(count)))


@pytest.fixture
def image_set() -> ImageSet:
    """20 train, 7 val and 5 test images of noise."""
    train, val, test = _split("train", 20, 1), _split("val", 7, 2), _split("test", 5, 3)
    return ImageSet("noise", ("a", "b"), train, val, test, fingerprint="f" * 64)


WIDTH = 8  # of the features of the tiny ONNX teacher
CAST = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}


@pytest.fixture
def make_onnx(tmp_path: Path) -> Callable[..., Path]:
    """make_onnx(shape=("n", 3, 16, 16), dtype="float32", ...): write a tiny feature extractor; return its path.

    Its `map` is (N, 8, h, w), from patches of 4 px. Its `embedding` (N, 8) is the mean of the map, times `scale`, plus
    `offset`.
    """

    def make(
        name: str = "tiny.onnx",
        shape: tuple[int | str, ...] = ("n", 3, 16, 16),
        dtype: str = "float32",
        outputs: tuple[str, ...] = ("embedding",),
        metadata: dict[str, str] | None = None,
        channels_last: bool = False,
        tokens: bool = False,
        cube: bool = False,
        seed: int = 0,
        scale: float = 2.0,
        offset: float = 0.0,
    ) -> Path:
        rng = np.random.default_rng(seed)
        kernel = numpy_helper.from_array(rng.normal(size=(WIDTH, 3, 4, 4)).astype(np.float32), "kernel")
        nodes = [helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT)]
        last = "float"
        if len(shape) == 3:
            first = numpy_helper.from_array(np.array([0], np.int64), "first")
            nodes.append(helper.make_node("Unsqueeze", [last, "first"], ["batch"]))
            last = "batch"
        if (len(shape) == 3 and shape[0] != 3) or channels_last:
            nodes.append(helper.make_node("Transpose", [last], ["planes"], perm=[0, 3, 1, 2]))
            last = "planes"
        nodes += [
            helper.make_node("Conv", [last, "kernel"], ["map"], strides=[4, 4], kernel_shape=[4, 4]),
            helper.make_node("GlobalAveragePool", ["map"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["flat"]),
            helper.make_node("Mul", ["flat", "scale"], ["scaled"]),
            helper.make_node("Add", ["scaled", "offset"], ["embedding"]),
            helper.make_node("Transpose", ["map"], ["map_last"], perm=[0, 2, 3, 1]),
        ]
        numbers = [numpy_helper.from_array(np.float32(n), name) for n, name in ((scale, "scale"), (offset, "offset"))]
        initializers = [kernel, *numbers, *([first] if len(shape) == 3 else [])]
        if tokens:
            initializers.append(numpy_helper.from_array(np.array([0, WIDTH, -1], np.int64), "sequence"))
            nodes.append(helper.make_node("Reshape", ["map", "sequence"], ["tokens"]))
        if cube:
            initializers.append(numpy_helper.from_array(np.array([-1, 8, 8, 8], np.int64), "sides"))
            nodes.append(helper.make_node("Concat", ["map"] * 4, ["long"], axis=1))
            nodes.append(helper.make_node("Reshape", ["long", "sides"], ["cube"]))
        ranks = {"cube": 4, "embedding": 2, "map": 4, "map_last": 4, "tokens": 3}
        graph = helper.make_graph(
            nodes, "tiny", [helper.make_tensor_value_info("images", CAST[dtype], list(shape))],
            [helper.make_tensor_value_info(one, TensorProto.FLOAT, [None] * ranks[one]) for one in outputs],
            initializer=initializers,
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        for key, value in (metadata or {}).items():
            model.metadata_props.add(key=key, value=value)
        onnx.save(model, tmp_path / name)
        return tmp_path / name

    return make
