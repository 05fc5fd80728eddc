"""Exported ONNX files: one file, equal logits, opset, metadata and identical bytes."""

from __future__ import annotations

import json
import linecache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import timm
import torch

from tcs_edge.errors import DataError, RequirementMissed, UsageError
from tcs_edge.export import files
from tcs_edge.export.onnx import LOWEST_OPSET, choose_opset, export_onnx
from tcs_edge.runtimes.metadata import KEYS, read_onnx_metadata


def run_onnx(path: Path, images: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"image": images})[0]


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, 3, 32, 32)).astype(np.float32)


def expected(model, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return model(torch.from_numpy(images)).numpy()


def test_the_export_is_a_single_file(onnx_path, model):
    assert [path.name for path in onnx_path.parent.glob("*.onnx*")] == ["model.onnx"]
    weights = sum(p.numel() for p in model.parameters()) * 4
    assert onnx_path.stat().st_size > 0.95 * weights


def test_the_export_computes_the_logits_of_the_model(onnx_path, model):
    np.testing.assert_allclose(run_onnx(onnx_path, noise(1)), expected(model, noise(1)), atol=1e-5)


@pytest.mark.parametrize("opset", [18, 20])
def test_the_file_has_the_requested_opset(model, labels, preprocess, tmp_path, opset):
    path = export_onnx(model, tmp_path / "m.onnx", 32, labels=labels, preprocess=preprocess, opset=opset)
    assert [(entry.domain, entry.version) for entry in onnx.load(path).opset_import] == [("", opset)]


@pytest.mark.parametrize("opset", [13, LOWEST_OPSET - 1, 99])
def test_an_unsupported_opset_is_refused(model, labels, preprocess, tmp_path, opset):
    with pytest.raises(UsageError, match=rf"opset {opset}: .* 18 to "):
        export_onnx(model, tmp_path / "m.onnx", 32, labels=labels, preprocess=preprocess, opset=opset)
    assert list(tmp_path.iterdir()) == []


def test_a_target_with_a_too_low_opset_is_refused():
    with pytest.raises(UsageError, match=r"opset 17 at most.* 18 at least"):
        choose_opset(17)
    assert choose_opset(None) == choose_opset(18) == choose_opset(23) == 18


def test_another_opset_in_the_file_is_an_error(model, labels, preprocess, tmp_path, monkeypatch):
    real = torch.onnx.export
    monkeypatch.setattr(torch.onnx, "export", lambda *a, **k: real(*a, **{**k, "opset_version": 20}))
    with pytest.raises(RequirementMissed, match=r"wrote opset.*20.* instead of 18"):
        export_onnx(model, tmp_path / "m.onnx", 32, labels=labels, preprocess=preprocess)
    assert list(tmp_path.iterdir()) == []


def test_metadata_is_read_as_written(onnx_path, labels, preprocess):
    metadata = read_onnx_metadata(onnx_path)
    assert tuple(json.loads(metadata["labels"])) == labels
    assert json.loads(metadata["preprocess"]) == preprocess
    assert json.loads(metadata["versions"])["torch"] == torch.__version__.split("+")[0]
    assert {p.key for p in onnx.load(onnx_path).metadata_props} == set(KEYS)
    assert onnx.load(onnx_path).producer_name == "tcs-edge"


def test_the_file_has_no_path_of_this_machine(onnx_path):
    content = onnx_path.read_bytes()
    for trace in (b"stack_trace", b"site-packages", b".py", str(Path.cwd()).encode()):
        assert trace not in content


def test_the_same_model_gives_the_same_bytes(onnx_path, model, labels, preprocess, tmp_path):
    again = export_onnx(model, tmp_path / "model.onnx", 32, labels=labels, preprocess=preprocess)
    assert again.read_bytes() == onnx_path.read_bytes()


@pytest.mark.parametrize("count", [3, 5])
def test_the_number_of_labels_must_equal_the_outputs(model, preprocess, tmp_path, count):
    names = [f"class{i}" for i in range(count)]
    with pytest.raises(DataError, match=f"{count} class names, but the model has 4 logits"):
        export_onnx(model, tmp_path / "m.onnx", 32, labels=names, preprocess=preprocess)
    assert list(tmp_path.iterdir()) == []


def test_an_export_is_silent_and_does_not_change_the_model(model, labels, preprocess, tmp_path, capfd):
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    export_onnx(model, tmp_path / "m.onnx", 32, labels=labels, preprocess=preprocess)
    assert model.training
    model.eval()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert capfd.readouterr() == ("", "")


def test_a_failed_export_keeps_the_older_file(labels, preprocess, tmp_path):
    class Untraceable(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum().item() > 0 else x.reshape(int(x.max().item()), -1)

    path = tmp_path / "m.onnx"
    path.write_bytes(b"older")
    with pytest.raises(UsageError, match="cannot export this model"):
        export_onnx(Untraceable(), path, 32, labels=labels, preprocess=preprocess)
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


def test_a_dynamic_batch_runs_at_several_sizes(model, labels, preprocess, tmp_path):
    path = export_onnx(model, tmp_path / "m.onnx", 32, labels=labels, preprocess=preprocess, dynamic_batch=True)
    for count in (1, 2, 5):
        np.testing.assert_allclose(run_onnx(path, noise(count)), expected(model, noise(count)), atol=1e-5)


def test_a_foreign_onnx_file_has_no_metadata(onnx_path, tmp_path):
    proto = onnx.load(onnx_path)
    del proto.metadata_props[:]
    onnx.save(proto, tmp_path / "foreign.onnx")
    with pytest.raises(DataError, match="Pass the model of a run of tcs-edge"):
        read_onnx_metadata(tmp_path / "foreign.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "test_vit", "shvit_s1"])
def test_other_architectures_are_exported_correctly(name, labels, preprocess, tmp_path):
    torch.manual_seed(0)
    sized = {"img_size": 32} if name == "test_vit" else {}
    model = timm.create_model(name, num_classes=4, **sized).eval()
    size = 64 if name == "shvit_s1" else 32
    path = export_onnx(model, tmp_path / "m.onnx", size, labels=labels, preprocess=preprocess)
    images = np.random.default_rng(0).standard_normal((1, 3, size, size)).astype(np.float32)
    logits = expected(model, images)
    np.testing.assert_allclose(run_onnx(path, images), logits, atol=1e-4 * np.abs(logits).max())


def test_a_model_too_large_for_one_file_is_refused_before_tracing(labels, preprocess, tmp_path):
    with torch.device("meta"):
        large = torch.nn.Linear(2**15, 2**14 + 1)
    with pytest.raises(RequirementMissed, match=r"model.onnx would be 2.1 GB, above the 2.1 GB of an ONNX file"):
        export_onnx(large, tmp_path / "model.onnx", 32, labels=labels, preprocess=preprocess)
    assert list(tmp_path.iterdir()) == []


def test_a_graph_too_large_for_one_file_is_not_written(onnx_path, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_BYTES", 1000)
    with pytest.raises(RequirementMissed, match="of an ONNX file"):
        files.save_onnx(onnx.load(onnx_path), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_export_leaves_no_source_text_of_traced_graphs(model, labels, preprocess, tmp_path):
    """torch keeps a quarter of a megabyte per export otherwise."""

    def kept() -> set[str]:
        return {name for name in (*linecache.cache, *torch.fx.graph_module._loader.eval_cache) if "eval_with" in name}

    before = kept()
    export_onnx(model, tmp_path / "m.onnx", 32, labels=labels, preprocess=preprocess)
    assert kept() == before
