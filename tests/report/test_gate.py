"""Outputs of the gate: table, comment, JUnit and annotations, with hostile names."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tcs_edge.gate.baseline import Baseline
from tcs_edge.gate.judge import judge
from tcs_edge.gate.limits import GateLimits
from tcs_edge.gate.measures import Measure
from tcs_edge.gate.subject import Subject
from tcs_edge.report.annotations import github_lines, gitlab_report
from tcs_edge.report.gate import print_gate
from tcs_edge.report.junit import gate_junit
from tcs_edge.report.markdown import gate_markdown, marker
from tcs_edge.report.text import markdown_text, one_line

HEADINGS = ["measure", "base", "head", "change", "limit"]
HOSTILE = '<b>&"\'x"</b>\n::error::|`@all`\r\u202e\x1b[31m\x00كلب🐶../..%0A'
SUBJECT = Subject(
    "run",
    (
        Measure("total_mb", 4.2, detail="2 models"),
        Measure("size_mb", 4.2, HOSTILE),
        Measure("latency_ms", 10.0, bound=19.0, detail="5 to 19 ms, estimated"),
        Measure("accuracy", 0.9, "onnxruntime", bound=0.83, detail="90 of 100 images"),
    ),
    student="lcnet_050",
    target="raspberrypi4",
    classes=("cat", HOSTILE),
)
BASE = {"total_mb": 4.0, "latency_ms": 10.0, "accuracy/onnxruntime": 0.92}
LIMITS = {
    "max_total_mb": {"fail": 5, "warn": 4.1}, "max_size_mb": 4, "min_accuracy": 0.8, "change": {"total_mb": "1 %"},
}  # fmt: skip


def result(subject: Subject = SUBJECT):
    return judge(subject, GateLimits.model_validate(LIMITS), Baseline("gate.json", BASE))


def test_the_table_shows_base_value_change_and_limit(capsys):
    print_gate(result())
    lines = capsys.readouterr().out.splitlines()
    (size,) = [line for line in lines if line.startswith("FAIL  size, all models")]
    assert re.split(r"\s{2,}", size.strip()) == [
        "FAIL", "size, all models", "4 MB", "4.2 MB", "↑ +0.2 MB (+5 %)", "≤ 5 MB; warn ≤ 4.1 MB; change 1 %"
    ]  # fmt: skip
    (accuracy,) = [line for line in lines if "accuracy, onnxruntime" in line]
    assert "90 % (at least 83 %)" in accuracy
    assert "↓ -2 points" in accuracy
    assert any(line.startswith("-     latency") and "10 ms (up to 19 ms)" in line and "= 0" in line for line in lines)
    assert lines[-1] == "gate: fail (1 passed, 2 failed)"


def test_control_characters_in_names_are_escaped(capsys):
    print_gate(result())
    out = capsys.readouterr().out
    assert not set("\x1b\x00\r\u202e") & set(out)
    assert "\\x1b[31m" in out
    assert "كلب🐶" in out


def rendered(text: str) -> tuple[str, str, str]:
    """Return heading, block and marker of a comment; fails if a site would see more than these three."""
    tokens = MarkdownIt("commonmark").parse(text)
    assert [token.type for token in tokens] == ["heading_open", "inline", "heading_close", "fence", "html_block"]
    return tokens[1].content, tokens[3].content, tokens[4].content.strip()


def test_the_comment_is_readable_as_plain_text():
    lines = gate_markdown(result()).splitlines()
    assert lines[0] == "### ❌ fail: the model misses a limit"
    assert "model: run (lcnet_050 for raspberrypi4)" in lines
    assert "base: gate.json" in lines
    assert "checks: 1 passed, 2 failed" in lines
    assert any(line.startswith("FAIL  size, all models: 4.2 MB is over the warning level") for line in lines)
    first = next(index for index, line in enumerate(lines) if line.split() == HEADINGS)
    columns = [lines[first].index(heading) for heading in HEADINGS]
    rows = lines[first + 1 : lines.index("", first)]
    (size,) = [row for row in rows if "size, all models" in row]
    cells = [size[start:end].strip() for start, end in pairwise([0, *columns, None])]
    expected = ["FAIL", "size, all models", "4 MB", "4.2 MB", "↑ +0.2 MB (+5 %)", "≤ 5 MB; warn ≤ 4.1 MB; change 1 %"]
    assert cells == expected
    assert not re.search("&#?[a-z0-9]+;|</", "\n".join(lines))


def test_hostile_names_stay_inside_the_block():
    heading, block, marker = rendered(gate_markdown(result()))
    assert heading == "❌ fail: the model misses a limit"
    assert "كلب🐶" in block
    assert marker.count("-->") == 1
    assert not re.search(r"<[A-Za-z/!]|@\w", block), "for readers that ignore the fence"
    assert not set("\x1b\x00\r\u202e") & set(block)


@pytest.mark.parametrize("name", ["```", "a\n```\n# b", "````text", "~~~", "-->", "<!--", "--", "", " ", "x" * 500])
def test_no_name_ends_the_block_or_the_marker(name):
    named = result(replace(SUBJECT, name=name, student=name, target=name, classes=(name,) * 3))
    _, block, marker = rendered(gate_markdown(named))
    assert one_line(name).strip() in re.sub("[\u2060\u2068\u2069]", "", block)
    assert re.fullmatch(r"<!-- tcs-edge-gate: [A-Za-z0-9._/ -]+ -->", marker)
    assert len(marker) < 200


def test_the_marker_identifies_model_and_target():
    names = [("run", "a"), ("run", "b"), ("Run", "a"), ("run-a", ""), ("run a", ""), ("run for a", ""), ("", "run")]
    made = [marker(result(replace(SUBJECT, name=name, target=target or None))) for name, target in names]
    assert len(set(made)) == len(names)
    again = replace(SUBJECT, measures=SUBJECT.measures[:1], student="another")
    assert marker(result(again)) == marker(result())


def test_junit_has_one_case_per_judged_number():
    suite = ElementTree.fromstring(gate_junit(result())).find("testsuite")
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    assert (suite.get("tests"), suite.get("failures")) == ("3", "2")
    assert len(cases) == 3
    failure = cases["size, all models"].find("failure")
    assert "0.2 MB (5 %) worse than the baseline, 1 % is allowed" in failure.get("message")
    assert cases["accuracy, onnxruntime"].find("failure") is None
    names = [item.get("value") for item in suite.iter("property") if item.get("name").startswith("class ")]
    assert names == ["cat", one_line(HOSTILE)]


def test_github_gets_one_command_per_line_and_gitlab_one_entry_per_problem():
    lines = github_lines(result(), "tcs-edge.toml")
    assert [line.split(" ")[0] for line in lines] == ["::error", "::error"]
    assert all(line.startswith("::error file=tcs-edge.toml,title=") and len(line.splitlines()) == 1 for line in lines)
    properties = [line.split("::")[1].split(",") for line in lines]
    assert {len(parts) for parts in properties} == {2}, "a comma in a name would start another property"
    entries = json.loads(gitlab_report(result(), "tcs-edge.toml"))
    assert len({entry["fingerprint"] for entry in entries}) == len(entries) == 2
    assert {entry["location"]["path"] for entry in entries} == {"tcs-edge.toml"}


def test_a_warning_is_reported_and_passes():
    mild = judge(SUBJECT, GateLimits.model_validate({"max_total_mb": {"fail": 5, "warn": 4.1}}), None)
    assert github_lines(mild)[0].startswith("::warning title=")
    assert json.loads(gitlab_report(mild, "x"))[0]["severity"] == "minor"
    assert ElementTree.fromstring(gate_junit(mild)).get("failures") == "0"
    assert "warn" in gate_markdown(mild)


@given(st.text())
def test_any_name_is_preserved_in_xml_and_markdown(name):
    named = result(replace(SUBJECT, name=name, student=name, classes=(name,)))
    suite = ElementTree.fromstring(gate_junit(named)).find("testsuite")
    assert [item.get("value") for item in suite.iter("property") if item.get("name") == "model"] == [one_line(name)]
    shown = re.sub("[\u2060\u2068\u2069]", "", html.unescape(markdown_text(name)))
    assert shown == re.sub("\u2060", "", one_line(name))
    rendered(gate_markdown(named))
    assert not set(markdown_text(name)) & set("<>|`*_[]\\@:~")
    gate_markdown(named).encode()


@pytest.mark.parametrize("plain", ["👩‍👩‍👧 family", "Straße", "日本語", "كلب", "a\u200db"])
def test_letters_of_all_scripts_and_emoji_are_not_escaped(plain):
    assert one_line(plain) == plain
