from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field, ValidationError

from tcs_edge.errors import SpecError
from tcs_edge.gate.limits import Changes, GateLimits
from tcs_edge.specs.config import CompressConfig
from tcs_edge.specs.strict import OLD_NAMES, Spec, validated


class Inner(Spec):
    size: int = Field(ge=1)


class Outer(Spec):
    name: str
    inner: Inner


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"name": "a", "inner": {"size": 1}, "nmae": 2}, "unknown key nmae. Did you mean name?"),
        ({"name": "a", "inner": {"size": 1, "sise": 2}}, "unknown key inner.sise. Did you mean size?"),
        ({"name": "a", "inner": {"size": 1}, "zzz": 2}, "unknown key zzz. Known: inner, name."),
        ({"inner": {"size": 1}}, "name is missing"),
        ({"name": "a", "inner": {"size": 0}}, "inner.size: Input should be greater than or equal to 1, got 0"),
        ([], "the document: "),
        ({}, "name is missing (and 1 more)"),
    ],
)
def test_an_error_is_one_line_with_file_and_key(raw: object, expected: str) -> None:
    with pytest.raises(SpecError) as caught:
        validated(Outer, raw, Path("some.toml"))
    message = str(caught.value)
    assert message.startswith("some.toml: ")
    assert expected in message
    assert "\n" not in message


def test_specs_are_frozen() -> None:
    spec = Inner(size=1)
    with pytest.raises(ValidationError, match="frozen"):
        spec.size = 2  # type: ignore[misc]


def test_a_key_of_an_optional_table_shows_near_matches():
    class Inner(Spec):
        fail: float = 1.0

    class Outer(Spec):
        size: Inner | None = None

    with pytest.raises(SpecError, match=r"unknown key size\.fial\. Did you mean fail\?"):
        validated(Outer, {"size": {"fial": 1}}, Path("x.toml"))


def test_a_key_of_a_row_and_of_a_named_table_shows_near_matches():
    class Row(Spec):
        fail: float = 1.0

    class Outer(Spec):
        rows: tuple[Row, ...] = ()
        named: dict[str, Row] = Field(default_factory=dict)

    with pytest.raises(SpecError, match=r"unknown key rows\.1\.fial\. Did you mean fail\?"):
        validated(Outer, {"rows": [{}, {"fial": 1}]}, Path("x.toml"))
    with pytest.raises(SpecError, match=r"unknown key named\.first\.zzz\. Known: fail\."):
        validated(Outer, {"named": {"first": {"zzz": 1}}}, Path("x.toml"))


class Modes(Spec):
    mode: Literal["table", "halving"] | Literal["auto"] = "auto"
    several: tuple[Literal["fp32", "int8"], ...] | None = None


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"mode": "halvin"}, "mode: unknown value 'halvin'. Did you mean halving? Known: table, halving, auto."),
        ({"mode": 3}, "mode: unknown value 3. Known: table, halving, auto."),
        ({"several": ["int9"]}, "several.0: unknown value 'int9'. Did you mean int8? Known: fp32, int8."),
        ({"mode": "x", "several": ["y"]}, "Known: table, halving, auto. (and 1 more)"),
    ],
)
def test_a_wrong_value_shows_near_and_allowed_values(raw: object, expected: str) -> None:
    with pytest.raises(SpecError) as caught:
        validated(Modes, raw, Path("some.toml"))
    assert expected in str(caught.value)


def test_an_old_key_gets_its_new_name() -> None:
    with pytest.raises(SpecError, match=r"unknown key tcs\.control\. Its new name is ablation\."):
        validated(CompressConfig, {"target": "x", "tcs": {"control": "none"}}, Path("some.toml"))
    with pytest.raises(SpecError, match=r"unknown key control\. (Did|Known)"):  # ablation is not a key here
        validated(CompressConfig, {"target": "x", "control": "none"}, Path("some.toml"))


def test_every_new_name_is_an_option() -> None:
    options = set(CompressConfig.model_fields) | set(CompressConfig.model_fields["tcs"].annotation.model_fields)
    options |= set(GateLimits.model_fields) | set(Changes.model_fields)
    assert set(OLD_NAMES.values()) <= options


class Numbers(Spec):
    whole: int = 1
    real: float | None = None
    several: tuple[int, ...] = ()
    table: dict[str, float] = Field(default_factory=dict)
    version: Literal[1] = 1
    either: bool | int = False
    text: str = ""


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("name", ["whole", "real", "several", "table", "version"])
def test_a_truth_value_is_not_a_number(name, given):
    """`epochs = true` would train one epoch."""
    value = {"several": [1, given], "table": {"a": given}}.get(name, given)
    with pytest.raises(SpecError, match=rf"x\.toml: {name}: must be a number, got .*{given}"):
        validated(Numbers, {name: value}, Path("x.toml"))


def test_numbers_and_truth_values_where_they_belong_are_accepted():
    raw = {"whole": 2, "real": 0.5, "several": [1, 2], "table": {"a": 1}, "version": 1, "either": True, "text": "true"}
    assert validated(Numbers, raw, Path("x.toml")).either is True


@pytest.mark.parametrize("text", ["epochs = true", "max_latency_ms = false", "[train]\nmixup = true"])
def test_a_config_file_with_a_truth_value_for_a_number_is_refused(tmp_path, cli, text):
    (tmp_path / "c.toml").write_text(f'target = "raspberrypi4"\n{text}\n')
    result = cli("compress", "--config", tmp_path / "c.toml", "--dry-run")
    assert result.exit_code == 2
    assert "must be a number, got" in result.stderr
