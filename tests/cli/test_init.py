"""Tests of `tcs-edge init`, and of compress and gate with its file."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "project"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def test_images_in_current_folder_are_found(cli, in_an_empty_folder, photos):
    (in_an_empty_folder / "photos").symlink_to(photos)
    result = cli("init", "--target", "raspberrypi4")
    assert result.exit_code == 0, result.output
    assert "photos (train/ with val/ or test/, 3 classes)" in result.stderr
    written = tomllib.loads(Path("tcs-edge.toml").read_text())
    assert (written["target"], written["data"]) == ("raspberrypi4", "photos")
    plan = cli("compress", "--dry-run", "--json", "--method", "ce", "--student", "lcnet_050", "--img-size", 32)
    assert plan.exit_code == 0, plan.stderr
    assert "options: tcs-edge.toml" in plan.stderr
    assert "images: photos" in plan.stderr
    assert "30 epochs of 72 images" in " ".join(stage["what"] for stage in json.loads(plan.stdout)["stages"])


def test_folder_name_may_have_any_characters(cli):
    name = 'a "b"\n[gate]\x1b\u202e \\ é'
    for part in ("cat", "dog"):
        (Path(name) / part).mkdir(parents=True)
        (Path(name) / part / "1.png").touch()
    result = cli("init")
    assert result.exit_code == 0, result.output
    assert tomllib.loads(Path("tcs-edge.toml").read_text(encoding="utf-8"))["data"] == name
    assert "\x1b" not in result.stderr + result.stdout


def test_missing_images_are_reported(cli):
    result = cli("init")
    assert result.exit_code == 0
    assert "No image folder found here" in result.stderr
    assert "data" not in tomllib.loads(Path("tcs-edge.toml").read_text())


def test_existing_file_is_kept_without_force(cli):
    Path("tcs-edge.toml").write_text("# mine\n")
    refused = cli("init")
    assert refused.exit_code == 2
    assert "--force" in refused.stderr
    assert Path("tcs-edge.toml").read_text() == "# mine\n"
    assert cli("init", "--force").exit_code == 0
    assert "[gate]" in Path("tcs-edge.toml").read_text()


@pytest.mark.parametrize(
    ("flags", "exit_code", "message"),
    [(("--target", "raspberypi4"), 2, "raspberrypi4"), (("--data", "none"), 3, "no such folder")],
)
def test_wrong_usage_writes_nothing(cli, flags, exit_code, message):
    result = cli("init", *flags)
    assert result.exit_code == exit_code
    assert message in result.stderr
    assert not Path("tcs-edge.toml").exists()


def test_gate_passes_run_within_the_written_limits(cli, make_run):
    assert cli("init", "--target", "raspberrypi4").exit_code == 0
    result = cli("gate", make_run(correct=92))
    assert result.exit_code == 0, result.output
    assert cli("gate", make_run("slow", correct=92, latency_ms=99.0)).exit_code == 1


def test_misspelled_option_in_the_file_fails_compress_and_gate(cli, make_run):
    Path("tcs-edge.toml").write_text('target = "raspberrypi4"\nepoch = 3\n[gate]\nmax_size_mb = 5\n')
    for arguments in (("compress",), ("gate", make_run())):
        result = cli(*arguments)
        assert result.exit_code == 2
        assert "Did you mean epochs" in result.stderr


def test_config_flag_replaces_tcs_edge_toml(cli, photos):
    Path("tcs-edge.toml").write_text("epoch = 3\n")
    Path("other.toml").write_text(
        f'target = "raspberrypi4"\ndata = "{photos}"\nmethod = "ce"\n[gate]\nmax_size_mb = 5\n'
    )
    result = cli("compress", "--config", "other.toml", "--student", "lcnet_050", "--img-size", 32, "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert "tcs-edge.toml" not in result.stderr
