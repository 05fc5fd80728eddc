"""Record of a choice, as `tcs-edge candidates --json` prints it."""

from __future__ import annotations

from tcs_edge.models.candidates import CANDIDATES
from tcs_edge.runs.choice import candidates_record
from tcs_edge.specs.profile import load_profile
from tcs_edge.specs.target import Limits, load_target
from tcs_edge.students.choice import assess_all

LIMITS = Limits(max_latency_ms=100)


def test_a_choice_records_the_facts_of_every_candidate() -> None:
    target = load_target("raspberrypi4")
    assessed = assess_all(target, load_profile(target.profile), 224, 10, LIMITS)
    winner = assessed[0].label
    record = candidates_record(assessed, target, LIMITS, 224, 10, "onnxruntime", winner)
    assert type(record).model_validate(record.model_dump(mode="json")) == record
    assert (record.target, record.limits) == ("raspberrypi4", {"max_latency_ms": 100})
    assert [found.name for found in record.candidates if found.chosen] == [winner]
    assert {found.name for found in record.candidates} == set(CANDIDATES)
    assert any(found.on_pareto_front for found in record.candidates)
    for found in record.candidates:
        assert found.latency is not None
        assert found.latency.low_ms <= found.latency.p50_ms <= found.latency.high_ms
        assert found.latency.source in ("measured", "published", "estimated")
        assert found.latency.citation
        assert (found.latency.high_ms > 100) == bool(found.reasons)
        assert not (found.on_pareto_front and found.reasons)
        sizes = [found.exported[precision].bytes for precision in ("fp32", "fp16", "int8")]
        assert sizes == sorted(sizes, reverse=True)
        assert found.expected_accuracy is not None
        assert found.expected_accuracy.percent == found.top1 == CANDIDATES[found.name].top1
        assert found.license
