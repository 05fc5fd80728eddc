"""The examples in C++, Node and a web page give the golden answers of a bundle."""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
CPP, WEB = ROOT / "examples" / "cpp" / "classify.cpp", ROOT / "examples" / "web"
PREPROCESS = ROOT / "tcs_edge" / "report" / "page" / "templates" / "preprocess.js"


@pytest.fixture(scope="session")
def golden(bundled, tmp_path_factory) -> list[tuple[Path, dict[str, float]]]:
    """PPM images of the bundle's golden.npz, with the probability of each class."""
    folder, labels = tmp_path_factory.mktemp("golden"), (bundled / "labels.txt").read_text().split()
    with np.load(bundled / "golden.npz") as stored:
        for row in range(len(stored["logits"])):
            Image.fromarray(stored[f"image_{row:03d}"]).save(folder / f"{row:02d}.ppm")
        powers = np.exp(stored["logits"].astype(float))
    shares = powers / powers.sum(axis=1, keepdims=True)
    files = sorted(folder.iterdir())
    return [(path, dict(zip(labels, share.tolist(), strict=True))) for path, share in zip(files, shares, strict=True)]


def headers() -> Path:
    """Return the folder of ONNX Runtime's C++ headers, or skip the test."""
    named = os.environ.get("TCS_EDGE_ONNXRUNTIME_CPP")
    roots = [Path(root) for root in (named, "/usr", "/usr/local") if root]
    for place in (root / below for root in roots for below in ("include/onnxruntime", "include", ".")):
        if (place / "onnxruntime_cxx_api.h").is_file():
            return place
    pytest.skip("no C++ headers of ONNX Runtime. Install libonnxruntime-dev, or set TCS_EDGE_ONNXRUNTIME_CPP")


@pytest.fixture(scope="session")
def classify_cpp(tmp_path_factory) -> Path:
    """The C++ example, compiled against the library of the Python package."""
    compiler = shutil.which("g++")
    if not compiler:
        pytest.skip("no g++")
    library = next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"), None)
    if library is None:
        pytest.skip("the Python package of ONNX Runtime has no library to link here")
    folder = tmp_path_factory.mktemp("cpp")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / name).symlink_to(library)
    command = [compiler, "-std=c++17", "-O1", CPP, "-I", headers(), "-L", folder, "-lonnxruntime"]
    command += [f"-Wl,-rpath,{folder}", "-o", folder / "classify"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder / "classify"


@pytest.mark.slow
def test_cpp_gives_the_golden_answers(classify_cpp, bundled, golden):
    for path, expected in golden:
        done = subprocess.run([classify_cpp, bundled, path], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        lines = [line.split("\t") for line in done.stdout.splitlines()]
        assert {name: float(share) for share, name in lines} == pytest.approx(expected, abs=0.01)


@pytest.mark.slow
def test_cpp_refuses_other_files_in_one_line(classify_cpp, bundled, golden, tmp_path):
    whole = golden[0][0].read_bytes()
    for content in (b"", b"text", b"P6 1 1 65535 ", b"P6 -1 4 255 aaaa", b"P6 99999 99999 255 a", whole[:-1]):
        (tmp_path / "a.ppm").write_bytes(content)
        done = subprocess.run([classify_cpp, bundled, tmp_path / "a.ppm"], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1), content[:20]
        assert "is not a whole binary PPM image" in done.stderr
    missing = subprocess.run([classify_cpp, tmp_path, golden[0][0]], capture_output=True, text=True, timeout=60)
    assert (missing.returncode, "cannot read" in missing.stderr) == (1, True)


def test_the_cpp_example_stays_short():
    assert sum(bool(line.strip()) for line in CPP.read_text(encoding="utf-8").splitlines()) < 100


@pytest.mark.slow
def test_node_gives_the_golden_answers(onnxruntime_web, bundled, golden, tmp_path):
    node = shutil.which("node")
    if not node:
        pytest.skip("no node")
    environment = os.environ | {"TCS_EDGE_ONNXRUNTIME_WEB": str(onnxruntime_web)}
    command = [node, WEB / "classify.mjs", bundled, *(path for path, _ in golden)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    for line, (path, expected) in zip(done.stdout.splitlines(), golden, strict=True):
        answer = json.loads(line)
        found = {guess["label"]: guess["probability"] for guess in answer["guesses"]}
        assert (answer["image"], found) == (str(path), pytest.approx(expected, abs=1e-4))
    (tmp_path / "a.ppm").write_bytes(golden[0][0].read_bytes()[:-1])
    command[3:] = [tmp_path / "a.ppm"]
    cut = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert (cut.returncode, cut.stderr) == (1, f"error: the image is cut: {tmp_path / 'a.ppm'}\n")


@pytest.mark.slow
def test_the_web_page_gives_the_golden_answers(onnxruntime_web, browser, bundled, golden, tmp_path):
    for source in (WEB / "index.html", WEB / "bundle.mjs", PREPROCESS):
        shutil.copyfile(source, tmp_path / source.name)
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "onnxruntime-web").symlink_to(onnxruntime_web)
    (tmp_path / "bundle").symlink_to(bundled)
    path, expected = golden[0]
    Image.open(path).save(tmp_path / "photo.png")
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.server_address[1]}/index.html")
        page.wait_for_function("document.getElementById('status').textContent !== 'loading ...'", timeout=60_000)
        assert page.inner_text("#status") == "ready"
        page.set_input_files("#photos", str(tmp_path / "photo.png"))
        page.wait_for_function("document.querySelector('#answers li')?.textContent", timeout=60_000)
        best = max(expected, key=expected.get)
        assert page.inner_text("#answers li") == f"photo.png: {best} {100 * expected[best]:.1f} %"
        page.close()
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Server of files that prints nothing; onnxruntime-web needs the type of .mjs and .wasm."""

    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {
        ".mjs": "text/javascript", ".wasm": "application/wasm"
    }  # fmt: skip

    def log_message(self, *_: object) -> None:
        """Print nothing."""
