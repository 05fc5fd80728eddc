"""Tests of the plot of a comparison: valid SVG, reproducible bytes, light and dark theme."""

import re
import xml.etree.ElementTree as ET

import pytest

from tcs_edge.bench.grid import RunResult, SharedOptions, arms_of, make_runs
from tcs_edge.bench.plot import accuracy_svg
from tcs_edge.bench.rows import make_rows
from tcs_edge.report.page.charts import LINE_STYLES
from tcs_edge.report.page.environment import resource
from tcs_edge.specs.config import CompressConfig
from tcs_edge.specs.defaults import ChosenStudent, Machine, resolve, with_data_defaults

ARMS = ["tcs", "kd", "ce"]


def options(student, shots):
    asked = with_data_defaults(CompressConfig(target="x86-avx2", epochs=1, student=student, shots=shots), 32)
    return resolve(asked, ChosenStudent(student, "cnn", 32), "table", ("fp32",), Machine(1, 0, "no"))


def rows_of(shots, students=("lcnet_050",), seeds=2):
    shared = [options(student, count) for student in students for count in shots]
    marks = {"tcs": "1110", "kd": "1100", "ce": "1000"}
    return make_rows({
        run: RunResult(marks[run.arm], 1.0, 300.0, 0.0, 0.5, 9.0, 2.0, 1.5, 1, 20, 0.5)
        for run in make_runs([SharedOptions(base) for base in shared], arms_of(ARMS, []), range(seeds))
    })  # fmt: skip


@pytest.mark.parametrize("shots", [[None], [5], [1, 5, 16]])
@pytest.mark.parametrize("seeds", [1, 2])
def test_plot_has_method_and_student_names_as_text(shots, seeds):
    svg = accuracy_svg(rows_of(shots, ("lcnet_050", "test_vit"), seeds))
    texts = {element.text for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")}
    assert {*ARMS, "lcnet_050", "test_vit", "test accuracy %"} <= texts
    if len(shots) > 1:
        assert {str(count) for count in shots} <= texts


def test_plot_follows_theme_and_has_description():
    svg = accuracy_svg(rows_of([1, 5]))
    assert "prefers-color-scheme: dark" in svg
    assert "background: var(--page)" in svg
    drawn = svg.partition("</style>")[2]
    assert not re.search(r"#[0-9a-f]{3,6}", drawn)
    root = ET.fromstring(svg)
    assert root.get("role") == "img"
    assert all(arm in root.get("aria-label") for arm in ARMS)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colors_have_enough_contrast(theme):
    css = resource("chart.css")
    names = re.findall(r"svg \.series-\d \{ stroke: var\((--\w+)\)", css)
    assert len(names) == len(set(names)) == LINE_STYLES
    values = dict(re.findall(r"(--\w+): (#[0-9a-f]{6})", css.split("@media")[theme]))
    assert min(contrast(values[name], values["--page"]) for name in names) >= 3


def contrast(one, other):
    """Contrast ratio of WCAG 2.2."""
    low, high = sorted(luminance(color) for color in (one, other))
    return (high + 0.05) / (low + 0.05)


def luminance(color):
    channels = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_same_rows_give_same_bytes():
    assert accuracy_svg(rows_of([None])) == accuracy_svg(rows_of([None]))


def test_every_seed_is_a_dot():
    few, many = (accuracy_svg(rows_of([None], seeds=seeds)).count("<circle ") for seeds in (1, 4))
    assert many - few == 3 * len(ARMS)
