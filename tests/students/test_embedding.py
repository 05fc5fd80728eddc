"""The second output of a student: one definition, in every format, and the same logits as without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save
from torch import nn

from tcs_edge.data import Preprocess
from tcs_edge.errors import DataError
from tcs_edge.export.fp16 import export_onnx_fp16
from tcs_edge.export.onnx import export_onnx
from tcs_edge.export.pixels import export_pixels
from tcs_edge.methods import SimKdStudent
from tcs_edge.models.feature_map import drop_head, map_shape
from tcs_edge.runtimes.onnxruntime import OrtRunner
from tcs_edge.runtimes.openvino import OpenVinoRunner
from tcs_edge.runtimes.openvino.export import export_openvino
from tcs_edge.runtimes.pixels import PixelsRunner
from tcs_edge.runtimes.rounding import open_rounding
from tcs_edge.runtimes.torch import TorchRunner
from tcs_edge.students.build import build_student, deployable, feature_dim
from tcs_edge.students.embedding import (
    StudentWithEmbedding,
    coordinates_of,
    load_coordinates,
    save_coordinates,
    with_embedding,
)
from tcs_edge.tcs.head import LinearHead, TcsHead
from tcs_edge.tcs.selection import SelectionSchedule

SIDE, LABELS = 64, ["a", "b", "c", "d", "e"]
STEPS = Preprocess(SIDE, crop_pct=0.9)
KEPT = 16  # of 24 coordinates


@pytest.fixture(scope="module")
def head() -> TcsHead:
    torch.manual_seed(0)
    backbone = build_student("lcnet_050", SIDE, "random", 0)
    made = TcsHead(feature_dim(backbone, SIDE), 24, len(LABELS), SelectionSchedule(kept_fraction=0.5)).eval()
    made.selection.alive[::3] = False
    made.backbone = backbone
    return made


@pytest.fixture(scope="module")
def student(head) -> nn.Sequential:
    return nn.Sequential(deployable(head.backbone), head.fold()).eval()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((3, 3, SIDE, SIDE)).astype(np.float32)


def exported(model: nn.Module, folder: Path) -> Path:
    folder.mkdir()
    size = getattr(model, "embedding_size", 0)
    steps = STEPS.to_json()
    export_onnx(model, folder / "model.onnx", SIDE, labels=LABELS, preprocess=steps, embedding_size=size)
    export_onnx_fp16(folder / "model.onnx", folder / "model.fp16.onnx")
    export_openvino(folder / "model.onnx", folder / "model.xml")
    export_pixels(folder / "model.onnx", folder / "model.pixels.onnx", STEPS)
    return folder


@pytest.fixture(scope="module")
def plain(student, tmp_path_factory) -> Path:
    return exported(student, tmp_path_factory.mktemp("plain") / "export")


@pytest.fixture(scope="module", params=["coordinates", "features"])
def space(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(student, space) -> StudentWithEmbedding:
    return StudentWithEmbedding(student, coordinates_of(student) if space == "coordinates" else None).eval()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory) -> Path:
    return exported(model, tmp_path_factory.mktemp("embedding") / "export")


def test_the_embedding_is_the_kept_coordinates_of_the_head(head, student, images):
    with torch.no_grad():
        logits, coordinates = head(head.backbone.eval()(torch.from_numpy(images)))
        made = StudentWithEmbedding(student, coordinates_of(student)).eval()(torch.from_numpy(images))
    kept = coordinates[:, head.selection.alive]
    assert kept.shape == (3, KEPT)
    torch.testing.assert_close(made[1], kept, rtol=1e-5, atol=1e-5)
    # The classifier on the embedding gives the logits: both come from one definition of the coordinates.
    weight = (head.classifier.weight * head.selection.mask())[:, head.selection.alive]
    torch.testing.assert_close(made[0], made[1] @ weight.T + head.classifier.bias, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(made[0], logits, rtol=1e-4, atol=1e-5)


def test_a_linear_head_has_coordinates_beside_it():
    head = LinearHead(8, 6, 3).eval()
    features = torch.randn(4, 8)
    folded = head.fold()
    torch.testing.assert_close(folded(features), head(features)[0])
    torch.testing.assert_close(folded.coordinates(features), head(features)[1])


def test_coordinates_are_no_part_of_the_deployed_weights(student):
    assert set(student[-1].state_dict()) == {"weight", "bias"}


def test_files_without_an_embedding_do_not_change(student, plain, tmp_path):
    """The head of a run without coordinates gives the same bytes."""
    linear = nn.Linear(student[-1].in_features, len(LABELS))
    linear.load_state_dict(student[-1].state_dict())
    other = exported(nn.Sequential(student[0], linear).eval(), tmp_path / "export")
    # OpenVINO numbers its layers through the process, so that only the names in its .xml differ.
    names = sorted(path.name for path in plain.iterdir() if path.suffix != ".xml")
    for name in names:
        assert (plain / name).read_bytes() == (other / name).read_bytes(), name
    assert len(names) == 4


@pytest.mark.parametrize("file", ["model.onnx", "model.fp16.onnx", "model.xml"])
def test_every_format_has_both_outputs_and_the_same_logits(folder, plain, model, images, file):
    expected = TorchRunner(model).outputs(images)
    opened = OpenVinoRunner if file.endswith(".xml") else OrtRunner
    with opened(folder / file) as runner, opened(plain / file) as single:
        logits, embedding = runner.outputs(images)
        assert runner.embedding_size == model.embedding_size == embedding.shape[1]
        assert (single.embedding_size, single.outputs(images)[1]) == (0, None)
        np.testing.assert_array_equal(logits, single.run(images))
        np.testing.assert_array_equal(logits, runner.run(images))
    limit = 2e-2 if "fp16" in file else 1e-4
    assert np.abs(embedding - expected[1]).max() <= limit * np.abs(expected[1]).max()


def test_rounded_arithmetic_rounds_both_outputs(folder, plain, model, images):
    expected = TorchRunner(model).outputs(images)
    with (
        open_rounding(folder / "model.onnx", "bf16", "x") as runner,
        open_rounding(plain / "model.onnx", "bf16", "x") as single,
    ):
        logits, embedding = runner.outputs(images)
        np.testing.assert_array_equal(logits, single.run(images))
    difference = np.abs(embedding - expected[1]).max() / np.abs(expected[1]).max()
    assert 1e-6 < difference < 0.1


def test_a_file_with_built_in_preprocessing_has_both_outputs(folder, model):
    image = np.random.default_rng(1).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    with PixelsRunner(folder / "model.pixels.onnx") as runner:
        logits, embedding = runner.outputs(image)
        assert (logits.shape, embedding.shape) == ((1, len(LABELS)), (1, model.embedding_size))
        np.testing.assert_array_equal(logits, runner.run(image))


def test_outputs_are_found_by_name_not_by_position(folder, images, tmp_path):
    proto = onnx.load(folder / "model.onnx")
    first, second = (onnx.ValueInfoProto.FromString(one.SerializeToString()) for one in proto.graph.output)
    del proto.graph.output[:]
    proto.graph.output.extend([second, first])
    onnx.save(proto, tmp_path / "model.onnx")
    export_openvino(tmp_path / "model.onnx", tmp_path / "model.xml")
    with OrtRunner(folder / "model.onnx") as runner:
        expected = runner.outputs(images)
    for opened, file in ((OrtRunner, "model.onnx"), (OpenVinoRunner, "model.xml")):
        with opened(tmp_path / file) as runner:
            for one, other in zip(expected, runner.outputs(images), strict=True):
                np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("opened", [OrtRunner, OpenVinoRunner])
def test_two_outputs_of_other_names_are_refused(folder, tmp_path, opened):
    proto = onnx.load(folder / "model.onnx")
    for node in proto.graph.node:
        node.output[:] = ["boxes" if name == "embedding" else name for name in node.output]
        node.input[:] = ["boxes" if name == "embedding" else name for name in node.input]
    proto.graph.output[1].name = "boxes"
    onnx.save(proto, tmp_path / "model.onnx")
    with pytest.raises(DataError, match="one output"):
        opened(tmp_path / "model.onnx")


def test_simkd_embeds_in_the_features_of_the_teacher():
    backbone = build_student("lcnet_050", SIDE, "random", 0)
    drop_head(backbone, SIDE)
    channels, _ = map_shape(backbone, SIDE)
    student = SimKdStudent(backbone, channels, 8, 3, 2, signed=False)
    model = StudentWithEmbedding(student.eval(), None).eval()
    images = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        logits, embedding = model(images)
        torch.testing.assert_close(logits, student(images), rtol=0, atol=0)
    assert (model.kind, model.embedding_size, embedding.shape) == ("teacher features", 8, (2, 8))


def test_coordinates_come_back_from_their_file(student, images, tmp_path):
    path = tmp_path / "coordinates.safetensors"
    save_coordinates(path, coordinates_of(student))
    again = with_embedding(student, path)
    first = TorchRunner(StudentWithEmbedding(student, coordinates_of(student))).outputs(images)
    for one, other in zip(first, TorchRunner(again).outputs(images), strict=True):
        np.testing.assert_array_equal(one, other)
    save_coordinates(tmp_path / "none", None)
    assert not (tmp_path / "none").exists()
    assert with_embedding(student, tmp_path / "none").kind == "features"


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\xff" * 100, b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n",
        save({"weight": torch.ones(3, 5), "bias": torch.ones(3)}),
        save({"weight": torch.ones(3, 4), "bias": torch.ones(2)}),
        save({"weight": torch.ones(4), "bias": torch.ones(1)}), save({"weight": torch.ones(3, 4)}),
        save({"weight": torch.ones(0, 4), "bias": torch.ones(0)}),
    ],
)  # fmt: skip
def test_spoiled_coordinates_are_one_line(tmp_path, content):
    path = tmp_path / "coordinates.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        load_coordinates(path, 4)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
