"""The gate's failures and warnings as GitHub and GitLab show them beside the changed files."""

from __future__ import annotations

import hashlib
import json

from tcs_edge.gate.judge import GateCheck, GateResult
from tcs_edge.report.gate import sentence
from tcs_edge.report.text import one_line

SEVERITIES = {"fail": "major", "warn": "minor"}
COMMANDS = {"fail": "error", "warn": "warning"}


def github_lines(result: GateResult, file: str | None = None) -> list[str]:
    """Workflow commands, one a line; the runner reads them from the job's output.

    Args:
        file: where the limits stand, relative to the repository; None shows them at no file.
    """
    place = f"file={_property(file)}," if file else ""
    return [
        f"::{COMMANDS[check.outcome]} {place}title={_property(f'gate: {check.title}')}::{_data(sentence(check))}"
        for check in _wrong(result)
    ]


def gitlab_report(result: GateResult, file: str) -> str:
    """A Code Quality report, which a merge request shows: a JSON list, an empty one when all is well."""
    entries = [
        {
            "description": one_line(sentence(check)),
            "check_name": "tcs-edge gate",
            "fingerprint": hashlib.sha256(check.key.encode(errors="replace")).hexdigest(),
            "severity": SEVERITIES[check.outcome],
            "location": {"path": file, "lines": {"begin": 1}},
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
