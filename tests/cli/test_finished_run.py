"""Tests of `validate` and `predict` on finished runs, unchanged and modified."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from tcs_edge import load
from tcs_edge.errors import ParityFailed
from tcs_edge.utils.files import sha256_file


def test_unchanged_run_passes(cli, own_run):
    before = sha256_file(own_run / "manifest.json")
    result = cli("validate", own_run, "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["verdict"] == "pass"
    assert document["images"] == 36
    assert sha256_file(own_run / "manifest.json") == before
    assert (own_run / "export" / "model.onnx").exists()


def test_flipped_bit_fails_validation(cli, own_run):
    path = own_run / "export" / "model.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    result = cli("validate", own_run)
    assert result.exit_code == 1
    assert "export/model.onnx (changed)" in result.stderr


def test_unlisted_file_fails_validation(cli, own_run):
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


def test_changed_weight_with_matching_hash_is_rejected(cli, own_run, photos):
    _change_a_weight(own_run / "export" / "model.onnx")
    _record_again(own_run, "export/model.onnx")
    before = {path: sha256_file(path) for path in own_run.rglob("*") if path.is_file()}
    result = cli("validate", own_run)
    assert result.exit_code == 1
    assert "verdict: fail" in result.stdout
    assert "FAILED onnxruntime" in result.stdout
    assert f"no file was changed. To revoke the exports: tcs-edge validate {own_run} --revoke" in result.stderr
    assert {path: sha256_file(path) for path in own_run.rglob("*") if path.is_file()} == before
    result = cli("validate", own_run, "--revoke")
    assert result.exit_code == 1
    assert "export.REJECTED" in result.stderr
    assert not (own_run / "export").exists()
    names = [path.name for path in (own_run / "export.REJECTED").rglob("*") if path.is_file()]
    assert "model.onnx.rejected" in names
    assert all(name.endswith(".rejected") for name in names)
    assert cli("predict", own_run, photos / "test" / "red" / "01.png").exit_code == 1


def test_validation_with_other_images_raises(cli, own_run, own_photos):
    (own_photos / "test" / "red" / "01.png").unlink()
    result = cli("validate", own_run, "--data", own_photos)
    assert result.exit_code == 3
    assert "fingerprint" in result.stderr
    assert (own_run / "export").exists()


def test_data_gives_the_folder_of_moved_images(cli, own_run, own_photos):
    result = cli("validate", own_run, "--data", own_photos, "--quiet")
    assert result.exit_code == 0, result.stderr
    assert "verdict: pass" in result.stdout


def test_accuracy_of_predictions_equals_manifest(cli, finished, manifest, photos):
    images = sorted((photos / "test").rglob("*.*"))
    result = cli("predict", finished, *images, "--json")
    assert result.exit_code == 0, result.stderr
    answers = json.loads(result.stdout)["predictions"]
    right = [answer["guesses"][0]["label"] == Path(answer["image"]).parent.name for answer in answers]
    assert len(right) == 36
    assert sum(right) == manifest["accuracy"]["onnxruntime"]["correct"]


def test_predictions_are_sorted_probabilities(cli, finished, photos):
    image = photos / "test" / "red" / "01.png"
    (answer,) = json.loads(cli("predict", finished, image, "--top", 9, "--json").stdout)["predictions"]
    probabilities = [guess["probability"] for guess in answer["guesses"]]
    assert {guess["label"] for guess in answer["guesses"]} == {"blue", "green", "red"}
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1)
    best = answer["guesses"][0]
    mark = "unknown, nearest " if answer["unknown"] else ""
    assert cli("predict", finished, image).stdout == f"{image}: {mark}{best['label']} {best['probability']:.1%}\n"


def test_images_below_the_threshold_are_unknown(cli, finished, manifest, photos):
    images = sorted((photos / "test").rglob("*.*"))
    answers = json.loads(cli("predict", finished, *images, "--json").stdout)["predictions"]
    below = json.loads((finished / "export" / "confidence.json").read_text())["unknown"]["below"]
    marked = [answer["unknown"] for answer in answers]
    assert marked == [answer["guesses"][0]["probability"] < below for answer in answers]
    assert sum(marked) == manifest["confidence"]["false_alarms"]["onnxruntime"]["count"]
    lines = cli("predict", finished, *images).stdout.splitlines()
    assert [": unknown, nearest " in line for line in lines] == marked


def test_predict_rejects_a_changed_threshold(cli, own_run, photos):
    path = own_run / "export" / "confidence.json"
    path.write_text(path.read_text().replace('"below": 0.', '"below": 0.9'))
    result = cli("predict", own_run, photos / "test" / "red" / "01.png")
    assert result.exit_code == 1
    assert "export/confidence.json (changed)" in result.stderr


def test_predict_rejects_changed_labels(cli, own_run, photos):
    (own_run / "export" / "labels.txt").write_text("red\ngreen\nblue\n")
    result = cli("predict", own_run, photos / "test" / "red" / "01.png")
    assert result.exit_code == 1
    assert "changed after validation: export/labels.txt (changed)" in result.stderr


@pytest.mark.parametrize(
    ("name", "artifact"),
    [
        ("model.onnx", "model.onnx"),
        ("openvino/model.bin", "openvino/model.xml"),
        ("openvino/model.xml", "openvino/model.xml"),
        ("preprocess.json", "model.onnx"),
    ],
)
def test_a_changed_model_is_not_loaded(own_run, name, artifact):
    path = own_run / "export" / name
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ParityFailed, match=rf"changed after validation: export/{name} \(changed\)"):
        load(own_run, artifact)


def test_only_the_opened_files_are_checked(own_run):
    (own_run / "export/openvino/model.bin").write_bytes(b"")
    load(own_run).close()


def test_a_model_that_the_manifest_lacks_is_not_loaded(own_run):
    (own_run / "export/mine.onnx").write_bytes((own_run / "export/model.onnx").read_bytes())
    with pytest.raises(ParityFailed, match=r"export/mine.onnx \(not in the manifest\)"):
        load(own_run, "mine.onnx")


@pytest.mark.parametrize("command", ["validate", "predict"])
def test_folder_that_is_not_a_run_prints_one_line(cli, tmp_path, photos, command):
    images = [photos / "test" / "red" / "01.png"] if command == "predict" else []
    for folder in (tmp_path, tmp_path / "none"):
        result = cli(command, folder, *images)
        assert result.exit_code == 3
        assert len(result.stderr.splitlines()) == 1


def test_predict_on_a_file_that_is_not_an_image(cli, finished):
    result = cli("predict", finished, finished / "train.log")
    assert result.exit_code == 3
    assert "train.log" in result.stderr
    assert "Traceback" not in result.stderr


def test_one_bad_image_does_not_stop_the_others(cli, finished, photos, tmp_path):
    good = [photos / "test" / "red" / name for name in ("01.png", "02.jpg")]
    (tmp_path / "bad.jpg").write_bytes(good[1].read_bytes()[:200])
    paths = [good[0], tmp_path / "bad.jpg", tmp_path / "none.jpg", good[1]]
    result = cli("predict", finished, *paths, "--json")
    assert result.exit_code == 3
    document = json.loads(result.stdout)
    assert [answer["image"] for answer in document["predictions"]] == [str(path) for path in good]
    assert [one["image"] for one in document["failed"]] == [str(path) for path in paths[1:3]]
    assert [one["reason"] in result.stderr for one in document["failed"]] == [True, True]
    assert result.stderr.splitlines()[-1] == ("error: 2 of 4 images were not classified. Replace or remove them.")
    plain = cli("predict", finished, *paths)
    assert plain.exit_code == 3
    assert [line.split(": ")[0] for line in plain.stdout.splitlines()] == [str(path) for path in good]


def test_a_folder_is_searched_without_the_entries_of_other_programs(cli, finished, photos, tmp_path):
    folder = tmp_path / "inbox"
    for name in ("b/c/2.JPG", "a.png", "@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg", ".hidden.png", "._a.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / "test" / "red" / ("00.jpg" if name.lower().endswith("jpg") else "01.png"), folder / name)
    for name in ("notes.txt", "Thumbs.db", "raw.nef"):
        (folder / name).write_text("text")
    result = cli("predict", finished, folder, "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    names = [str(Path(answer["image"]).relative_to(folder).as_posix()) for answer in document["predictions"]]
    assert (names, document["failed"]) == (["a.png", "b/c/2.JPG"], [])
    assert "other programs: 4 (" in result.stderr
    assert "image files not read: 1 .nef" in result.stderr
    assert "ignored files that are not images: 1" in result.stderr


def test_a_folder_without_images_fails_alone(cli, finished, photos, tmp_path):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypxxxx")
    good = photos / "test" / "red" / "01.png"
    result = cli("predict", finished, tmp_path, good)
    assert (result.exit_code, len(result.stdout.splitlines())) == (3, 1)
    assert f"error: {tmp_path} holds no images that can be read. " in result.stderr
    assert cli("predict", finished, tmp_path).stdout == ""


def test_run_without_manifest(cli, own_run):
    (own_run / "manifest.json").unlink()
    assert cli("validate", own_run).exit_code == 3
