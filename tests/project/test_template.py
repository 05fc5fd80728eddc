"""Tests of the file that `tcs-edge init` writes, against the specs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tcs_edge.gate.limits import Changes, GateLimits
from tcs_edge.project.read import ProjectFile
from tcs_edge.project.template import Project, project_toml
from tcs_edge.specs.config import CompressConfig
from tcs_edge.specs.defaults import with_data_defaults
from tcs_edge.specs.parameters import table_of
from tcs_edge.specs.strict import validated
from tcs_edge.specs.target import list_targets, load_target


def text(project: Project) -> str:
    return project_toml(project)


def read(toml: str) -> ProjectFile:
    return validated(ProjectFile, tomllib.loads(toml), Path("tcs-edge.toml"))


def switched_on(toml: str) -> str:
    """Return the text with every option switched on, except open options, which have no value."""
    return "\n".join(re.sub(r"^#(?=[a-z\[])", "", line) for line in toml.splitlines() if not line.endswith(" ="))


@pytest.mark.parametrize("target", list_targets())
def test_written_options_equal_defaults_of_compress(target):
    found = read(text(Project(target, Path("photos"))))
    assert found.compress_config() == CompressConfig.model_validate({"target": target, "data": "photos"})
    limits = load_target(target).limits
    assert found.gate.max_latency_ms.fail == limits.max_latency_ms
    assert found.gate.max_size_mb.fail == limits.max_size_mb


def test_data_is_open_without_images():
    assert read(text(Project("raspberrypi", None))).data is None


def test_every_option_shows_its_default():
    toml = text(Project("raspberrypi4", Path("photos")))
    asked = CompressConfig.model_validate({"target": "raspberrypi4", "data": "photos"})
    defaults = with_data_defaults(asked, 224).replaced(**load_target("raspberrypi4").limits.model_dump())
    assert read(switched_on(toml)).compress_config() == defaults


def test_every_option_and_limit_has_a_comment():
    lines = text(Project("raspberrypi", Path("photos"))).splitlines()
    names = {match[1]: row for row, line in enumerate(lines) if (match := re.match(r"#?\[?([\w.]+)(?: =|\])", line))}
    options = {name for name, field in CompressConfig.model_fields.items() if table_of(field) is None}
    tables = {name: table_of(field) for name, field in CompressConfig.model_fields.items() if table_of(field)}
    tables = {name: table for name, table in tables.items() if table.everyday != ()}
    inner = {key for table in tables.values() for key in table.everyday or table.model_fields}
    limits = {name for name in GateLimits.model_fields if name != "change"}
    assert options | set(tables) | inner | limits | set(Changes.model_fields) | {"gate.change"} <= set(names)
    without = [name for name in options | inner | limits if not re.match(r"# \w", lines[names[name] - 1])]
    assert without == []


def test_keys_for_experiments_are_named_and_nothing_more():
    toml = text(Project("raspberrypi", Path("photos")))
    named = " ".join(toml.replace("\n# ", " ").split("Keys for experiments", 1)[1].split("\n", 1)[0].split())
    for name, field in CompressConfig.model_fields.items():
        table = table_of(field)
        if table is None or table.everyday is None:
            continue
        assert set(table.everyday) <= set(table.model_fields)
        rest = [key for key in table.model_fields if key not in table.everyday]
        assert f"[{name}] {', '.join(rest)}" in named
        assert not [key for key in rest if f"#[{name}]" in toml and f"\n#{key} =" in toml.split(f"#[{name}]")[1]]
    assert len(table_of(CompressConfig.model_fields["tcs"]).everyday) <= 5


def test_all_limits_can_be_switched_on():
    gate = read(switched_on(text(Project("raspberrypi", None)))).gate
    assert all(getattr(gate, name) is not None for name in GateLimits.model_fields)
    assert all(getattr(gate.change, name) is not None for name in Changes.model_fields)
