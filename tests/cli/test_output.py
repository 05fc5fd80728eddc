"""Tests of the checks of names that several commands share."""

from __future__ import annotations

import pytest

from tcs_edge.cli.output import known, require_names
from tcs_edge.errors import UnknownName
from tcs_edge.specs.config import CompressConfig


def test_known_values_are_returned_once_and_in_order():
    assert known(["b", "a", "b"], "--letter", ("a", "b", "c")) == ("b", "a")


def test_unknown_value_shows_near_matches():
    with pytest.raises(UnknownName, match=r"unknown --precision 'int9'\. Did you mean int8\?"):
        known(["int9"], "--precision", ("fp32", "int8"))


@pytest.mark.parametrize("options", [{}, {"student": "resnet18"}, {"teacher": "dinov2"}, {"teacher": "timm/resnet18"}])
def test_known_names_pass(options):
    require_names(CompressConfig(target="raspberrypi4", **options))


@pytest.mark.parametrize(
    ("options", "near"),
    [
        ({"target": "raspberypi4"}, "raspberrypi4"),
        ({"student": "resnt18"}, "resnet18"),
        ({"teacher": "dinov22"}, "dinov2"),
        ({"teacher": "timm/resnt18"}, "timm/resnet18"),
    ],
)
def test_unknown_names_show_near_matches(options, near):
    with pytest.raises(UnknownName, match=f"Did you mean .*{near}"):
        require_names(CompressConfig(**{"target": "raspberrypi4"} | options))
