"""Comparison of an ONNX file with its reference: good, damaged and unusable files."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image


@pytest.fixture(scope="session")
def image_folder(labels, tmp_path_factory) -> Path:
    """One folder per class of the tiny model, with six images of noise each. Read only."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name in labels:
        (root / name).mkdir()
        for index in range(6):
            pixels = rng.integers(0, 256, (40, 36, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")
    return root


@pytest.fixture
def check(cli, onnx_path, image_folder):
    """check(FILE, "--json", ...): compare FILE with the tiny model."""

    def run(file: Path, *more: object, reference: Path = onnx_path, data: Path = image_folder):
        return cli("compare", file, reference, "--data", data, *more)

    return run


def edited(source: Path, target: Path, edit) -> Path:
    model = onnx.load(source)
    edit(model)
    onnx.save(model, target)
    return target


def scale_a_weight(model: onnx.ModelProto) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.5), tensor.name))


def without_metadata(model: onnx.ModelProto) -> None:
    del model.metadata_props[:]


def with_labels(*names: str):
    def edit(model: onnx.ModelProto) -> None:
        for pair in model.metadata_props:
            if pair.key == "labels":
                pair.value = json.dumps(names)

    return edit


def one_line(result, exit_code: int = 3) -> str:
    assert result.exit_code == exit_code, result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    return result.stderr


def test_a_file_equals_itself_in_every_runtime(check, onnx_path):
    result = check(onnx_path, "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["images"] == 24
    assert {"reference", "onnxruntime", "openvino"} <= set(document["accuracies"])
    assert document["parities"]["onnxruntime"]["max_abs_diff"] == 0.0
    assert document["paired"]["openvino"]["drop"] == 0.0


def test_a_changed_weight_fails_and_its_flips_have_names(check, onnx_path, tmp_path):
    result = check(edited(onnx_path, tmp_path / "model.onnx", scale_a_weight), "--json")
    assert result.exit_code == 1
    parity = json.loads(result.stdout)["parities"]["onnxruntime"]
    assert parity["flipped"] == len(parity["flips"]) > 0
    assert all(flip["image"].endswith(".png") and flip["margin"] > 0 for flip in parity["flips"])
    printed = check(tmp_path / "model.onnx")
    assert f"changed {parity['flips'][0]['image']}: class" in printed.stdout
    assert "verdict: fail" in printed.stdout


def test_a_run_can_be_the_reference(check, finished, photos, onnx_path):
    exported = finished / "export" / "model.onnx"
    for reference in (finished, finished / "checkpoints" / "deployed.safetensors"):
        result = check(exported, "--json", reference=reference, data=photos)
        assert result.exit_code == 0, result.stderr
        document = json.loads(result.stdout)
        assert document["images"] == 36
        assert "pytorch" in document["accuracies"]
    assert check(onnx_path, reference=photos).exit_code == 2


def test_a_foreign_file_needs_the_option_preprocess(check, onnx_path, preprocess, tmp_path):
    foreign = edited(onnx_path, tmp_path / "foreign.onnx", without_metadata)
    assert "--preprocess" in one_line(check(foreign), exit_code=2)
    (tmp_path / "preprocess.json").write_text(json.dumps(preprocess))
    assert check(foreign, "--preprocess", tmp_path / "preprocess.json").exit_code == 0


def custom_op(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain, model.graph.node[0].op_type = "com.acme", "Sharpen"


def escaping_data(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../secret")


def absent_data(model: onnx.ModelProto) -> None:
    escaping_data(model)
    model.graph.initializer[0].external_data[0].value = "weights.data"


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (custom_op, "custom operators that onnxruntime does not have: com.acme:Sharpen"),
        (escaping_data, "beside the model, not at '../../secret'"),
        (absent_data, r"external data weights.data is missing"),
        (with_labels("a", "b", "c", "d", "e"), "names 5 classes, but has 4 outputs"),
    ],
)
def test_an_unusable_file_is_an_error_of_one_line(check, onnx_path, tmp_path, edit, words):
    assert words in one_line(check(edited(onnx_path, tmp_path / "model.onnx", edit)))


def test_a_wrong_input_shape_is_an_error_of_one_line(check, tmp_path):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 32, 32, 3]) for name in ("image", "logits")]
    graph = helper.make_graph([helper.make_node("Relu", ["image"], ["logits"])], "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "m.onnx")
    assert "the input must be (B, 3, S, S), got [1, 32, 32, 3]" in one_line(check(tmp_path / "m.onnx"))


def test_a_preprocessing_of_another_size_is_an_error_of_one_line(check, onnx_path, preprocess, tmp_path):
    (tmp_path / "preprocess.json").write_text(json.dumps(preprocess | {"img_size": 48}))
    line = one_line(check(onnx_path, "--preprocess", tmp_path / "preprocess.json"))
    assert "takes 32 px images, but its preprocessing makes 48 px" in line


def test_images_that_do_not_fit_are_an_error_of_one_line(check, onnx_path, image_folder, tmp_path):
    assert "no images" in one_line(check(onnx_path, data=tmp_path))
    shutil.copytree(image_folder, tmp_path / "more")
    shutil.copytree(image_folder / "cat", tmp_path / "more" / "zebra")
    assert "classes that the model lacks: zebra" in one_line(check(onnx_path, data=tmp_path / "more"))


def test_class_names_of_the_model_that_look_the_same_are_refused(check, onnx_path, tmp_path):
    def twins(model):
        for entry in model.metadata_props:
            if entry.key == "labels":
                names = json.loads(entry.value)
                entry.value = json.dumps([names[0], f"{names[0]}\u200b", *names[2:]])

    line = one_line(check(edited(onnx_path, tmp_path / "twins.onnx", twins)))
    assert "look the same" in line
    assert "U+200B" in line


def test_a_model_without_names_needs_one_class_per_output(check, onnx_path, photos, preprocess, tmp_path):
    foreign = edited(onnx_path, tmp_path / "foreign.onnx", without_metadata)
    (tmp_path / "preprocess.json").write_text(json.dumps(preprocess))
    more = ("--preprocess", tmp_path / "preprocess.json")
    assert "has 3 classes, but the model has 4 outputs" in one_line(
        check(foreign, *more, reference=foreign, data=photos)
    )


def test_both_models_and_the_images_are_required(cli, onnx_path):
    assert "Missing option '--data'" in cli("compare", onnx_path, onnx_path).stderr
    assert "Missing argument 'B'" in cli("compare", onnx_path, "--data", ".").stderr


def turned_outputs(model: onnx.ModelProto) -> None:
    """Move every class to the next output, and drop the class names."""
    del model.metadata_props[:]
    out = model.graph.output[0].name
    node = next(node for node in model.graph.node if out in node.output)
    node.output[list(node.output).index(out)] = "before"
    model.graph.initializer.append(numpy_helper.from_array(np.array([3, 0, 1, 2], np.int64), "order"))
    model.graph.node.append(helper.make_node("Gather", ["before", "order"], [out], axis=1))


@pytest.fixture
def own_classes(onnx_path, preprocess, image_folder, labels, tmp_path) -> Path:
    """The images sorted into folders by the tiny model's own predictions; classes in sorted order."""
    from tcs_edge.data import Preprocess
    from tcs_edge.runtimes.onnxruntime import OrtRunner

    steps, paths = Preprocess.from_json(preprocess), sorted(image_folder.rglob("*.png"))
    with OrtRunner(onnx_path, 1) as runner:
        for row, path in enumerate(paths):
            with Image.open(path) as image:
                best = int(runner.run(steps(image)[None])[0].argmax())
            place = tmp_path / "own" / f"class {best}"
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place / f"{row}.png")
    for number in range(len(labels)):
        (tmp_path / "own" / f"class {number}").mkdir(exist_ok=True)
        Image.new("RGB", (40, 40), (number, 0, 0)).save(tmp_path / "own" / f"class {number}" / "plain.png")
    return tmp_path / "own"


def test_the_order_of_unnamed_outputs_is_reported(check, onnx_path, own_classes, preprocess, tmp_path):
    steps = tmp_path / "steps.json"
    steps.write_text(json.dumps(preprocess))
    plain = edited(onnx_path, tmp_path / "plain.onnx", without_metadata)
    turned = edited(onnx_path, tmp_path / "turned.onnx", turned_outputs)
    lines = {}
    for model in (plain, turned):
        result = check(model, "--preprocess", steps, reference=model, data=own_classes)
        assert result.exit_code == 0, result.stderr
        lines[model] = result.stderr
        assert f"{model.name} has no class names, so the class order was assumed" in result.stderr
        assert "class folders in sorted order: class 0, class 1, class 2, class 3" in result.stderr
    assert "below chance" not in lines[plain]
    assert re.search(r"below chance \(2\d\.\d\d%\): the outputs are probably in another order", lines[turned])


def test_named_outputs_at_chance_are_reported(check, onnx_path):
    result = check(onnx_path)
    assert result.exit_code == 0, result.stderr
    assert "class order was assumed" not in result.stderr
    assert re.search(r"(than|below) chance \(\d+\.\d\d%\)", result.stderr)
    assert "the preprocessing probably differs from training" in result.stderr


def test_images_can_be_excluded(check, onnx_path, image_folder, tmp_path):
    folder = shutil.copytree(image_folder, tmp_path / "images")
    (folder / "notes").mkdir()
    result = check(onnx_path, data=folder)
    assert result.exit_code == 3
    assert "--exclude notes" in result.stderr
    assert check(onnx_path, "--exclude", "notes", data=folder).exit_code == 0
