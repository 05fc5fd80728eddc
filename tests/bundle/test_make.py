"""Bundle: it works without tcs-edge and torch, detects its faults, and needs a validated run."""

from __future__ import annotations

import importlib
import json
import os
import platform
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tcs_edge.bundle.golden import spread_over_classes
from tcs_edge.data import listing
from tcs_edge.data.decode import open_rgb
from tcs_edge.data.formats import readable_suffixes
from tcs_edge.data.preprocess import Preprocess

SCRIPTS = Path(__file__).resolve().parents[2] / "tcs_edge" / "bundle" / "device_files"
# cv2 and picamera2 only for a camera, waitress only for the service.
ALLOWED = {
    "ai_edge_litert",
    "cv2",
    "ncnn",
    "numpy",
    "onnxruntime",
    "openvino",
    "picamera2",
    "PIL",
    "pillow_heif",
    "waitress",
}
PROGRAMS = ("add_class", "classify", "install", "selfcheck", "serve", "similar")
MODULES = (
    "edge_arrays", "edge_camera", "edge_checks", "edge_classes", "edge_images", "edge_index", "edge_listing",
    "edge_model", "edge_options", "edge_output", "edge_preprocess", "edge_runtimes", "edge_service",
)  # fmt: skip
# A device must need none of tcs-edge's own dependencies.
BLOCKED = ("torch", "timm", "tcs_edge", "onnx", "scipy", "pydantic", "typer")


def own_module(name: str):
    """Import a module of the bundle as a program beside it does."""
    sys.path.append(str(SCRIPTS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(SCRIPTS))


images, listing_there, preprocessing = map(own_module, ("edge_images", "edge_listing", "edge_preprocess"))


def run_script(folder: Path, *arguments: object, python: str = sys.executable) -> subprocess.CompletedProcess:
    """Run a script of the bundle in its own process, without the packages that a device lacks."""
    script, *rest = map(str, arguments)
    code = (
        f"import sys, runpy; sys.modules.update(dict.fromkeys({BLOCKED})); sys.dont_write_bytecode = True; "
        f"sys.path.insert(0, {str(folder)!r}); sys.argv = {[script, *rest]!r}; "
        f"runpy.run_path({str(folder / script)!r}, run_name='__main__')"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=300, env=environment)


def selfcheck(folder: Path, tmp_path: Path, python: str = sys.executable) -> tuple[int, dict]:
    out = tmp_path / "selfcheck.json"
    options = ("--seconds", 0.1, "--threads", 1, "--out", out)
    done = run_script(folder, "selfcheck.py", *options, python=python)
    assert out.exists(), done.stderr
    return done.returncode, json.loads(out.read_text(encoding="utf-8"))


def failed(document: dict) -> str:
    return " | ".join(f"{check['name']} {check['detail']}" for check in document["checks"] if not check["passed"])


def test_a_bundle_has_the_files_for_a_device(bundled, finished):
    names = {path.name for path in bundled.iterdir()}
    assert names == {
        "model.onnx", "labels.txt", "preprocess.json", "confidence.json", "golden.npz", "classifier.service",
        "requirements.txt", "SHA256SUMS", "bundle.json", "LICENSES.md", "MODEL_CARD.md", "README.md", "bom.cdx.json",
        *(f"{name}.py" for name in (*PROGRAMS, *MODULES)),
    }  # fmt: skip
    assert (bundled / "model.onnx").read_bytes() == (finished / "export" / "model.onnx").read_bytes()
    pins = (bundled / "requirements.txt").read_text().splitlines()
    assert "onnxruntime==1.20.0" in pins, "the pin of the Raspberry Pi 4"
    assert any(pin.startswith("waitress==") for pin in pins), "the server of serve.py"
    assert f"pillow=={PIL.__version__}" in pins, "other versions may round the golden inputs differently"
    assert "timm/test_vit" in (bundled / "LICENSES.md").read_text()
    listed = [line.split("  ")[1] for line in (bundled / "SHA256SUMS").read_text().splitlines()]
    assert set(listed) == names - {"SHA256SUMS"}


def test_the_scripts_import_only_the_pinned_packages():
    for script in SCRIPTS.glob("*.py"):
        imports = {
            word.split(".")[0]
            for line in script.read_text().splitlines()
            if line.strip().startswith(("import ", "from "))
            for word in [line.split()[1]]
        }
        assert imports <= ALLOWED | {*MODULES} | set(sys.stdlib_module_names), script.name


def test_golden_images_come_from_every_class(bundled):
    with np.load(bundled / "golden.npz", allow_pickle=False) as stored:
        golden = dict(stored)
    assert sorted(set(golden["labels"].tolist())) == [0, 1, 2]
    assert golden["inputs"].shape == (16, 3, 64, 64)
    assert golden["logits"].shape == (16, 3)
    assert spread_over_classes(np.array([0, 0, 0, 1, 2]), 4) == [0, 3, 4, 1]


@pytest.mark.slow
def test_a_good_bundle_passes_its_self_check(bundled, tmp_path):
    code, document = selfcheck(bundled, tmp_path)
    assert failed(document) == ""
    assert (code, document["verdict"], document["schema_version"]) == (0, "pass", 1)
    assert document["machine"]["architecture"] == platform.machine()  # without it, no gate counts the latency
    (row,) = document["rows"]
    assert (row["model"], row["img_size"], row["batch"], row["runtime"]) == ("lcnet_050", 64, 1, "onnxruntime")
    assert (row["threads"], row["precision"], row["source"]) == (1, "fp32", "measured")
    assert 0 < row["low_ms"] <= row["p50_ms"] <= row["high_ms"]
    assert row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
    assert row["runs"] >= 100


@pytest.mark.slow
def test_the_script_and_tcs_edge_predict_equal_classes(bundled, cli, finished, photos):
    files = sorted((photos / "test").rglob("*.jpg"))
    done = run_script(bundled, "classify.py", "--json", "--top", 2, *files)
    assert done.returncode == 0, done.stderr
    own = json.loads(cli("predict", finished, "--json", "--top", 2, *files).stdout)
    for theirs, ours in zip(json.loads(done.stdout)["predictions"], own["predictions"], strict=True):
        assert [guess["label"] for guess in theirs["guesses"]] == [guess["label"] for guess in ours["guesses"]]
        assert theirs["unknown"] == ours["unknown"]
        shares = [[guess["probability"] for guess in answer["guesses"]] for answer in (theirs, ours)]
        assert shares[0] == pytest.approx(shares[1], abs=1e-5)


def test_the_script_reads_the_suffixes_and_leaves_out_the_entries_of_tcs_edge():
    assert set(listing_there.SUFFIXES) == set(readable_suffixes())
    known = [*listing._CLUTTER, *(f"a{suffix}" for suffix in listing._CLUTTER_SUFFIXES), ".git", "._a.jpg", "found.000"]
    photos = ["a.jpg", "found.0000", "thumbs.db.jpg", "my#recycle", "cvs1", "recycledcvs", "a.thm.jpg"]
    for name in (*known, *map(str.upper, known), *photos):
        assert bool(listing_there.CLUTTER.fullmatch(name)) == listing.is_clutter(name), name
    assert all(map(listing.is_clutter, known))
    assert not any(map(listing.is_clutter, photos))


def folder_with_clutter(tmp_path: Path, photos: Path) -> Path:
    """Folder with two images, a truncated one, and four entries that are left out."""
    folder = tmp_path / "inbox"
    image = (photos / "test" / "red" / "00.jpg").read_bytes()
    for name in ("b/c/2.JPG", "a.jpg", "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", ".hidden.jpg", "._a.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(image)
    (folder / "notes.txt").write_text("text")
    (folder / "z.jpg").write_bytes(image[:200])
    (folder / "b" / "back").symlink_to(folder)
    return folder


@pytest.mark.slow
def test_one_bad_image_does_not_stop_the_script(bundled, photos, tmp_path):
    folder, empty = folder_with_clutter(tmp_path, photos), tmp_path / "empty"
    empty.mkdir()
    done = run_script(bundled, "classify.py", "--json", folder, empty, tmp_path / "none.jpg")
    assert done.returncode == 3
    document = json.loads(done.stdout)
    assert [one["image"] for one in document["predictions"]] == [str(folder / "a.jpg"), str(folder / "b/c/2.JPG")]
    assert [one["image"] for one in document["failed"]] == [
        str(folder / "z.jpg"),
        str(empty),
        str(tmp_path / "none.jpg"),
    ]
    assert [one["reason"] in done.stderr for one in document["failed"]] == [True] * 3
    assert f"{folder}: ignored hidden entries and entries of other programs: 3\n" in done.stderr
    assert f"{folder}: ignored files that are not images or not read here: 1\n" in done.stderr
    assert done.stderr.endswith("error: 3 of 5 images were not classified\n")
    plain = run_script(bundled, "classify.py", folder)
    assert (plain.returncode, len(plain.stdout.splitlines())) == (3, 2)
    assert run_script(bundled, "classify.py", folder / "a.jpg").returncode == 0
    assert run_script(bundled, "classify.py", "--top", 0, folder).returncode == 2


def replace_in_script(folder: Path, old: str, new: str) -> None:
    path = folder / "edge_preprocess.py"
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def change_golden(folder: Path) -> None:
    with np.load(folder / "golden.npz") as stored:
        golden = dict(stored)
    golden["logits"] *= 1.001
    np.savez(folder / "golden.npz", **golden)


def in_script(old: str, new: str):
    return lambda folder: replace_in_script(folder, old, new)


def cut_the_model(folder: Path) -> None:
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:-100])


PIXELS = "np.asarray(crop(image, steps))"
FAULTS = {
    "BGR for RGB": (in_script(PIXELS, f"{PIXELS}[..., ::-1]"), "preprocessing"),
    "normalized twice": (in_script("planes /= std\n", "planes = (planes / std - mean) / std\n"), "preprocessing"),
    "off-by-one crop": (in_script("(width - size) // 2, (", "(width - size) // 2 + 1, ("), "preprocessing"),
    "other logits": (change_golden, "outputs"),
    "truncated model": (cut_the_model, "runs"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_with_matching_hashes_is_detected(own_bundle, sign_again, tmp_path, fault):
    damage, check = FAULTS[fault]
    damage(own_bundle)
    sign_again(own_bundle)
    code, document = selfcheck(own_bundle, tmp_path)
    assert code == 1
    assert failed(document).startswith(check)


def test_one_changed_bit_is_detected_before_loading(own_bundle, tmp_path):
    content = bytearray((own_bundle / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (own_bundle / "model.onnx").write_bytes(content)
    code, document = selfcheck(own_bundle, tmp_path)
    assert (code, document["rows"]) == (1, [])
    assert failed(document) == "files changed or missing: model.onnx"


MODES = ("RGB", "L", "RGBA", "P", "CMYK", "LA", "1", "I;16")


@settings(deadline=None, max_examples=60)
@given(
    width=st.integers(1, 90), height=st.integers(1, 90), mode=st.sampled_from(MODES),
    turn=st.integers(0, 9), seed=st.integers(0, 1000), resize=st.sampled_from(("shorter", "stretch")),
    interpolation=st.sampled_from(("bilinear", "bicubic")), crop_pct=st.sampled_from((1.0, 0.875, 0.5)),
)  # fmt: skip
def test_preprocessing_of_script_and_package_is_identical(
    tmp_path_factory, width, height, mode, turn, seed, resize, interpolation, crop_pct
):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 256) if mode == "I;16" else image.convert(mode)
    exif = Image.Exif()
    exif[images.ORIENTATION_TAG] = turn
    suffix = "jpg" if mode == "CMYK" else "png"
    path = tmp_path_factory.getbasetemp() / f"image.{suffix}"
    image.save(path, exif=exif)
    ours = Preprocess(24, crop_pct, resize, interpolation)
    theirs = preprocessing.preprocess(images.open_rgb(path), ours.to_json())
    assert theirs.tobytes() == ours(open_rgb(path)).tobytes()
    assert (theirs.dtype, theirs.shape) == (np.float32, (3, 24, 24))


def _png(width: int, depth: int, kind: int, row: bytes, clear: bytes) -> bytes:
    """PNG of one row with a transparent value."""
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, kind, 0, 0, 0)), (b"tRNS", clear),
        (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b""),
    )  # fmt: skip
    chunks = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _bmp_with_alpha(alpha: int) -> bytes:
    body = bytes([30, 20, 10, alpha]) * 2
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    info = struct.pack("<IiiHHIIiiII", 108, 2, 1, 1, 32, 3, len(body), 2835, 2835, 0, 0) + masks + bytes(52)
    return b"BM" + struct.pack("<IHHI", 14 + len(info) + len(body), 0, 0, 14 + len(info)) + info + body


def _saved(path: Path, values: object, **options: object) -> None:
    Image.fromarray(np.array(values)).save(path, **options)


GRAY = np.array([0, 7, 300, 2048, 4095], ">u2").tobytes()
COLOR = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
FILES = {
    "12-bit.png": lambda path: _saved(path, np.array([[0, 16, 2048, 4095]], np.uint16)),
    "12-bit.tif": lambda path: _saved(path, np.array([[0, 16, 2048, 4095]], np.uint16)),
    "16-bit.tif": lambda path: _saved(path, np.array([[0, 16, 2048, 65535]], ">u2")),
    "32-bit.tif": lambda path: _saved(path, np.array([[0, 16, 2048, 65535]], np.int32)),
    "transparent-16.png": lambda path: path.write_bytes(_png(5, 16, 0, GRAY, GRAY[2:4])),
    "transparent-2.png": lambda path: path.write_bytes(_png(4, 2, 0, b"\x1b", b"\0\1")),
    "transparent-color.png": lambda path: path.write_bytes(_png(1, 16, 2, GRAY[2:8], GRAY[2:8])),
    "no-alpha.bmp": lambda path: path.write_bytes(_bmp_with_alpha(0)),
    "alpha.bmp": lambda path: path.write_bytes(_bmp_with_alpha(100)),
    "turned.tif": lambda path: _saved(path, COLOR, tiffinfo={0x0112: 6}),
    "a.gif": lambda path: _saved(path, COLOR),
    "a.jfif": lambda path: _saved(path, COLOR, format="JPEG"),
    "a.avif": lambda path: _saved(path, COLOR),
}


@pytest.mark.parametrize("name", FILES)
def test_the_script_opens_files_as_the_package_does(tmp_path, name):
    FILES[name](tmp_path / name)
    ours, theirs = open_rgb(tmp_path / name), images.open_rgb(tmp_path / name)
    assert (theirs.mode, theirs.size) == ("RGB", ours.size)
    assert theirs.tobytes() == ours.tobytes()


@pytest.mark.parametrize("values", [np.float32([[0.5]]), np.int32([[-1]]), np.int32([[70_000]])])
def test_the_script_refuses_pixels_without_a_known_range(tmp_path, values):
    _saved(tmp_path / "a.tif", values)
    with pytest.raises(ValueError, match=r"floating-point pixels|gray values outside"):
        images.open_rgb(tmp_path / "a.tif")


def test_preprocessing_of_elongated_images_is_identical():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (3, 200, 3), dtype=np.uint8))
    ours = Preprocess(32)
    assert preprocessing.preprocess(image, ours.to_json()).tobytes() == ours(image).tobytes()


def one_line(result, exit_code: int) -> str:
    assert result.exit_code == exit_code, result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    return result.stderr


def test_a_changed_run_is_refused(cli, own_run, tmp_path):
    (own_run / "export" / "labels.txt").write_text("a\nb\nc\n")
    assert "export/labels.txt (changed)" in one_line(cli("bundle", own_run, "--out", tmp_path / "b"), 1)
    assert not (tmp_path / "b").exists()


def test_a_failed_run_is_refused(cli, make_run, tmp_path):
    assert "failed validation" in one_line(cli("bundle", make_run(passed=False), "--out", tmp_path / "b"), 1)


def test_invalid_options_are_errors_of_one_line(cli, finished, tmp_path, photos):
    assert "Known: litert, ncnn, onnxruntime, openvino" in one_line(cli("bundle", finished, "--runtime", "coreml"), 2)
    line = one_line(cli("bundle", finished, "--precision", "int8", "--out", tmp_path / "b"), 2)
    assert "no int8 model for onnxruntime. Available: export/model.onnx, export/openvino/model.xml" in line
    assert "is not empty" in one_line(cli("bundle", finished, "--out", photos), 2)
    assert "is not a bundle" in one_line(cli("bundle", finished, "--out", photos, "--overwrite"), 2)


def test_other_images_are_refused_without_output(cli, finished, own_photos, tmp_path):
    (own_photos / "test" / "red" / "01.png").unlink()
    line = one_line(cli("bundle", finished, "--out", tmp_path / "new" / "b", "--data", own_photos, "--quiet"), 3)
    assert "fingerprint" in line
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_bundle_for_openvino_replaces_an_earlier_one(cli, finished, own_bundle, tmp_path):
    (own_bundle / "stale").write_text("from before")
    result = cli("bundle", finished, "--runtime", "openvino", "--out", own_bundle, "--overwrite", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["runtime"] == "openvino"
    assert {"model.xml", "model.bin"} <= {path.name for path in own_bundle.iterdir()}
    assert not (own_bundle / "stale").exists()
    code, document = selfcheck(own_bundle, tmp_path)
    assert (code, failed(document)) == (0, "")


@pytest.mark.slow
def test_a_bundle_passes_in_a_new_environment(bundled, tmp_path):
    """A new virtual environment with requirements.txt, as on a device."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True, timeout=120)
    python = tmp_path / "venv" / "bin" / "python"
    if not python.exists():
        pytest.skip("this system has no bin/python in a virtual environment")
    command = [python, "-m", "pip", "install", "-q", "-r", bundled / "requirements.txt"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    if done.returncode:
        pytest.skip(f"pip cannot install the pinned packages: {done.stderr.strip().splitlines()[-1:]}")
    code, document = selfcheck(bundled, tmp_path, python=str(python))
    assert (code, failed(document)) == (0, "")
    assert document["rows"][0]["runtime_version"] == "1.20.0"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_bundle_passes_on_64_bit_arm_under_qemu(bundled, tmp_path):
    python = os.environ.get("TCS_EDGE_AARCH64")
    if not python:
        pytest.skip("no emulated Arm. Set TCS_EDGE_AARCH64 to the python that ci/aarch64.sh makes")
    out = tmp_path / "selfcheck.json"
    command = [python, bundled / "selfcheck.py", "--seconds", "0.1", "--threads", "1", "--out", out]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1700)
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(out.read_text(encoding="utf-8"))
    assert document["machine"]["architecture"] == "aarch64"
    assert [check["name"] for check in document["checks"]] == ["files", "preprocessing", "outputs"]
    assert failed(document) == ""
