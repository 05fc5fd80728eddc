"""A run with an embedding: report, index and similar, and classes that are added on the device."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tcs_edge import load
from tcs_edge.bundle.image_index import similar_images
from tcs_edge.bundle.programs import device_module
from tcs_edge.errors import UsageError
from tests.bundle.made import bundle_of
from tests.bundle.service import serving

pytestmark = pytest.mark.timeout(1800)
NEW = "yellow"


@pytest.fixture(scope="module")
def embedded(cli, tiny, tmp_path_factory) -> Path:
    """Folder of a run with an embedding. Read only."""
    out = tmp_path_factory.mktemp("runs") / "embedded"
    result = cli(*tiny(), "--with-embedding", "--embed-preprocess", "--out", out)
    assert result.exit_code == 0, result.stdout + result.stderr
    return out


@pytest.fixture(scope="module")
def with_embedding(cli, embedded, tmp_path_factory) -> Path:
    """Bundle of that run. Read only."""
    return bundle_of(embedded, cli, tmp_path_factory)


@pytest.fixture
def device(with_embedding, tmp_path) -> Path:
    """Copy of the bundle that a test may change."""
    return shutil.copytree(with_embedding, tmp_path / "device")


@pytest.fixture(scope="module")
def yellow(tmp_path_factory) -> Path:
    """Five photos of a color that is no class, and five more in a folder beside them."""
    root = tmp_path_factory.mktemp("yellow")
    for part in ("photos", "others"):
        (root / part).mkdir()
        for index in range(5):
            draw = np.random.default_rng(index + (0 if part == "photos" else 100))
            pixels = np.array((240, 220, 30)) + draw.normal(0, 45, (40, 40, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / part / f"{index}.png")
    return root


def program(folder: Path, name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a program of the bundle as a device does."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-I", folder / name, *arguments]
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=600, env=environment, check=False
    )


def answers(folder: Path, *images: Path) -> list[dict]:
    done = program(folder, "classify.py", "--json", "--top", 4, *images)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["predictions"]


def test_the_manifest_and_the_report_describe_the_embedding(embedded):
    manifest = json.loads((embedded / "manifest.json").read_text())
    embedding = manifest["student"]["embedding"]
    assert embedding["space"] == "coordinates"
    assert embedding["size"] >= 1
    judged = {name: parity["embedding"] for name, parity in manifest["parity"].items() if parity["judged"]}
    assert all(parity["finite"] and parity["max_rel_diff"] < 0.1 for parity in judged.values())
    validation = json.loads((embedded / "reports" / "validation.json").read_text())
    names = [check["name"] for check in validation["checks"]]
    for runner in ("onnxruntime", "openvino", "onnxruntime-pixels"):
        assert f"{runner}: embedding difference" in names
    assert "onnxruntime: noise image, embedding" in names
    page = (embedded / "reports" / "report.html").read_text()
    assert f"Embedding of {embedding['size']} values" in page


def test_gate_validate_and_predict_take_a_file_with_two_outputs(cli, embedded, photos):
    assert cli("gate", embedded, "--max-params-m", 100).exit_code == 0
    assert cli("validate", embedded).exit_code == 0
    result = cli("predict", embedded, photos / "test" / "red", "--json")
    assert result.exit_code == 0, result.stderr
    predicted = json.loads(result.stdout)["predictions"]
    classes = (embedded / "export" / "labels.txt").read_text().splitlines()
    validated = json.loads((embedded / "reports" / "predictions.json").read_text())
    expected = {
        Path(name).name: classes[label]
        for name, label in zip(validated["names"], validated["predicted"], strict=True)
        if Path(name).parent.name == "red"
    }
    assert len(expected) == 12
    assert {Path(one["image"]).name: one["guesses"][0]["label"] for one in predicted} == expected


def test_the_bundle_passes_its_self_check_and_a_wrong_embedding_fails_it(device, sign_again, tmp_path):
    good = program(device, "selfcheck.py", "--seconds", 0.1, "--out", tmp_path / "selfcheck.json")
    assert "ok     embeddings" in good.stdout, good.stdout + good.stderr
    with np.load(device / "golden.npz", allow_pickle=False) as stored:
        golden = dict(stored)
    golden["embeddings"][0, 0] += 1
    np.savez(device / "golden.npz", **golden)
    sign_again(device)
    bad = program(device, "selfcheck.py", "--seconds", 0.1, "--out", tmp_path / "selfcheck.json")
    assert bad.returncode == 1
    assert "FAILED embeddings" in bad.stdout


def test_an_index_finds_like_images_here_and_on_the_device(cli, embedded, with_embedding, photos, tmp_path):
    index = tmp_path / "photos.npz"
    made = cli("index", "--run", embedded, "--data", photos / "test", "--out", index, "--json")
    assert made.exit_code == 0, made.stderr
    assert json.loads(made.stdout)["images"] == 36
    query = photos / "val" / "green"
    here = cli("similar", "--run", embedded, "--index", index, query, "--top", 3, "--json")
    assert here.exit_code == 0, here.stderr
    found = json.loads(here.stdout)["similar"]
    assert len(found) == 8
    names = [like["image"] for one in found for like in one["similar"]]
    assert sum(name.startswith("green/") for name in names) > 0.8 * len(names)
    scores = [like["score"] for like in found[0]["similar"]]
    assert scores == sorted(scores, reverse=True)
    assert -1 <= scores[-1] <= scores[0] <= 1
    there = program(with_embedding, "similar.py", "--index", index, query, "--top", 3, "--json")
    assert there.returncode == 0, there.stderr
    for one, other in zip(found, json.loads(there.stdout)["similar"], strict=True):
        assert one["image"] == other["image"]
        np.testing.assert_allclose(*([like["score"] for like in each["similar"]] for each in (one, other)), atol=1e-4)


def test_the_device_makes_an_index_that_this_machine_reads(embedded, with_embedding, photos, tmp_path):
    index = tmp_path / "device.npz"
    done = program(with_embedding, "similar.py", "--index", index, "--make", photos / "test" / "blue")
    assert done.returncode == 0, done.stderr
    (found,) = similar_images(embedded, index, [photos / "test" / "blue" / "00.jpg"], top=1)
    assert found.similar[0].score == pytest.approx(1.0, abs=1e-4)


def test_an_index_of_another_model_is_refused(cli, embedded, finished, with_embedding, photos, tmp_path):
    index = tmp_path / "other.npz"
    size = json.loads((embedded / "manifest.json").read_text())["student"]["embedding"]["size"]
    device_module("edge_index").write_index(index, ["a"], np.ones((1, size), dtype=np.float32), ["0" * 64])
    here = cli("similar", "--run", embedded, "--index", index, photos / "test" / "red")
    assert here.exit_code == 2
    assert "another model" in here.stderr
    there = program(with_embedding, "similar.py", "--index", index, photos / "test" / "red")
    assert there.returncode == 1
    assert "another model" in there.stderr
    without = cli("index", "--run", finished, "--data", photos / "test", "--out", tmp_path / "x.npz")
    assert without.exit_code == 2
    assert "--with-embedding" in without.stderr


def test_bad_images_are_left_out_of_an_index_with_exit_code_3(cli, embedded, photos, tmp_path):
    folder = tmp_path / "photos"
    shutil.copytree(photos / "test" / "red", folder)
    (folder / "bad.jpg").write_bytes(b"not an image")
    made = cli("index", "--run", embedded, "--data", folder, "--out", tmp_path / "i.npz", "--json")
    assert made.exit_code == 3
    document = json.loads(made.stdout)
    assert (document["images"], len(document["failed"])) == (12, 1)
    for data, code in ((tmp_path / "none", 4), (tmp_path, 2)):
        assert cli("index", "--run", embedded, "--data", data, "--out", tmp_path).exit_code in (code, 2)


def test_python_returns_embeddings(embedded, finished, photos):
    with load(embedded) as model:
        red, green = (model.embeddings(photos / "test" / name / "00.jpg")[0] for name in ("red", "green"))
        assert red.shape == (model.embedding_size,)
        assert not np.allclose(red, green)
    with load(finished) as model, pytest.raises(UsageError, match="--with-embedding"):
        model.embeddings(photos / "test" / "red" / "00.jpg")


def test_five_photos_make_a_class_that_can_be_removed(device, yellow, photos, tmp_path):
    known = photos / "test" / "red"
    before = answers(device, known)
    files = {path.name: path.read_bytes() for path in device.iterdir() if path.is_file()}
    added = program(device, "add_class.py", NEW, yellow / "photos")
    assert added.returncode == 0, added.stderr
    assert f"added: {NEW} (5 photos" in added.stdout
    changed = {path.name for path in device.iterdir() if path.is_file() and path.read_bytes() != files.get(path.name)}
    assert changed == {"classes.json"}, "the model must not change"
    found = answers(device, yellow / "others")
    assert sum(one["guesses"][0]["label"] == NEW for one in found) >= 3
    for one in found:
        assert sum(guess["probability"] for guess in one["guesses"]) == pytest.approx(1.0)
    same = [one["guesses"][0]["label"] for one in answers(device, known)]
    changed = [one for one, other in zip(same, before, strict=True) if one != other["guesses"][0]["label"]]
    assert set(changed) <= {NEW}
    assert len(changed) <= len(before) / 4
    listed = json.loads(program(device, "add_class.py", "--list", "--json").stdout)
    assert [(one["name"], one["photos"]) for one in listed["classes"]] == [(NEW, 5)]
    check = program(device, "selfcheck.py", "--seconds", 0.1, "--out", tmp_path / "selfcheck.json")
    assert check.returncode == 0, check.stdout
    assert program(device, "add_class.py", "--remove", NEW).returncode == 0
    assert not (device / "classes.json").exists()
    assert answers(device, known) == before


def test_the_service_knows_an_added_class(device, yellow, photos, tmp_path):
    pytest.importorskip("waitress", reason="needs waitress: pip install -e '.[dev]'")
    assert program(device, "add_class.py", NEW, yellow / "photos").returncode == 0
    images = sorted((yellow / "others").iterdir())
    with serving(device, tmp_path / "log") as service:
        found = [service.predict(image.read_bytes(), "?top=4") for image in images]
        known = service.predict((photos / "test" / "red" / "00.jpg").read_bytes(), "?top=4")
        metrics = service.ask("GET", "/metrics")[1]
    assert {status for status, _ in (*found, known)} == {200}
    named = [[guess["label"] for guess in answer["guesses"]] for _, answer in found]
    by_program = [[guess["label"] for guess in one["guesses"]] for one in answers(device, *images)]
    assert named == by_program
    assert sum(labels[0] == NEW for labels in named) >= 3
    assert f'predictions_total{{label="{NEW}"}}' in metrics
    for _, answer in (*found, known):
        assert sum(guess["probability"] for guess in answer["guesses"]) == pytest.approx(1.0)


def test_a_service_with_damaged_classes_does_not_start(device, yellow, tmp_path):
    assert program(device, "add_class.py", NEW, yellow / "photos").returncode == 0
    (device / "classes.json").write_text("{")
    done = program(device, "serve.py", "--port", 0)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "classes.json" in line


def test_wrong_names_and_photos_add_nothing(device, yellow, tmp_path):
    photo = yellow / "photos" / "0.png"
    assert program(device, "add_class.py", NEW, photo).returncode == 0
    kept = (device / "classes.json").read_bytes()
    (tmp_path / "bad.jpg").write_bytes(b"not an image")
    (tmp_path / "empty").mkdir()
    cases = (
        (("red", photo), 1, "there is a class 'red' already"), (("RED", photo), 1, "there is a class 'red' already"),
        ((NEW, photo), 1, "Remove it first"), (("", photo), 1, "the name"), (("a\nb", photo), 1, "the name"),
        (("x" * 101, photo), 1, "the name"), (("other",), 2, "pass 1 photo or more"), ((), 2, "name a class"),
        (("other", tmp_path / "bad.jpg"), 3, "bad.jpg"), (("other", tmp_path / "none.jpg"), 3, "none.jpg"),
        (("other", tmp_path / "empty"), 3, "no images"), (("--remove", "green"), 1, "no added class"),
    )  # fmt: skip
    for arguments, code, text in cases:
        done = program(device, "add_class.py", *arguments)
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        assert text in done.stderr, (arguments, done.stderr)
        assert "Traceback" not in done.stderr
        assert (device / "classes.json").read_bytes() == kept


def test_a_model_without_an_embedding_says_so(own_bundle, photos):
    for name, arguments in (("add_class.py", (NEW, photos)), ("similar.py", ("--index", "x.npz", photos))):
        done = program(own_bundle, name, *arguments)
        assert done.returncode == 1
        assert "--with-embedding" in done.stderr
