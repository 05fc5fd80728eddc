"""Errors: the tree in the module's docstring is correct, and messages suggest names."""

from __future__ import annotations

import re

import pytest

from tcs_edge import errors
from tcs_edge.errors import LONGEST_MESSAGE, TcsEdgeError, UnknownName


def drawn_tree() -> dict[str, int]:
    """Return exit codes by error name from the tree in the module's docstring; a leaf has its parent's code."""
    codes, inherited = {}, 70
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"[\s│├└─]*(\w+)(?: \((\d+)\))?\s{2,}", line)
        if found and found[1][0].isupper() and line.startswith("    "):
            inherited = int(found[2]) if found[2] else inherited
            codes[found[1]] = inherited
    return codes


def all_errors() -> dict[str, type[TcsEdgeError]]:
    return {
        name: thing
        for name, thing in vars(errors).items()
        if isinstance(thing, type) and issubclass(thing, TcsEdgeError)
    }


def test_every_error_is_in_the_tree_with_its_exit_code():
    assert {name: error.exit_code for name, error in all_errors().items()} == drawn_tree()


def test_every_error_has_a_docstring():
    assert all(error.__doc__ for error in all_errors().values())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("raspberypi4", "Did you mean raspberrypi4"),
        ("zzz", "Known: jetson-orin-nano, raspberrypi4, raspberrypi5."),
    ],
)
def test_an_unknown_name_suggests_near_names(name, expected):
    error = UnknownName("target", name, ["raspberrypi5", "raspberrypi4", "jetson-orin-nano"], hint="Or a file.")
    assert str(error).startswith(f"unknown target {name!r}. ")
    assert expected in str(error)
    assert str(error).endswith("Or a file.")


def test_a_long_list_of_names_is_shortened():
    message = str(UnknownName("student", "#", [f"net{index:02d}" for index in range(50)]))
    assert "net11, ..." in message
    assert "net12" not in message


@pytest.mark.parametrize("length", [1, 1990, 2000, 2001, 2006, 5000, 10**6])
def test_a_long_message_is_cut_in_its_middle(length):
    """A file can have names of any length; the fix at the end stays."""
    whole = f"problem {'a' * length}. Fix it."
    shown = str(TcsEdgeError(whole))
    assert len(shown) == min(len(whole), LONGEST_MESSAGE)
    assert shown.startswith("problem a")
    assert shown.endswith(". Fix it.")
