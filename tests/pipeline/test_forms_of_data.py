"""A run on an archive gives the files of a run on the folder, and can be validated, reported and moved."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.slow
@pytest.mark.usefixtures("short_training")
def test_a_zip_gives_the_run_of_its_folder(cli: Any, tiny: Any, photos: Path, tmp_path: Path) -> None:
    data = tmp_path / "photos.zip"
    with zipfile.ZipFile(data, "w") as archive:
        for path in sorted(photos.rglob("*.*")):
            archive.write(path, path.relative_to(photos).as_posix())
    for name, given in (("folder", photos), ("zip", data)):
        done = cli(*tiny(data=given, epochs=1), "--out", tmp_path / name)
        assert done.exit_code == 0, done.stderr
    for file in ("export/model.onnx", "export/preprocess.json", "export/labels.txt", "reports/predictions.json"):
        assert _sha256(tmp_path / "folder" / file) == _sha256(tmp_path / "zip" / file), file
    facts = [json.loads((tmp_path / name / "manifest.json").read_text())["dataset"] for name in ("folder", "zip")]
    assert facts[0]["fingerprint"] == facts[1]["fingerprint"]
    done = cli("validate", tmp_path / "zip")
    assert done.exit_code == 0, done.stderr
    report = (tmp_path / "zip/reports/report.html").read_text()
    assert report.count("data:image/") == (tmp_path / "folder/reports/report.html").read_text().count("data:image/")
    data.rename(tmp_path / "moved.zip")
    done = cli("validate", tmp_path / "zip")
    assert (done.exit_code, "Pass --data DIR with its current place" in done.stderr) == (3, True)
    assert cli("validate", tmp_path / "zip", "--data", tmp_path / "moved.zip").exit_code == 0
