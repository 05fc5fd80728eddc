"""Examples: all of them run, in seconds. test_ci.py tests examples/ci."""

from __future__ import annotations

import json
import os
import platform
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tcs_edge.errors import DataError

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"


@pytest.fixture
def here(tmp_path, monkeypatch, photos) -> Path:
    """Empty folder with a link to the photos, and `tcs-edge` on the path."""
    command = tmp_path / "bin" / "tcs-edge"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tcs_edge "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "photos").symlink_to(photos)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def config(here, tiny) -> Path:
    """File with the options of a run that takes seconds."""
    flags = tiny(target=None, data=None)[1:]
    lines = [f"{name[2:].replace('-', '_')} = {_toml(value)}" for name, value in zip(*[iter(flags)] * 2, strict=True)]
    path = here / "tiny.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def _toml(value: str) -> str:
    return value if value.replace(".", "").isdigit() else json.dumps(value)


def run(monkeypatch, script: str, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    runpy.run_path(str(EXAMPLES / script), run_name="__main__")


@pytest.mark.slow
def test_the_raspberry_pi_example_passes_its_gate(here, tiny):
    flags = tiny(target=None, data=None)[1:]
    command = [EXAMPLES / "raspberry_pi.sh", "photos", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gate: pass" in done.stdout
    assert (here / "runs" / "raspberrypi4" / "export" / "model.onnx").is_file()


@pytest.mark.slow
def test_like_images_and_an_added_class(here, tiny, photos):
    python = here / "bin" / "python3"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (here / "new").mkdir()
    for index in range(5):
        pixels = np.array((240, 220, 30)) + np.random.default_rng(index).normal(0, 45, (40, 40, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(here / "new" / f"{index}.png")
    flags = tiny(target=None, data=None)[1:]
    command = [EXAMPLES / "like_images.sh", "photos", "yellow", "new", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "added: yellow (5 photos" in done.stdout
    assert done.stdout.count(": yellow ") >= 3


@pytest.mark.slow
def test_label_more_writes_a_page_and_a_list(here, tiny, photos):
    flags = dict(zip(*[iter(tiny(target=None, data=None)[1:])] * 2, strict=True))
    kept = ("--teacher", "--teacher-weights", "--teacher-img-size", "--device", "--threads", "--workers", "--cache-dir")
    given = [word for name in kept for word in (name, flags[name])]
    command = [EXAMPLES / "label_more.sh", "photos/train", "photos/test/red", *given]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (here / "check.html").is_file()
    assert len((here / "next.csv").read_text().splitlines()) > 5


@pytest.mark.slow
def test_the_notebook_runs_headless(here, tiny):
    """Every code cell runs in order in one process, with the parameters of a run that takes seconds."""
    notebook = json.loads((EXAMPLES / "photos_to_board.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["metadata"].get("tags") for cell in cells] == [["parameters"], *[None] * (len(cells) - 1)]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    flags = dict(zip(*[iter(tiny(target=None, data=None)[1:])] * 2, strict=True))
    options = {name[2:].replace("-", "_"): json.loads(_toml(value)) for name, value in flags.items()}
    parameters = f"PHOTOS, TARGET, OUT, OPTIONS = 'photos', 'raspberrypi4', 'runs/notebook', {options!r}\n"
    code = "\n".join([parameters, *("".join(cell["source"]) for cell in cells[1:])])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "passed: True" in done.stdout
    assert "gate: pass" in done.stdout
    assert "'model.onnx'" in done.stdout
    assert sum(line.startswith(("red: ", "green: ", "blue: ")) for line in done.stdout.splitlines()) == 5


@pytest.mark.slow
def test_the_few_shot_example_draws_the_images(config, monkeypatch, capsys):
    run(monkeypatch, "few_shot.py", "photos", "--shots", 4, "--config", config)
    assert "4 images per class: " in capsys.readouterr().out
    assert len(list(Path("few-shot/4-shots-seed0/train/red").iterdir())) == 4


@pytest.mark.slow
def test_the_csv_example_keeps_groups_together(config, monkeypatch, capsys, photos):
    files = sorted(path.relative_to(photos).as_posix() for path in (photos / "train").rglob("*.*"))
    rows = [f"photos/{file},{file.split('/')[1]},tree {number // 2}" for number, file in enumerate(files)]
    Path("labels.csv").write_text("photo,species,tree\n" + "\n".join(rows) + "\n")
    options = ("--label", "species", "--group", "tree", "--config", config)
    with pytest.raises(DataError, match="no column for the path"):
        run(monkeypatch, "csv_labels.py", "labels.csv", *options)
    Path("labels.csv").write_text(Path("labels.csv").read_text().replace("photo,", "path,", 1))
    run(monkeypatch, "csv_labels.py", "labels.csv", *options)
    assert capsys.readouterr().out.startswith("blue, green, red: ")
    predicted = json.loads(Path("runs/labels/reports/predictions.json").read_text())["names"]
    assert len(predicted) == 6
    trees = {files.index(f"train/{name.removeprefix('train/')}") // 2 for name in predicted}
    assert len(trees) == 3


@pytest.mark.slow
def test_the_custom_teacher_example_uses_its_teacher(config, monkeypatch, capsys):
    options = ("--teacher", "test_vit", "--img-size", 64, "--from-scratch", "--config", config)
    run(monkeypatch, "custom_teacher.py", "photos", *options)
    assert capsys.readouterr().out.startswith("photos/test/")
    teacher = json.loads(Path("runs/custom-teacher/manifest.json").read_text())["teacher"]
    assert teacher["name"] == "timm/test_vit"


@pytest.mark.slow
def test_the_own_device_example_measures_latencies(here):
    # Short and tolerant, because the test is about the steps, not about the latency of this machine.
    quick = ("--rounds", "3", "--seconds", "0.01", "--max-spread", "1000")
    example = Path(shutil.copytree(EXAMPLES / "own_device", here / "example"))
    command = [example / "measure.sh", "32", *quick]
    if platform.machine() in ("x86_64", "AMD64"):  # the board of the example is an Arm
        refused = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert (refused.returncode, "my-board is 64-bit Arm" in refused.stderr) == (2, True), refused.stderr
        board = example / "my-board.toml"
        board.write_text(board.read_text().replace('"raspberrypi4"', '"x86-avx2"'))
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("lcnet_050 "))
    assert "measured" in row
    rows = json.loads((here / "my-board.json").read_text())["rows"]
    assert {row["model"] for row in rows} == {"lcnet_050", "mobilenetv3_small_050"}


def test_every_example_is_listed():
    text = (EXAMPLES / "README.md").read_text()
    assert [path.name for path in EXAMPLES.iterdir() if path.name != "README.md" and f"]({path.name}" not in text] == []
