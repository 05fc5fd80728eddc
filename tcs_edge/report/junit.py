"""Format the gate's result as JUnit XML, which CI systems show as tests."""

from __future__ import annotations

from xml.etree import ElementTree

from tcs_edge.gate.judge import GateCheck, GateResult
from tcs_edge.report.gate import cells, sentence
from tcs_edge.report.text import one_line


def gate_junit(result: GateResult) -> bytes:
    """Return one test case per judged check; a warning passes and appears in the output of its case."""
    judged = [check for check in result.checks if check.outcome != "info"]
    counts = {"tests": str(len(judged)), "failures": str(len(result.of("fail"))), "errors": "0", "skipped": "0"}
    suites = ElementTree.Element("testsuites", counts | {"name": "tcs-edge"})
    suite = ElementTree.SubElement(suites, "testsuite", counts | {"name": "tcs-edge gate"})
    _properties(suite, result)
    for check in judged:
        _case(suite, check, result.subject.name)
    ElementTree.indent(suites)
    document: bytes = ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)
    return document


def _properties(suite: ElementTree.Element, result: GateResult) -> None:
    subject = result.subject
    values = {
        "model": subject.name,
        "student": subject.student or "",
        "target": subject.target or "",
        "baseline": result.baseline.name if result.baseline else "",
        "verdict": result.verdict,
        **{f"class {index}": name for index, name in enumerate(subject.classes)},
    }
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in values.items():
        ElementTree.SubElement(properties, "property", name=name, value=one_line(value))


def _case(suite: ElementTree.Element, check: GateCheck, model: str) -> None:
    names = {"classname": one_line(f"gate.{model}"), "name": one_line(check.title), "time": "0"}
    case = ElementTree.SubElement(suite, "testcase", names)
    if check.outcome == "fail":
        message = one_line("; ".join(check.reasons))
        failure = ElementTree.SubElement(case, "failure", message=message, type="gate")
        failure.text = one_line(sentence(check))
    elif check.outcome == "warn":
        ElementTree.SubElement(case, "system-out").text = one_line(f"warning: {sentence(check)}")
    else:
        shown = cells(check)
        ElementTree.SubElement(case, "system-out").text = one_line(f"{shown.value}, limit {shown.limit}")
