from __future__ import annotations

import json

from tcs_edge.models.candidates import CANDIDATES, LEFT_OUT
from tcs_edge.specs.profile import load_profile
from tcs_edge.specs.target import Limits, load_target
from tcs_edge.students.choice import assess_all
from tcs_edge.students.record import choice_document

LIMITS = Limits(max_latency_ms=100)


def test_a_choice_says_everything_of_every_candidate() -> None:
    target = load_target("raspberrypi4")
    assessed = assess_all(target, load_profile(target.profile), 224, 10, LIMITS)
    document = json.loads(json.dumps(choice_document(assessed, target.name, 224, 10, LIMITS, winner=None)))
    assert document["schema_version"] == 1
    assert document["limits"] == {"max_latency_ms": 100}
    assert document["left_out"] == LEFT_OUT
    entries = {entry["name"]: entry for entry in document["candidates"]}
    assert set(entries) == set(CANDIDATES)
    assert document["front"] == [name for name in document["front"] if not entries[name]["rejected_because"]]
    for name, entry in entries.items():
        assert entry["on_pareto_front"] == (name in document["front"])
        assert entry["latency"]["low_ms"] <= entry["latency"]["p50_ms"] <= entry["latency"]["high_ms"]
        assert entry["latency"]["source"] in ("measured", "published", "estimated")
        assert entry["latency"]["citation"]
        assert (entry["latency"]["high_ms"] > 100) == bool(entry["rejected_because"])
        sizes = [entry["exported"][precision]["bytes"] for precision in ("fp32", "fp16", "int8")]
        assert sizes == sorted(sizes, reverse=True)
        assert entry["expected_accuracy"]["percent"] == CANDIDATES[name].top1
        assert entry["license"]
