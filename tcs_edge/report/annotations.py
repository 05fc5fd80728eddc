"""Annotations of GitHub and GitLab for the gate's failures and warnings."""

from __future__ import annotations

import hashlib
import json

from tcs_edge.gate.judge import GateCheck, GateResult
from tcs_edge.report.gate import sentence
from tcs_edge.report.text import one_line

SEVERITIES = {"fail": "major", "warn": "minor"}
COMMANDS = {"fail": "error", "warn": "warning"}


def github_lines(result: GateResult, file: str | None = None) -> list[str]:
    """Return GitHub workflow commands, one per line; the runner reads them from the job's output.

    Args:
        file: file with the limits, relative to the repository; None annotates no file.
    """
    place = f"file={_property(file)}," if file else ""
    return [
        f"::{COMMANDS[check.outcome]} {place}title={_property(f'gate: {check.title}')}::{_data(sentence(check))}"
        for check in _wrong(result)
    ]


def gitlab_report(result: GateResult, file: str) -> str:
    """Return a Code Quality report for a GitLab merge request: a JSON list, empty if the gate passed."""
    entries = [
        {
            "description": one_line(sentence(check)),
            "check_name": "tcs-edge gate",
            "fingerprint": hashlib.sha256(check.key.encode(errors="replace")).hexdigest(),
            "severity": SEVERITIES[check.outcome],
            "location": {"path": one_line(file), "lines": {"begin": 1}},
        }
        for check in _wrong(result)
    ]
    return json.dumps(entries, indent=2, ensure_ascii=False) + "\n"


def _wrong(result: GateResult) -> tuple[GateCheck, ...]:
    return (*result.of("fail"), *result.of("warn"))


def _data(text: str) -> str:
    return one_line(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
