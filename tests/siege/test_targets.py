"""Target files and profiles that cannot be read: one line, exit code 2."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tcs_edge.errors import SpecError
from tcs_edge.specs.profile import load_profile
from tcs_edge.specs.target import load_target

BASE = 'name = "x"\nextends = "raspberrypi5"\n'
TEXTS = {
    "5,000 digits": BASE + "threads = " + "9" * 5000,
    "9,000 hex digits": BASE + "threads = 0x" + "f" * 9000,
    "100,000 brackets": "a = " + "[" * 100_000,
    "5,000 tables": f"[{'.'.join('a' * 5000)}]\nx = 1",
    "NUL in extends": 'extends = "a\\u0000.toml"',
    "a long extends": f'extends = "{"a" * 5000}.toml"',
    "a folder as extends": 'extends = "folder.toml"',
    "a pipe as extends": 'extends = "pipe.toml"',
    "a year of zero": "x = 0000-01-01T00:00:00Z",
    "half a surrogate pair": 'name = "\\ud800"',
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_spoiled_target_is_refused_in_one_line(tmp_path, name):
    (tmp_path / "folder.toml").mkdir()
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "mine.toml").write_text(TEXTS[name])
    with pytest.raises(SpecError) as caught:
        load_target(tmp_path / "mine.toml")
    assert len(str(caught.value).splitlines()) == 1


def test_a_long_chain_of_targets_is_refused(tmp_path):
    for number in range(40):
        (tmp_path / f"{number}.toml").write_text(f'extends = "{number + 1}.toml"')
    (tmp_path / "40.toml").write_text(BASE)
    with pytest.raises(SpecError, match="more than 16 steps"):
        load_target(tmp_path / "0.toml")
    assert load_target(tmp_path / "30.toml").name == "x"


def test_a_circle_of_targets_is_refused(tmp_path):
    (tmp_path / "a.toml").write_text('extends = "b.toml"')
    (tmp_path / "b.toml").write_text('extends = "../' + tmp_path.name + '/a.toml"')
    with pytest.raises(SpecError, match="circular"):
        load_target(tmp_path / "a.toml")


@pytest.mark.parametrize("profile", ["a\\u0000.json", "a" * 5000 + ".json", "../x.json"])
def test_the_profile_of_a_target_may_be_missing(tmp_path, profile):
    (tmp_path / "mine.toml").write_text(f'{BASE}profile = "{profile}"')
    with pytest.raises(SpecError):
        load_profile(load_target(tmp_path / "mine.toml").profile)


def test_files_in_other_encodings(tmp_path):
    (tmp_path / "bom.toml").write_bytes(b"\xef\xbb\xbf" + BASE.encode())
    assert load_target(tmp_path / "bom.toml").name == "x"
    (tmp_path / "wide.toml").write_bytes(BASE.encode("utf-16"))
    with pytest.raises(SpecError, match=r"UTF-16\. Save it as UTF-8"):
        load_target(tmp_path / "wide.toml")


@pytest.mark.parametrize("content", ["[" * 100_000, '{"target": ' + "9" * 5000 + "}", '{"target": "a", "target": "b"}'])
def test_a_spoiled_profile_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(SpecError, match="cannot be read as JSON") as caught:
        load_profile(path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b", "\ud800"])
def test_a_path_that_the_system_refuses(name):
    for load, suffix in ((load_target, ".toml"), (load_profile, ".json")):
        with pytest.raises(SpecError):
            load(Path(name + suffix))
