"""A training method is one module and one line of the registry."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import pytest

from tcs_edge.methods import CrossEntropy, MethodInputs
from tcs_edge.specs.methods import METHODS, MethodFacts


class FirstCoordinates(CrossEntropy):
    """Cross-entropy that notes the targets it was given."""

    name = "toy"
    targets: list[tuple[int, ...]] = []  # noqa: RUF012


def build(inputs: MethodInputs) -> FirstCoordinates:
    FirstCoordinates.targets.append(tuple(inputs.teacher_targets.rows.shape))
    return FirstCoordinates(inputs.feature_dim, inputs.classes, inputs.label_smoothing)


@pytest.fixture
def toy(monkeypatch):
    module = ModuleType("toy_method")
    module.build = build
    monkeypatch.setitem(sys.modules, "toy_method", module)
    monkeypatch.setitem(METHODS, "toy", MethodFacts("toy_method", "logits", label_free=True))
    FirstCoordinates.targets.clear()


@pytest.mark.slow
@pytest.mark.usefixtures("toy")
def test_a_method_of_one_module_and_one_line_trains_exports_and_is_compared(cli, tiny, tmp_path):
    result = cli(*tiny(method="toy", epochs=1), "--out", tmp_path / "run", "--json")
    assert result.exit_code in (0, 1), result.stderr  # one epoch may miss parity at the margin, never more
    assert json.loads(result.stdout)["options"]["method"] == "toy"
    assert FirstCoordinates.targets == [(72, 3)]
    refused = cli(*tiny(method="toi"), "--out", tmp_path / "other")
    assert "Did you mean toy" in refused.stderr
