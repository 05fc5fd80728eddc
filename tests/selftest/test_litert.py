"""Self-test with LiteRT models: every fault is detected."""

from __future__ import annotations

import pytest

from tcs_edge.errors import UsageError
from tcs_edge.selftest import litert, sweep
from tcs_edge.selftest.litert import LITERT_FAULTS
from tcs_edge.selftest.sweep import HASHES
from tcs_edge.utils.installed import is_installed

pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        not is_installed("litert_torch"), reason="litert-torch is not installed: pip install 'tcs-edge[litert]'"
    ),
]


@pytest.mark.slow
def test_every_litert_fault_is_detected_without_a_false_alarm(monkeypatch):
    monkeypatch.setattr(sweep, "FAULTS", ())
    monkeypatch.setattr(sweep, "add_int8", lambda _: True)
    outcome = sweep.selftest(("lcnet_050",), formats=("litert",))
    assert [result.alarms for result in outcome.good] == [()]
    assert [result.fault for result in outcome.missed] == []
    assert {result.fault for result in outcome.broken} == {fault.name for fault in LITERT_FAULTS}
    assert outcome.passed
    caught = {result.fault: result.checks for result in outcome.broken}
    assert caught.pop("litert: one weight bit, lowest of the mantissa") == (HASHES,)
    # Only LiteRT's files are damaged, so only its checks fail.
    assert {check.partition(":")[0] for checks in caught.values() for check in checks} == {"litert"}


@pytest.mark.slow
def test_a_student_that_litert_lacks_is_tested_without_it(monkeypatch, cli):
    def refuses(*_: object) -> None:
        raise UsageError("litert-torch cannot convert the model to LiteRT")

    monkeypatch.setattr(sweep, "FAULTS", [fault for fault in sweep.FAULTS if fault.name == "transposed input"])
    monkeypatch.setattr(litert, "export_litert", refuses)
    result = cli("selftest", "--student", "lcnet_050", "--format", "litert")
    assert "without litert, which does not hold them: lcnet_050" in result.stdout
    assert "NOT TRIED litert: truncated file" in result.stdout
    assert result.exit_code == 1
