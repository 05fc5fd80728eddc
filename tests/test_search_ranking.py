"""benchmarks/search_ranking.py: correlation of the places in a ranking with the final accuracies."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "search_ranking.py"
NAMES = ("a", "b", "c", "d")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("search_ranking", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def document(**rankings: str) -> dict[str, Any]:
    """Build a result from rankings as letters, best first; figures may rise with falling places, as in halving."""
    searches = {
        search: {"seconds": 1.0, "ranking": {name: {"percent": 10.0 + place} for place, name in enumerate(order)}}
        for search, order in rankings.items()
    }
    final = {name: 0.9 - 0.1 * place for place, name in enumerate(NAMES)}
    return {"searches": searches, "final_accuracy": final}


def test_the_correlation_is_one_for_the_right_order_and_minus_one_for_its_reverse(script, capsys):
    script.print_ranking(document(table="dcba", alignment="abcd", halving="bacd"))
    printed = re.findall(r"(\w+) +Spearman (-?[\d.]+) over 4 students", capsys.readouterr().out)
    # One swap of adjacent places: 1 - 6 * 2 / (4 * 15).
    assert {search: float(value) for search, value in printed} == {"table": -1.0, "alignment": 1.0, "halving": 0.8}
