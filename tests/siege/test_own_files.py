"""Files that runs and comparisons wrote, spoiled afterwards: each is one line, or its line is dropped."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import nn

from tcs_edge.bench.grid import SCHEMA_VERSION, RunResult, SharedOptions, arms_of, make_runs
from tcs_edge.bench.run import run_bench
from tcs_edge.errors import DataError, UsageError
from tcs_edge.methods import SimKdStudent
from tcs_edge.students.build import deployable
from tcs_edge.training.distill import _MetricsLog
from tcs_edge.training.fold import folded_temperature, load_deployed, save_deployed

DEEP = "[" * 100_000 + "]" * 100_000
DIGITS = "9" * 5000


def backbone() -> nn.Module:
    return timm.create_model("test_resnet", pretrained=False, num_classes=0)


def one_line(error: pytest.ExceptionInfo[Exception], path: Path) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 400
    assert str(path) in text
    return text


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[1]", '"a"', DEEP, f'{{"temperature": 1, "blueprint": {DEEP}}}', f'{{"temperature": {DIGITS}}}',
        '{"temperature": NaN}', '{"temperature": 1, "temperature": 2}', '{"temperature": 1, "a": "\\ud800"}',
    ],
)  # fmt: skip
def test_spoiled_metadata_of_the_trained_weights_are_one_line(tmp_path, text):
    path = tmp_path / "deployed.safetensors"
    model = nn.Sequential(deployable(backbone()), nn.Linear(256, 2))
    path.write_bytes(save({name: value.contiguous() for name, value in model.state_dict().items()}, {"deployed": text}))
    for read in (folded_temperature, lambda path: load_deployed(path, backbone(), 32)):
        with pytest.raises(DataError) as error:
            read(path)
        one_line(error, path)


@pytest.mark.parametrize("temperature", ["true", '"1.5"', "null", "0", "-1", "[1]", "{}"])
def test_a_temperature_that_is_not_a_positive_number_is_one_line(tmp_path, temperature):
    path = tmp_path / "deployed.safetensors"
    path.write_bytes(save({"a": torch.ones(1)}, {"deployed": f'{{"temperature": {temperature}}}'}))
    with pytest.raises(DataError, match="has no temperature") as error:
        folded_temperature(path)
    one_line(error, path)


@pytest.mark.parametrize("shape", [(4,), (0, 4), (1 << 40, 0), (2, 2, 2)])
def test_a_head_of_another_shape_is_one_line(tmp_path, shape):
    path = tmp_path / "deployed.safetensors"
    path.write_bytes(save({"1.weight": torch.empty(shape), "1.bias": torch.zeros(2)}))
    with pytest.raises(DataError, match=r"1\.weight has the shape") as error:
        load_deployed(path, backbone(), 32)
    one_line(error, path)


@pytest.mark.parametrize(
    "changes",
    [
        {"channels": 10**9}, {"width": 10**9}, {"classes": 10**9}, {"grid": 0}, {"grid": True}, {"signed": 1},
        {"other": 1}, {"channels": None}, {"width": "8"},
    ],
)  # fmt: skip
def test_a_blueprint_of_other_sizes_is_one_line(tmp_path, changes):
    """A network of the stated sizes would take more memory than there is."""
    path = tmp_path / "deployed.safetensors"
    student = SimKdStudent(deployable(backbone()), channels=256, width=8, classes=2, grid=2, signed=False)
    save_deployed(path, student)
    assert isinstance(load_deployed(path, backbone(), 32), SimKdStudent)
    with safe_open(path, framework="pt") as stored:
        facts = json.loads(stored.metadata()["deployed"])
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    path.write_bytes(save(tensors, {"deployed": json.dumps(facts | {"blueprint": facts["blueprint"] | changes})}))
    with pytest.raises(DataError, match="blueprint") as error:
        load_deployed(path, backbone(), 32)
    one_line(error, path)


@pytest.mark.parametrize(
    "line",
    [
        b'{"epoch": 2, "lo', b"[1]", b"3", b'{"loss": 1}', b'{"epoch": null}', b'{"epoch": "1"}', b'{"epoch": true}',
        b"\xff\xfe", b'{"epoch": NaN}', f'{{"epoch": {DIGITS}}}'.encode(), DEEP.encode(), b"",
    ],
)  # fmt: skip
def test_a_resumed_run_drops_damaged_lines_of_its_metrics(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"epoch": 1, "loss": 1.0}\n' + line + b"\n")
    _MetricsLog(path, resume=True)({"epoch": 2, "loss": 0.5})
    assert [json.loads(kept)["epoch"] for kept in path.read_bytes().splitlines()] == [1, 2]


@pytest.fixture
def compared(tmp_path, resolved, monkeypatch):
    """Two runs of a comparison that are finished; the first has a pass of the teacher."""
    monkeypatch.setattr("subprocess.run", None)
    base = resolved(target="x86-avx2", data=tmp_path, teacher="dinov2", student_init="random", img_size=32, epochs=1)
    runs = make_runs([SharedOptions(base)], arms_of(["kd", "ce"], []), [0])
    costs = dict.fromkeys(
        ("train_seconds", "peak_memory_mb", "peak_gpu_mb", "params_m", "macs_m", "onnx_mb", "latency_ms"), 1.0
    )
    found = asdict(RunResult(correct="0110", threads=1, train_images=4, val_accuracy=0.5, **costs))
    paths = {runs[0].teacher: (runs[0], {"seconds": 3.0}), **{run.name: (run, found) for run in runs}}
    for name, (run, result) in paths.items():
        document = {"schema_version": SCHEMA_VERSION, **run.config_key(), "found": result}
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    return runs


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("options", None), ("options", [1]), ("options", "a"), ("found", None), ("found", [["correct", "1"]]),
        ("found.correct", ""), ("found.correct", "0a"), ("found.correct", 5), ("found.threads", "1"),
        ("found.latency_ms", True), ("found.latency_ms", None), ("found.onnx_mb", {}),
    ],
)  # fmt: skip
def test_a_damaged_result_of_a_comparison_is_one_line(tmp_path, compared, key, value):
    path = tmp_path / f"{compared[1].name}.json"
    document = json.loads(path.read_text())
    table, _, inner = key.partition(".")
    document[table] = document[table] | {inner: value} if inner else value
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match="Remove the file") as error:
        run_bench(compared, tmp_path)
    assert key in one_line(error, path)


@pytest.mark.parametrize("seconds", ["3", None, True, [1]])
def test_a_damaged_pass_of_the_teacher_is_one_line(tmp_path, compared, seconds):
    path = tmp_path / f"{compared[0].teacher}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"found": {"seconds": seconds}}))
    with pytest.raises(DataError, match=r"found\.seconds") as error:
        run_bench(compared, tmp_path)
    one_line(error, path)


def test_intact_results_of_a_comparison_are_read(tmp_path, compared):
    assert [(one.accuracy, one.teacher_seconds) for one in run_bench(compared, tmp_path).values()] == [
        (0.5, 3.0), (0.5, 0.0),
    ]  # fmt: skip


def test_results_of_other_test_images_are_refused(tmp_path, compared):
    path = tmp_path / f"{compared[1].name}.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"found": document["found"] | {"correct": "011010"}}))
    with pytest.raises(UsageError, match="6 test images") as error:
        run_bench(compared, tmp_path)
    one_line(error, path)
