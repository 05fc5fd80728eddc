"""The worked examples of docs/how-to/extend.md run as they are written."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tcs_edge.errors import DataError
from tcs_edge.methods import Batch, DistillationTargets, MethodInputs
from tcs_edge.runtimes.onnxruntime import OrtRunner
from tcs_edge.specs.methods import MethodFacts

PAGE = Path(__file__).resolve().parents[1] / "docs" / "how-to" / "extend.md"
METHOD, LINE, RUNTIME = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def run(code: str) -> dict[str, Any]:
    """Return the names that the code defines."""
    names: dict[str, Any] = {}
    exec(code, names)
    return names


def test_the_method_learns_the_labels_and_the_logits_of_the_teacher() -> None:
    rows = torch.tensor([[1.0, -1.0, 0.0], [0.5, 2.0, -2.0]])
    options: Any = SimpleNamespace(train=SimpleNamespace(label_smoothing=0.0))
    method = run(METHOD)["build"](MethodInputs(nn.Flatten(), 12, 2, 3, options, DistillationTargets(rows=rows)))
    batch = Batch(torch.ones(2, 3, 2, 2), torch.tensor([0, 1]), torch.tensor([1, 0]))
    nn.init.zeros_(method.classifier.weight)
    nn.init.zeros_(method.classifier.bias)
    losses = method.losses(nn.Flatten(), batch)
    assert losses.parts["ce"] == pytest.approx(np.log(3))
    assert losses.parts["mse"] == pytest.approx(float((rows**2).mean()))
    assert losses.total.item() == pytest.approx(float(losses.parts["ce"] + losses.parts["mse"]))


def test_the_line_of_the_registry_describes_the_method() -> None:
    (facts,) = eval(f"{{{LINE}}}", {"MethodFacts": MethodFacts}).values()
    assert (facts.targets, facts.label_free, facts.online, facts.reads_labels) == ("logits", True, True, True)


def test_the_runtime_computes_what_onnxruntime_computes(
    onnx_path: Path, labels: tuple[str, ...], tmp_path: Path
) -> None:
    runtime = run(RUNTIME)["RUNTIME"]
    with runtime.open(onnx_path, 1) as runner, OrtRunner(onnx_path) as reference:
        side = int(reference._img_size or 0)
        images = np.random.default_rng(0).standard_normal((2, 3, side, side), dtype=np.float32)
        np.testing.assert_allclose(runner.run(images), reference.run(images), rtol=1e-4, atol=1e-4)
        assert (runner.name, runner.precision, runner.labels) == ("onnx", "f32", labels)
        with pytest.raises(DataError, match="a model takes float32"):
            runner.run(images[..., 1:])
    damaged = tmp_path / "model.onnx"
    damaged.write_bytes(b"no model")
    with pytest.raises(DataError, match="cannot be loaded by onnx"):
        runtime.open(damaged, 1)
