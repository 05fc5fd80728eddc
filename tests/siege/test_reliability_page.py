"""The table of disturbed runs: new rows replace old ones, and rows without a new try stay."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from tests.benchmark_modules import benchmark

DISK, CLOCK = "compress: full disk, 20 fill levels (tmpfs)", "compress: the clock jumps (libfaketime)"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the tool imports modules of Linux")


@pytest.fixture(scope="module")
def tool():
    with benchmark("reliability") as module:
        yield module


def tries(case: str, count: int, verdict: str) -> list[dict[str, Any]]:
    return [{"case": case, "try": str(n), "verdict": verdict, "detail": "why", "seconds": 60.0} for n in range(count)]


def soak(tool, runs: int) -> dict[str, Any]:
    part = {"memory_mb": 900.0 + runs, "handles": 6, "threads": 7, "temporary_files": 1}
    detail = json.dumps({"runs": runs, "warm": 10, "early": part, "late": part})
    return {"case": tool.SOAK, "try": str(runs), "verdict": "same", "detail": detail, "seconds": 0.0}


@pytest.fixture
def write(tool, tmp_path, monkeypatch):
    """Write the table of some records into the page; return the page's lines."""
    page, file = tmp_path / "page.md", tmp_path / "tries.jsonl"
    page.write_text(f"above\n{tool.BEGIN}\n{tool.END}\nbelow\n")
    monkeypatch.setenv(tool.IN_NAMESPACE, "1")

    def write(records: list[dict[str, Any]]) -> list[str]:
        file.write_text("".join(json.dumps(record) + "\n" for record in records))
        monkeypatch.setattr(sys, "argv", ["x", "--table-only", "--out", str(file), "--page", str(page)])
        tool.main()
        return page.read_text().splitlines()

    return write


def test_a_row_without_a_new_try_stays(tool, write):
    first = write([*tries(DISK, 3, "refused"), *tries(CLOCK, 4, "same"), soak(tool, 91)])
    assert any(line.startswith("Measured with ") and line.endswith(" in 7 minutes.") for line in first)
    page = write([*tries(CLOCK, 2, "same"), *tries(CLOCK, 1, "lost")])
    assert f"| {DISK} | 3 | 0 | 3 | 0 | 0 | 0 |" in page
    assert f"| {CLOCK} | 2 | 1 | 0 | 1 | 0 | 0 |" in page
    assert "| **all** | 5 | 1 | 3 | 1 | 0 | 0 |" in page
    assert "| 91 runs in one process | runs 11 to 20 | last 10 runs |" in page
    assert "| resident memory, MB | 991 | 991 |" in page
    assert any(line.startswith("The rows come from several measurements, the last with tcs-edge ") for line in page)
    assert (page[0], page[-1]) == ("above", "below")
    assert write(tries(CLOCK, 2, "same")) == write(tries(CLOCK, 2, "same"))


def test_new_runs_in_one_process_replace_the_old_ones(tool, write):
    write([*tries(DISK, 3, "refused"), soak(tool, 91)])
    page = write([soak(tool, 200)])
    assert "| 200 runs in one process | runs 11 to 20 | last 10 runs |" in page
    assert not any(line.startswith("| 91 runs") for line in page)


def test_a_case_that_cannot_run_here_keeps_its_figures(write):
    cannot = {**tries(DISK, 1, "not run")[0], "try": ""}
    assert f"| {DISK} | not run: why | | | | | |" in write([cannot])
    assert f"| {DISK} | 3 | 0 | 3 | 0 | 0 | 0 |" in write([cannot, *tries(DISK, 3, "refused")])
    assert f"| {DISK} | 3 | 0 | 3 | 0 | 0 | 0 |" in write([cannot])


def test_a_page_without_markers_is_refused_before_the_measurement(tool, tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("no markers")
    monkeypatch.setattr(sys, "argv", ["x", "--out", str(tmp_path / "tries.jsonl"), "--page", str(page)])
    with pytest.raises(SystemExit, match="lacks the markers"):
        tool.main()
