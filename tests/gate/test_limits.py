"""Limits of the configuration files are read, or refused in one line."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcs_edge.errors import SpecError
from tcs_edge.gate.limits import Amount, Level, parse_change
from tcs_edge.gate.measures import QUANTITIES
from tcs_edge.project.read import find_limits
from tcs_edge.specs.strict import validated

NUMBERS = st.floats(min_value=0, max_value=1e6, allow_nan=False)


def found(folder: Path, text: str, name: str = "tcs-edge.toml", **flags: object):
    (folder / name).write_text(text, encoding="utf-8")
    return find_limits(folder, flags)[0]


def test_without_a_file_there_are_no_limits(tmp_path):
    limits, origin = find_limits(tmp_path, {})
    assert not limits.any
    assert origin is None


@pytest.mark.parametrize(("name", "table"), [("tcs-edge.toml", "gate"), ("pyproject.toml", "tool.tcs-edge.gate")])
def test_both_files_are_read(tmp_path, name, table):
    levels = "max_size_mb = { fail = 5.0, warn = 4.5 }\nmax_latency_ms = 20"
    (tmp_path / name).write_text(f'[{table}]\n{levels}\n[{table}.change]\nsize_mb = "5 %"\n')
    limits, origin = find_limits(tmp_path, {})
    assert limits.max_size_mb == Level(fail=5.0, warn=4.5)
    assert limits.max_latency_ms == Level(fail=20.0)
    assert limits.change.size_mb.fail == Amount(value=5.0, percent=True)
    assert origin == tmp_path / name


def test_limits_in_both_files_are_refused(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.tcs-edge.gate]\nmax_size_mb = 1\n")
    with pytest.raises(SpecError, match="both"):
        found(tmp_path, "[gate]\nmax_size_mb = 2\n")


def test_other_tables_of_the_files_are_ignored(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n[tool.ruff]\nline-length = 1\n')
    assert found(tmp_path, 'target = "raspberrypi4"\n[gate]\nmax_params_m = 1\n').max_params_m == Level(fail=1.0)


def test_a_flag_replaces_the_whole_key(tmp_path):
    limits = "[gate]\nmax_size_mb = { fail = 5, warn = 4 }\nmax_accuracy_drop = 0.1\n"
    text = limits + "[gate.change]\nsize_mb = 1\nparams_m = 1\n"
    limits = found(tmp_path, text, max_size_mb=3.0, change={"size_mb": "2%"})
    assert limits.max_size_mb == Level(fail=3.0)
    assert limits.max_accuracy_drop == Level(fail=0.1)
    assert limits.change.size_mb.fail == Amount(value=2.0, percent=True)
    assert limits.change.params_m.fail == Amount(value=1.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_sise_mb = 1", "Did you mean max_size_mb"),
        ("[gate.change]\nsise_mb = 1", "Did you mean size_mb"),
        ("max_size_mb = { fial = 1 }", "Did you mean fail"),
        ("max_size_mb = -1", "max_size_mb"),
        ("max_size_mb = true", "max_size_mb"),
        ("max_size_mb = nan", "max_size_mb"),
        ("max_size_mb = inf", "max_size_mb"),
        ("max_size_mb = '5'", "max_size_mb"),
        ("max_size_mb = {}", "needs a number"),
        ("max_size_mb = { fail = 4, warn = 5 }", "max_size_mb: warn must come before fail"),
        ("min_accuracy = { fail = 0.9, warn = 0.8 }", "min_accuracy: warn must come before fail"),
        ("min_accuracy = 90", "such as 0.9 for 90 %"),
        ("[gate.change]\nsize_mb = '5 pc'", "percentage"),
        ("[gate.change]\nsize_mb = '-5 %'", "percentage"),
        ("[gate.change]\nsize_mb = {fail = '1 %', warn = '2 %'}", "warn must come before fail"),
        ("[gate.change]\naccuracy = '1 %'", "0.01 for one percentage point"),
        ("max_size_mb = ", "is not TOML"),
    ],
)
def test_invalid_limits_are_refused_in_one_line(tmp_path, text, words):
    with pytest.raises(SpecError, match=words) as caught:
        found(tmp_path, f"[gate]\n{text}\n")
    assert "\n" not in str(caught.value)
    assert "tcs-edge.toml" in str(caught.value)


def test_a_gate_that_is_not_a_table_is_refused(tmp_path):
    with pytest.raises(SpecError):
        found(tmp_path, "gate = 5\n")


@given(NUMBERS, st.booleans(), st.sampled_from(["", " ", "  "]))
def test_amounts_are_parsed(number, percent, space):
    amount = validated(Amount, f"{number:.6f}{space}{'%' if percent else ''}", Path("x"))
    assert amount.value == float(f"{number:.6f}")
    assert amount.percent == percent
    assert amount.of(200.0) == pytest.approx(2 * amount.value if percent else amount.value)


@given(st.text(max_size=12) | st.from_regex(r"[ 0-9.%٣-]{0,6}", fullmatch=True))
def test_any_other_text_is_refused_as_an_amount(text):
    is_number = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*%?\s*", text) is not None
    with contextlib.nullcontext() if is_number else pytest.raises(SpecError, match=r"percentage.*\Z"):
        amount = validated(Amount, text, Path("x"))
        assert amount.value == float(text.replace("%", "").strip())


@given(NUMBERS, NUMBERS, st.sampled_from(sorted(QUANTITIES)))
def test_the_warning_level_is_never_beyond_the_failure_level(first, second, name):
    quantity = QUANTITIES[name]
    scale = 1e6 if quantity.unit == "share" else 1.0
    fail, warn = first / scale, second / scale  # may be equal where the numbers are not: 5e-324 / 1e6 is 0
    raw = {quantity.limit: {"fail": fail, "warn": warn}}
    ordered = warn <= fail if quantity.better == "lower" else warn >= fail
    try:
        find_limits(Path("/nowhere"), raw)
    except SpecError:
        assert not ordered
    else:
        assert ordered


@pytest.mark.parametrize("text", ["", "size_mb", "size_mb=", "=5", " = "])
def test_a_change_needs_name_and_amount(text):
    with pytest.raises(SpecError, match="NAME=AMOUNT"):
        parse_change(text)
    assert parse_change("size_mb = 5 %") == ("size_mb", "5 %")
