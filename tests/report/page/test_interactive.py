"""Drop zone of the page: pixels equal Pillow's, classes equal those of `predict`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tcs_edge.data import Preprocess
from tcs_edge.errors import MissingError
from tcs_edge.report.page.interactive import BINARY, SCRIPT, interactive_parts
from tcs_edge.report.page.run import run_page

pytestmark = pytest.mark.slow

SIZES = ((64, 64), (200, 133), (33, 90), (640, 481), (50, 50), (7, 5), (1500, 40), (30, 1200))
SQUARED = """([data, width, height, settings]) => {
  const bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0));
  return Array.from(tcsEdge.squared({data: bytes, width, height}, settings).data);
}"""
CLASSIFY = """async () => {
  const answers = {};
  for (const file of document.getElementById('chooser').files)
    answers[file.name] = (await tcsEdge.classify(file)).slice(0, 3).map(guess => [guess.label, guess.probability]);
  return answers;
}"""


@pytest.fixture(scope="module")
def page_without_runtime(browser: Any, finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Page with an empty file in place of the runtime, enough for its preprocessing."""
    package = tmp_path_factory.mktemp("package")
    for name in (SCRIPT, BINARY):
        (package / name).parent.mkdir(exist_ok=True)
        (package / name).write_bytes(b"")
    path = package / "page.html"
    path.write_text(run_page(finished, interactive=interactive_parts(finished, package)), encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    yield page
    page.close()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("resize", "crop_pct"), [("shorter", 1.0), ("shorter", 0.875), ("stretch", 1.0)])
def test_every_pixel_equals_pillow(page_without_runtime, interpolation, resize, crop_pct):
    import base64

    preprocess = Preprocess(48, crop_pct=crop_pct, resize=resize, interpolation=interpolation)
    settings = preprocess.to_json() | {"resized_side": preprocess.resized_side}
    for seed, (width, height) in enumerate(SIZES):
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
        packed = base64.b64encode(pixels.tobytes()).decode()
        found = page_without_runtime.evaluate(SQUARED, [packed, width, height, settings])
        expected = np.asarray(preprocess.crop(Image.fromarray(pixels)))
        assert np.array_equal(np.array(found, np.uint8).reshape(expected.shape), expected), (width, height)


def test_the_page_has_the_threshold_for_unknown_images(page_without_runtime, finished):
    below = json.loads((finished / "export" / "confidence.json").read_text())["unknown"]["below"]
    found = page_without_runtime.evaluate(
        "below => [below - 1e-9, below].map(probability => tcsEdge.isUnknown([{ probability }]))", below
    )
    assert found == [True, False]


@pytest.fixture(scope="module")
def interactive_page(finished, onnxruntime_web, browser, tmp_path_factory) -> Iterator[Any]:
    path = tmp_path_factory.mktemp("page") / "try.html"
    path.write_text(run_page(finished, interactive=interactive_parts(finished, onnxruntime_web)), encoding="utf-8")
    page = browser.new_page()
    page.said = []
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.goto(path.as_uri())
    yield page
    page.close()


def answers(cli, run: Path, files: list[Path]) -> dict[str, list]:
    document = json.loads(cli("predict", run, *files, "--top", 3, "--json").stdout)
    return {
        Path(answer["image"]).name: [(guess["label"], guess["probability"]) for guess in answer["guesses"]]
        for answer in document["predictions"]
    }


def agree(page: Any, cli, run: Path, files: list[Path]) -> float:
    """Check that page and `predict` agree on the class of each file; return the largest probability difference."""
    page.set_input_files("#chooser", [str(path) for path in files])
    found, expected = page.evaluate(CLASSIFY), answers(cli, run, files)
    assert set(found) == set(expected)
    assert {name: guesses[0][0] for name, guesses in found.items()} == {
        name: guesses[0][0] for name, guesses in expected.items()
    }
    return max(abs(dict(map(tuple, found[name]))[label] - chance) for name in found for label, chance in expected[name])


def test_the_page_and_predict_agree_on_test_images(interactive_page, cli, finished, photos, tmp_path):
    files = []
    for path in sorted((photos / "test").rglob("*.*")):
        files.append(shutil.copy(path, tmp_path / f"{path.parent.name}-{path.name}"))
    assert agree(interactive_page, cli, finished, files) < 0.02
    assert interactive_page.said == []


def test_the_page_and_predict_agree_on_photos(interactive_page, cli, finished, shared_folder):
    folders = ("clothing/test", "eurosat/test")
    files = [path for name in folders for path in sorted((shared_folder / "data" / name).glob("*/*.jpg"))[::60]]
    assert len(files) > 10
    assert agree(interactive_page, cli, finished, files) < 0.02


def test_the_page_and_predict_agree_on_transparent_rotated_and_gray_images(interactive_page, cli, finished, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (90, 70, 4), np.uint8)
    Image.fromarray(noise, "RGBA").save(tmp_path / "transparent.png")
    Image.fromarray(noise[..., 0]).save(tmp_path / "gray.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    ramp = np.linspace(0, 255, 90 * 70 * 3).reshape(90, 70, 3).astype(np.uint8)
    Image.fromarray(ramp).save(tmp_path / "turned.jpg", exif=turned, quality=95)
    assert agree(interactive_page, cli, finished, sorted(tmp_path.iterdir())) < 0.02


def test_the_page_shows_predictions_and_unreadable_files(interactive_page, photos, screenshots, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not an image")
    interactive_page.set_input_files("#chooser", [str(photos / "test" / "red" / "01.png"), str(broken)])
    status = interactive_page.locator("#try-status", has_text="classified")
    assert status.inner_text() == "1 image classified. 1 file could not be classified."
    shown = interactive_page.locator("#answers li")
    assert "%" in shown.nth(1).inner_text()
    assert "cannot be classified" in shown.nth(0).inner_text()
    assert shown.nth(0).locator("img").count() == 0
    interactive_page.locator("#try").screenshot(path=screenshots / "try.png")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["01.png"], "1 image classified."),
        (["00.jpg", "01.png"], "2 images classified."),
        (["notes.txt"], "0 images classified. 1 file could not be classified."),
        (["notes.txt", "01.png", "empty.jpg"], "1 image classified. 2 files could not be classified."),
    ],
)
def test_only_classified_images_are_counted(interactive_page, photos, tmp_path, names, said):
    (tmp_path / "notes.txt").write_text("not an image\n")
    (tmp_path / "empty.jpg").write_bytes(b"")
    files = [tmp_path / name if (tmp_path / name).exists() else photos / "test" / "red" / name for name in names]
    interactive_page.evaluate("document.getElementById('try-status').textContent = ''")
    interactive_page.set_input_files("#chooser", [str(path) for path in files])
    status = interactive_page.locator("#try-status", has_text="classified")
    assert status.inner_text() == said


def test_a_drop_without_files_is_answered(interactive_page):
    interactive_page.evaluate(
        "document.getElementById('drop-zone').dispatchEvent(new DragEvent('drop', {dataTransfer: new DataTransfer()}))"
    )
    assert "No files received" in interactive_page.locator("#try-status").inner_text()


def test_a_folder_without_the_package_is_refused(finished, tmp_path):
    with pytest.raises(MissingError, match="npm install onnxruntime-web"):
        interactive_parts(finished, tmp_path)
