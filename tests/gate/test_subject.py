"""Numbers of a run folder, a manifest and a bare file, and refused inputs."""

from __future__ import annotations

import json
import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tcs_edge.errors import UsageError
from tcs_edge.gate.subject import load_subject


def values(subject) -> dict:
    return {measure.key: measure.value for measure in subject.measures}


def kept(subject) -> dict:
    return {requirement.name: requirement.kept for requirement in subject.requirements}


def edit(path, change) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_a_run_folder_has_every_number(make_run):
    subject = load_subject(make_run())
    known = values(subject)
    assert known["total_mb"] == known["size_mb/model.onnx"] == 1.0, "labels.txt is not a model"
    assert (known["params_m"], known["macs_m"], known["latency_ms"]) == (0.6, 3.9, 10.0)
    assert known["accuracy/onnxruntime"] == 0.9
    assert known["drop/onnxruntime"] == pytest.approx(0.02)
    assert "accuracy/pytorch" not in known, "the trained model is not deployed"
    latency = next(measure for measure in subject.measures if measure.quantity == "latency_ms")
    assert latency.judged == 20.0
    assert latency.detail == "5 to 20 ms, estimated"
    assert kept(subject) == {"parity with PyTorch": True, "files unchanged": True}


def test_an_openvino_model_counts_with_its_weights(make_run):
    run = make_run()

    def add(document) -> None:
        for name, size in (("openvino/model.xml", 2_000_000), ("openvino/model.bin", 3_000_000)):
            document["files"].append({"path": f"export/{name}", "bytes": size, "sha256": "0" * 64})

    edit(run / "manifest.json", add)
    known = values(load_subject(run / "manifest.json"))
    sizes = {key: value for key, value in known.items() if "size_mb" in key or "total_mb" in key}
    assert sizes == {"total_mb": 6.0, "size_mb/model.onnx": 1.0, "size_mb/openvino/model.xml": 5.0}


def test_a_manifest_without_models_has_no_size(make_run):
    run = make_run()
    edit(run / "manifest.json", lambda document: document.update(files=[]))
    known = values(load_subject(run / "manifest.json"))
    assert known["total_mb"] is known["size_mb"] is None


def test_a_number_missing_from_the_manifest_is_none(make_run):
    run = make_run(latency_ms=None)
    edit(run / "manifest.json", lambda document: [document[key].pop("onnxruntime") for key in ("accuracy", "metrics")])
    known = values(load_subject(run))
    assert known["latency_ms"] is known["peak_memory_mb"] is known["accuracy/onnxruntime"] is None


def test_an_arithmetic_of_the_exporting_machine_is_not_gated(make_run):
    run = make_run()
    before = load_subject(run)

    def add(document) -> None:
        document["accuracy"]["openvino-device"] = document["accuracy"]["onnxruntime"]
        document["parity"]["openvino-device"] = document["parity"]["onnxruntime"] | {
            "precision": "bf16", "max_rel_diff": 0.9, "top1_agreement": 0.1, "judged": False,
        }  # fmt: skip

    edit(run / "manifest.json", add)
    after = load_subject(run)
    assert values(after) == values(before)
    assert after.precisions == before.precisions
    edit(run / "manifest.json", lambda document: document["parity"].pop("onnxruntime"))
    assert not kept(load_subject(run))["parity with PyTorch"]


def test_changed_missing_and_new_files_fail_the_requirement(make_run):
    for name in ("changed", "lost", "new"):
        run = make_run(name)
        model = run / "export" / "model.onnx"
        if name == "changed":
            model.write_bytes(b"v" + model.read_bytes()[1:])
        elif name == "lost":
            model.unlink()
        else:
            (run / "export" / "other.onnx").write_bytes(b"?")
        assert kept(load_subject(run)) == {"parity with PyTorch": True, "files unchanged": False}


def test_a_manifest_stands_for_its_run_folder_only_inside_it(make_run, tmp_path):
    run = make_run()
    (run / "export" / "model.onnx").write_bytes(b"changed")
    assert kept(load_subject(run / "manifest.json"))["files unchanged"] is False
    alone = shutil.copy(run / "manifest.json", tmp_path / "manifest.json")
    assert kept(load_subject(alone)) == {"parity with PyTorch": True}


def test_a_run_that_failed_validation_has_no_parity(make_run):
    assert kept(load_subject(make_run(passed=False)))["parity with PyTorch"] is False


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document["parity"].clear(),
        lambda document: document["parity"]["onnxruntime"].update(finite=False, max_rel_diff=None),
    ],
)
def test_a_verdict_without_a_comparison_has_no_parity(make_run, change):
    run = make_run()
    edit(run / "manifest.json", change)
    assert kept(load_subject(run))["parity with PyTorch"] is False


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "neither a model nor JSON"),
        ("[1]", "not a manifest"),
        ("{}", "not a manifest"),
        ('{"schema_version": true}', "not a manifest"),
        ('{"schema_version": "1"}', "not a manifest"),
        ('{"schema_version": 2}', "newer .*pip install --upgrade"),
        ('{"schema_version": 0}', "older .*tcs-edge compress"),
        ('{"schema_version": 1, "name": "react"}', "manifest"),
        ('{"schema_version": 1, "versions": {"a": "\\ud800"}}', "manifest"),
        ("[" * 100_000, "JSON"),
    ],
)
def test_a_foreign_manifest_is_refused_in_one_line(tmp_path, content, words):
    path = tmp_path / "manifest.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=words) as caught:
        load_subject(path)
    assert "\n" not in str(caught.value)


def test_a_stopped_run_and_other_folders_are_refused(make_run, tmp_path):
    run = make_run()
    (run / "manifest.json").unlink()
    for path, words in ((run, "--resume"), (run.parent / "none", "none"), (tmp_path, "not a run folder")):
        with pytest.raises(UsageError, match=words):
            load_subject(path)


def save_onnx(path, external: bool = False) -> None:
    weights = numpy_helper.from_array(np.ones((3, 4), dtype=np.float32), "w")
    shape = numpy_helper.from_array(np.array([1, 4]), "shape")
    bias = helper.make_node("Constant", [], ["b"], value=numpy_helper.from_array(np.ones(4, dtype=np.float32)))
    nodes = [
        helper.make_node("MatMul", ["image", "w"], ["h"]),
        bias,
        helper.make_node("Add", ["h", "b"], ["s"]),
        helper.make_node("Reshape", ["s", "shape"], ["logits"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, n]) for name, n in (("image", 3), ("logits", 4))]
    model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], [weights, shape]))
    onnx.save(model, path, save_as_external_data=external, location="model.data", size_threshold=0)


def test_an_onnx_file_has_size_parameters_and_memory(tmp_path):
    path = tmp_path / "model.onnx"
    save_onnx(path)
    subject = load_subject(path)
    assert values(subject)["size_mb"] == path.stat().st_size / 1e6
    assert values(subject)["params_m"] == pytest.approx(16e-6), (
        "12 weights and 4 in a constant; a shape is not a parameter"
    )
    assert values(subject)["peak_memory_mb"] == pytest.approx((12 * 4 + 2 * 8 + 4 * 4 + 2 * 4 * 4) / 1e6)
    assert subject.precisions == {"weights": "f32"}
    assert "accuracy" not in values(subject)


def test_external_data_counts_towards_the_size(tmp_path):
    path, data = tmp_path / "model.onnx", tmp_path / "model.data"
    save_onnx(path, external=True)
    known = values(load_subject(path))
    assert known["size_mb"] == known["total_mb"] == (path.stat().st_size + data.stat().st_size) / 1e6
    data.unlink()
    known = values(load_subject(path))
    assert known["size_mb"] is known["total_mb"] is None


def test_external_data_outside_the_folder_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    save_onnx(path, external=True)
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "../secret"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UsageError, match="beside the model"):
        load_subject(path)


def test_both_formats_of_an_export_have_equal_numbers(model, onnx_path, xml_path):
    onnx_file, xml_file = load_subject(onnx_path), load_subject(xml_path)
    trained = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert trained * 0.95 < values(onnx_file)["params_m"] <= trained, "folded batch norms are not parameters"
    assert values(xml_file)["params_m"] == pytest.approx(values(onnx_file)["params_m"], rel=1e-3)
    files = (xml_path, xml_path.with_suffix(".bin"))
    assert values(xml_file)["size_mb"] == pytest.approx(sum(file.stat().st_size for file in files) / 1e6)
    assert xml_file.precisions == onnx_file.precisions == {"weights": "f32"}


def test_an_ir_without_its_weights_has_no_size(xml_path, tmp_path):
    alone = shutil.copy(xml_path, tmp_path / "model.xml")
    assert values(load_subject(alone))["size_mb"] is None


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE net [<!ENTITY a0 "aaaaaaaaaa">'
    + "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10))
    + "]><net>&a9;</net>"
)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.onnx", b""),
        ("a.onnx", b"\x00\x01garbage" * 9),
        ("a.xml", b""),
        ("a.xml", b"<html></html>"),
        ("a.xml", BOMB.encode()),
        ("a.xml", b'<net><layers><layer type="Const"><data element_type="f32" shape="x"/></layer></layers></net>'),
    ],
)
def test_a_file_that_is_not_a_model_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError) as caught:
        load_subject(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
