"""`validate` and `predict` on a finished run, as it is and as somebody left it."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from tcs_edge.utils.files import sha256_file


def test_a_finished_run_validates(cli, own_run):
    before = sha256_file(own_run / "manifest.json")
    result = cli("validate", own_run, "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["verdict"] == "pass"
    assert document["images"] == 36
    assert sha256_file(own_run / "manifest.json") == before
    assert (own_run / "export" / "model.onnx").exists()


def test_one_flipped_bit_is_noticed(cli, own_run):
    path = own_run / "export" / "model.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    result = cli("validate", own_run)
    assert result.exit_code == 1
    assert "export/model.onnx (changed)" in result.stderr


def test_a_file_that_nobody_proved_is_noticed(cli, own_run):
    (own_run / "export" / "model2.onnx").write_bytes(b"unlisted")
    result = cli("validate", own_run)
    assert result.exit_code == 1
    assert "model2.onnx" in result.stderr


def _change_a_weight(path: Path) -> None:
    proto = onnx.load(path)
    initializer = max(proto.graph.initializer, key=lambda tensor: len(tensor.dims) == 2)
    values = numpy_helper.to_array(initializer).copy()
    values[0] += 0.5
    initializer.CopyFrom(numpy_helper.from_array(values, initializer.name))
    onnx.save(proto, path)


def _record_again(run: Path, name: str) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    for record in manifest["files"]:
        if record["path"] == name:
            record |= {"bytes": (run / name).stat().st_size, "sha256": sha256_file(run / name)}
    (run / "manifest.json").write_text(json.dumps(manifest))


def test_a_changed_weight_with_a_matching_hash_is_revoked(cli, own_run, photos):
    _change_a_weight(own_run / "export" / "model.onnx")
    _record_again(own_run, "export/model.onnx")
    result = cli("validate", own_run)
    assert result.exit_code == 1
    assert "verdict: fail" in result.stdout
    assert "FAILED onnxruntime" in result.stdout
    assert "export.REJECTED" in result.stderr
    assert not (own_run / "export").exists()
    names = [path.name for path in (own_run / "export.REJECTED").rglob("*") if path.is_file()]
    assert "model.onnx.rejected" in names
    assert all(name.endswith(".rejected") for name in names)
    assert cli("predict", own_run, photos / "test" / "red" / "01.png").exit_code == 1


def test_other_images_prove_nothing(cli, own_run, own_photos):
    (own_photos / "test" / "red" / "01.png").unlink()
    result = cli("validate", own_run, "--data", own_photos)
    assert result.exit_code == 3
    assert "fingerprint" in result.stderr
    assert (own_run / "export").exists()


def test_images_that_moved_are_found_with_data(cli, own_run, own_photos):
    result = cli("validate", own_run, "--data", own_photos, "--quiet")
    assert result.exit_code == 0, result.stderr
    assert "verdict: pass" in result.stdout


def test_predictions_are_what_the_manifest_counted(cli, finished, manifest, photos):
    pictures = sorted((photos / "test").rglob("*.*"))
    result = cli("predict", finished, *pictures, "--json")
    assert result.exit_code == 0, result.stderr
    answers = json.loads(result.stdout)["predictions"]
    right = [answer["guesses"][0]["label"] == Path(answer["image"]).parent.name for answer in answers]
    assert len(right) == 36
    assert sum(right) == manifest["accuracy"]["onnxruntime"]["correct"]


def test_predictions_are_sorted_probabilities(cli, finished, photos):
    picture = photos / "test" / "red" / "01.png"
    (answer,) = json.loads(cli("predict", finished, picture, "--top", 9, "--json").stdout)["predictions"]
    chances = [guess["probability"] for guess in answer["guesses"]]
    assert {guess["label"] for guess in answer["guesses"]} == {"blue", "green", "red"}
    assert chances == sorted(chances, reverse=True)
    assert sum(chances) == pytest.approx(1)
    best = answer["guesses"][0]
    assert cli("predict", finished, picture).stdout == f"{picture}: {best['label']} {best['probability']:.1%}\n"


def test_changed_labels_are_not_believed(cli, own_run, photos):
    (own_run / "export" / "labels.txt").write_text("red\ngreen\nblue\n")
    result = cli("predict", own_run, photos / "test" / "red" / "01.png")
    assert result.exit_code == 3
    assert "labels.txt" in result.stderr


@pytest.mark.parametrize("command", ["validate", "predict"])
def test_no_run_is_one_line(cli, tmp_path, photos, command):
    pictures = [photos / "test" / "red" / "01.png"] if command == "predict" else []
    for folder in (tmp_path, tmp_path / "none"):
        result = cli(command, folder, *pictures)
        assert result.exit_code == 3
        assert len(result.stderr.splitlines()) == 1


def test_a_picture_that_is_none(cli, finished):
    result = cli("predict", finished, finished / "train.log")
    assert result.exit_code == 3
    assert "train.log" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_run_without_its_manifest(cli, own_run):
    (own_run / "manifest.json").unlink()
    assert cli("validate", own_run).exit_code == 3
