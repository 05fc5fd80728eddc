"""Tests of `tcs-edge report`: its pages, output and error messages."""

from __future__ import annotations

import json
import webbrowser

import pytest


def test_report_is_written_into_the_run_and_changes_no_other_file(cli, own_run):
    from tcs_edge.runs.manifest import read_manifest, verify_files

    (own_run / "reports" / "report.html").unlink()
    result = cli("report", own_run)
    assert result.exit_code == 0, result.stderr
    page = own_run / "reports" / "report.html"
    assert result.stdout == f"report: {page} ({page.stat().st_size / 1e6:.2f} MB)\n"
    assert verify_files(own_run, read_manifest(own_run)) == ()


def test_out_and_json_of_a_report(cli, finished, tmp_path):
    out = tmp_path / "new" / "page.html"
    result = cli("report", finished, "--out", out, "--json")
    assert json.loads(result.stdout) == {"schema_version": 1, "report": str(out), "bytes": out.stat().st_size}


def test_several_runs_are_compared(cli, finished, own_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli("report", finished, own_run).exit_code == 0
    assert "Comparison of 2 runs" in (tmp_path / "comparison.html").read_text()


def test_open_starts_a_browser(cli, finished, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    assert cli("report", finished, "--out", tmp_path / "page.html", "--open").exit_code == 0
    assert opened == [(tmp_path / "page.html").as_uri()]


def test_open_without_a_browser_names_the_page(cli, finished, tmp_path, monkeypatch):
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    result = cli("report", finished, "--out", tmp_path / "page.html", "--open")
    assert result.exit_code == 0
    assert f"no browser found. Open {tmp_path / 'page.html'}." in result.stderr


def test_interactive_without_the_runtime_names_the_command(cli, finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TCS_EDGE_ONNXRUNTIME_WEB", raising=False)
    result = cli("report", finished, "--interactive")
    assert result.exit_code == 4
    assert "npm install onnxruntime-web" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_interactive_page_of_a_failed_run_raises(cli, make_run):
    result = cli("report", make_run(passed=False), "--interactive")
    assert result.exit_code == 1
    assert "no validated model" in result.stderr


@pytest.mark.parametrize("flags", [("--interactive",), ("--data", ".")])
def test_flags_for_one_run_are_rejected_for_several(cli, finished, own_run, flags):
    result = cli("report", finished, own_run, *flags)
    assert result.exit_code == 2
    assert "for one run" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("none",), 3, "no such run folder"),
        ((".", "--data", "none"), 3, "no such image folder"),
        ((), 2, "Missing argument"),
    ],
)
def test_wrong_usage_prints_its_message(cli, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    result = cli("report", *arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.stderr
