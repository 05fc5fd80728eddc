"""Harnesses of tensors: weights, features of an own teacher, the trained student and the feature cache."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
from mutate import SPLIT
from readers import Read, Reader

NAMES = '["a/0.jpg", "a/1.jpg"]'


def _weights(folder: Path) -> Read:
    import torch

    from tcs_edge.models.safetensors_file import (
        check_safetensors,
        read_shapes,
        read_state,
        require_finite,
        require_real,
    )

    path = folder / "a.safetensors"
    expected = {"w": torch.zeros(2, 3), "b": torch.zeros(2), "n": torch.zeros((), dtype=torch.int64)}

    def read(content: bytes) -> None:
        path.write_bytes(content)
        check_safetensors(path, "--teacher-weights")
        read_shapes(path)
        state = read_state(path, expected)
        require_real(state, expected, path)
        require_finite(state, path)

    return read


def _backbone():
    from torch import nn

    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _deployed(folder: Path) -> Read:
    """The trained student, and its temperature."""
    from tcs_edge.training.fold import folded_temperature, load_deployed

    path = folder / "deployed.safetensors"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        folded_temperature(path)
        load_deployed(path, _backbone(), 32)

    return read


def _features(suffix: str):
    def make(folder: Path) -> Read:
        from tcs_edge.teachers.feature_file import read_feature_file

        path = folder / f"features{suffix}"

        def read(content: bytes) -> None:
            path.write_bytes(content)
            read_feature_file(path)

        return read

    return make


def _cache(folder: Path) -> Read:
    """A shard of the cache; a damaged one is computed again, so nothing is an error."""
    from tcs_edge.teachers.cache import FeatureStore

    store = FeatureStore(folder, {"model": "m"}, dim=2)
    shards = store.folder / "pass"
    shards.mkdir(parents=True)
    wanted = np.arange(96, dtype=np.uint8).reshape(3, 32)

    def read(content: bytes) -> None:
        path = shards / f"{hashlib.sha256(content).hexdigest()}.safetensors"
        path.write_bytes(content)
        try:
            store.has(wanted)
            features, found = store.read(wanted)
            if features.shape != (3, 2) or found.shape != (3,):
                raise AssertionError(f"{features.shape} {found.shape}")
        finally:
            path.unlink(missing_ok=True)

    return read


def _cached(_: Path) -> list[bytes]:
    from safetensors.numpy import save

    contents = np.arange(64, dtype=np.uint8).reshape(2, 32)
    return [save({"features": np.ones((2, 2), np.float16), "contents": contents})]


def _ncnn(folder: Path) -> Read:
    from tcs_edge.runtimes.ncnn_file import ends_of, read_param, read_weights

    def read(content: bytes) -> None:
        first, _, second = content.partition(SPLIT)
        (folder / "model.param").write_bytes(first)
        (folder / "model.bin").write_bytes(second)
        layers = read_param(folder / "model.param")
        ends_of(layers)
        read_weights(folder / "model.bin", layers)

    return read


def _ncnn_files(_: Path) -> list[bytes]:
    param = (
        "7767517\n4 4\nInput in0 0 1 in0 0=8 1=8 2=3\nConvolution conv 1 1 in0 a 0=2 1=3 5=1 6=54\n"
        "ReLU relu 1 1 a b 0=0.1\nInnerProduct fc 1 1 b out0 0=2 1=1 2=16\n"
    )
    weights = bytes(4 + 54 * 4 + 2 * 4 + 4 + 16 * 4 + 2 * 4)
    return [param.encode() + SPLIT + weights]


def _litert(_: Path) -> Read:
    from tcs_edge.runtimes.litert_file import parse_litert

    def read(content: bytes) -> None:
        parse_litert(content, Path("model.tflite"))

    return read


def _litert_files(_: Path) -> list[bytes]:
    return [(Path(__file__).parents[1] / "runtimes" / "litert" / "tiny.tflite").read_bytes()]


def _state(_: Path) -> list[bytes]:
    from safetensors.numpy import save

    tensors = {"module.w": np.ones((2, 3), np.float16), "b": np.ones(2, np.float32), "n": np.array(1)}
    return [save(tensors), save({"w": np.ones((2, 3))}, {"format": "pt"})]


def _students(folder: Path) -> list[bytes]:
    from torch import nn

    from tcs_edge.students.build import deployable
    from tcs_edge.training.fold import save_deployed

    save_deployed(folder / "seed.safetensors", nn.Sequential(deployable(_backbone()), nn.Linear(4, 2)), 1.5)
    return [(folder / "seed.safetensors").read_bytes()]


def _npz(_: Path) -> list[bytes]:
    files = []
    for arrays in (
        {"features": np.ones((2, 3), np.float16), "names": np.array(["a", "b"])},
        {"features": np.ones((2, 3), np.float32), "sha256": np.array([b"a", b"b"])},
    ):
        for write in (np.savez, np.savez_compressed):
            handle = io.BytesIO()
            write(handle, **arrays)
            files.append(handle.getvalue())
    return files


def _feature_tensors(_: Path) -> list[bytes]:
    from safetensors.numpy import save

    return [save({"features": np.ones((2, 3), np.float16)}, {key: NAMES}) for key in ("names", "sha256")]


def _parquet(_: Path) -> list[bytes]:
    import pyarrow
    from pyarrow import parquet

    files = []
    rows = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    for kind in (pyarrow.list_(pyarrow.float32()), pyarrow.list_(pyarrow.float32(), 3)):
        handle = io.BytesIO()
        table = pyarrow.table({"names": ["a", "b"], "features": pyarrow.array(rows, kind)})
        parquet.write_table(table, handle)
        files.append(handle.getvalue())
    return files


READERS = (
    Reader("weights", "safetensors", _state, _weights, share=5),
    Reader("deployed", "safetensors", _students, _deployed, share=2),
    Reader("features.npz", "zip", _npz, _features(".npz"), share=3),
    Reader("features.safetensors", "safetensors", _feature_tensors, _features(".safetensors"), share=4),
    Reader("features.parquet", "bytes", _parquet, _features(".parquet"), share=0.02, needs="pyarrow"),
    Reader("cache", "safetensors", _cached, _cache, share=3),
    Reader("ncnn", "text", _ncnn_files, _ncnn, share=4),
    Reader("litert", "bytes", _litert_files, _litert, share=4),
)
