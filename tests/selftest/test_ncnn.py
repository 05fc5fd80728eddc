"""Self-test with ncnn models: every fault is detected, and a student that ncnn lacks is named."""

from __future__ import annotations

import pytest

from tcs_edge.errors import UsageError
from tcs_edge.selftest import ncnn, sweep
from tcs_edge.selftest.ncnn import NCNN_FAULTS
from tcs_edge.selftest.sweep import HASHES

pytestmark = pytest.mark.timeout(1800)


@pytest.mark.slow
def test_every_ncnn_fault_is_detected_without_a_false_alarm(monkeypatch):
    monkeypatch.setattr(sweep, "FAULTS", ())
    monkeypatch.setattr(sweep, "add_int8", lambda _: True)
    outcome = sweep.selftest(("lcnet_050",), formats=("ncnn",))
    assert [result.alarms for result in outcome.good] == [()]
    assert [result.fault for result in outcome.missed] == []
    assert {result.fault for result in outcome.broken} == {fault.name for fault in NCNN_FAULTS}
    assert outcome.passed
    caught = {result.fault: result.checks for result in outcome.broken}
    assert caught.pop("ncnn: one weight bit, lowest of the mantissa") == (HASHES,)
    # Only ncnn's files are damaged, so only its checks fail.
    assert {check.partition(":")[0] for checks in caught.values() for check in checks} == {"ncnn"}


@pytest.mark.slow
def test_a_student_that_ncnn_lacks_is_tested_without_it(monkeypatch, cli):
    def refuses(*_: object) -> None:
        raise UsageError("ncnn has no layer Tensor.reshape")

    monkeypatch.setattr(sweep, "FAULTS", [fault for fault in sweep.FAULTS if fault.name == "transposed input"])
    monkeypatch.setattr(ncnn, "export_ncnn", refuses)
    result = cli("selftest", "--student", "lcnet_050", "--format", "ncnn")
    assert "without ncnn, which does not hold them: lcnet_050" in result.stdout
    assert "NOT TRIED ncnn: truncated .bin" in result.stdout
    assert result.exit_code == 1
