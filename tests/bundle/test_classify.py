"""classify.py of a bundle: tables, a watched folder and cameras, also those that vanish, and a full disk."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
# A cv2 whose camera gives a red frame, then a blue one, and so on. FRAMES: number until it vanishes; RETURNS: of its
# opening after which it is back, for ever.
CV2 = """
import os
import numpy as np
CAP_PROP_FRAME_COUNT, CAP_PROP_BUFFERSIZE, CAP_PROP_FRAME_WIDTH, CAP_PROP_FRAME_HEIGHT, COLOR_BGR2RGB = range(5)
opened = 0
class VideoCapture:
    def __init__(self, source):
        global opened
        opened += 1
        self.turn, self.open = opened, opened == 1 or opened >= int(os.environ.get("RETURNS", 10**9))
        self.left = int(os.environ["FRAMES"])
        print("opened", source, file=__import__("sys").stderr)
    def isOpened(self): return self.open
    def get(self, name): return -1.0
    def set(self, name, value): return True
    def read(self):
        if not self.left: return False, None
        self.left -= 1
        color = (40, 60, 210) if self.left % 2 else (200, 80, 40)
        return True, np.full((48, 64, 3), color, np.uint8)
    def release(self): pass
def cvtColor(pixels, code): return np.ascontiguousarray(pixels[..., ::-1])
"""
PICAMERA2 = """
import numpy as np
class Picamera2:
    @staticmethod
    def global_camera_info(): return [{"Num": 0}]
    def __init__(self, number): pass
    def create_video_configuration(self, main): return main
    def configure(self, main): assert main == {"format": "BGR888", "size": (64, 48)}
    def start(self): pass
    def close(self): pass
    def capture_array(self, name): return np.full((48, 64, 3), (210, 60, 40), np.uint8)
"""


@pytest.fixture
def program(bundled, tmp_path) -> Callable[..., subprocess.Popen]:
    """program(*options, modules={"cv2": TEXT}, **environment): classify.py in its own process."""

    def start(*options: object, modules: dict | None = None, stdout: object = subprocess.PIPE, **environment: object):
        fakes = tmp_path / "fakes"
        fakes.mkdir(exist_ok=True)
        for name, text in (modules or {}).items():
            (fakes / f"{name}.py").write_text(text)
        paths = os.pathsep.join(filter(None, (str(fakes), os.environ.get("PYTHONPATH"))))
        words = [sys.executable, bundled / "classify.py", "--threads", 1, *options]
        return subprocess.Popen(
            [str(word) for word in words], stdout=stdout, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": paths} | {key: str(value) for key, value in environment.items()},
        )  # fmt: skip

    return start


@pytest.fixture
def finish(program) -> Callable[..., tuple[int, str, str]]:
    """finish(*options, ...): exit code, stdout and stderr."""

    def run(*options: object, **settings: object) -> tuple[int, str, str]:
        process = program(*options, **settings)
        out, errors = process.communicate(timeout=120)
        assert "Traceback" not in errors, errors
        return process.returncode, out, errors

    return run


def rows(text: str) -> list[dict]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_table_has_a_row_per_image_and_per_failure(finish, photos, tmp_path):
    files = [photos / "test" / "red" / "00.jpg", tmp_path / "none, or\n.jpg", photos / "test" / "blue" / "01.png"]
    code, out, _ = finish("--csv", "--top", 2, *files)
    found = rows(out)
    assert (code, len(found)) == (3, 3)
    assert [row["error"] != "" for row in found] == [False, True, False]
    assert (found[0]["image"], found[1]["image"]) == (str(files[0]), str(files[1]).replace("\n", "\\n"))
    shares = [float(found[0][f"probability_{place}"]) for place in (1, 2)]
    assert 1 >= shares[0] >= shares[1] >= 0
    lines = finish("--jsonl", *files)[1].splitlines()
    assert [json.loads(line)["image"] for line in lines] == list(map(str, files))


def test_a_file_of_results_is_appended_with_one_header(finish, photos, tmp_path):
    image = photos / "test" / "red" / "00.jpg"
    for _ in range(2):
        assert finish(image, "--csv", "--out", tmp_path / "table.csv")[:2] == (0, "")
    found = rows((tmp_path / "table.csv").read_text(encoding="utf-8"))
    assert [row["image"] for row in found] == [str(image)] * 2


@pytest.mark.parametrize(("below", "unknown"), [(1, True), (0, False)])
def test_the_threshold_for_unknown_images_is_an_option(finish, photos, below, unknown):
    out = finish("--json", "--unknown-below", below, photos / "test" / "red" / "00.jpg")[1]
    assert json.loads(out)["predictions"][0]["unknown"] is unknown


@needs_full
@pytest.mark.parametrize("style", ["--json", "--jsonl", "--csv", "--top=1"])
def test_results_that_cannot_be_written_end_in_one_line(finish, photos, style):
    with FULL.open("w") as full:
        code, _, errors = finish(style, photos / "test" / "red" / "00.jpg", stdout=full)
    assert (code, errors) == (1, "error: No space left on device: stdout\n")


def test_a_reader_that_has_enough_is_no_error(program, photos):
    process = program("--jsonl", photos)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 1
    assert process.communicate()[1] == ""


@pytest.mark.parametrize(
    "options", [(), ("a.jpg", "--camera", 0), ("--watch", ".", "--camera", 0), ("--json", "--camera", 0), ("--top", 0),
                ("--camera", 0, "--smooth", 0), ("a.jpg", "--unknown-below", 2), ("--camera", 0, "--size", "10")]
)  # fmt: skip
def test_options_that_do_not_fit_are_usage_errors(finish, options):
    assert finish(*options)[0] == 2


@contextmanager
def watching(program, folder: Path, *options: object, **settings: object) -> Iterator[subprocess.Popen]:
    process = program("--watch", folder, "--every", 0.2, "--jsonl", *options, **settings)
    try:
        assert process.stderr.readline() == f"watching {folder} for new images\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_new_images_of_a_folder_are_classified_as_they_come(program, photos, tmp_path):
    inbox, image = tmp_path / "inbox", (photos / "test" / "red" / "00.jpg").read_bytes()
    (inbox / "sub").mkdir(parents=True)
    (inbox / "old.jpg").write_bytes(image)
    with watching(program, inbox) as process:
        time.sleep(0.5)
        (inbox / "sub" / "new.jpg").write_bytes(image)
        (inbox / "notes.txt").write_text("text")
        assert json.loads(process.stdout.readline())["image"] == str(inbox / "sub" / "new.jpg")
        with (inbox / "slow.jpg").open("wb", buffering=0) as slow:  # copied over two seconds
            for start in range(0, len(image), len(image) // 10 + 1):
                slow.write(image[start : start + len(image) // 10 + 1])
                time.sleep(0.1)
        answer = json.loads(process.stdout.readline())
        assert (answer["image"], "guesses" in answer) == (str(inbox / "slow.jpg"), True)
        (inbox / "bad.jpg").write_bytes(image[:100])
        assert "reason" in json.loads(process.stdout.readline())
        assert process.stderr.readline().startswith(f"error: cannot read image {inbox / 'bad.jpg'}: ")
        (inbox / "old.jpg").write_bytes((photos / "test" / "blue" / "00.jpg").read_bytes())
        assert json.loads(process.stdout.readline())["image"] == str(inbox / "old.jpg")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert process.stdout.read() == ""


def test_a_watched_folder_that_vanishes_is_waited_for(program, photos, tmp_path):
    inbox = tmp_path / "stick"
    inbox.mkdir()
    with watching(program, inbox) as process:
        inbox.rmdir()
        assert process.stderr.readline() == f"error: cannot read {inbox}: No such file or directory. Waiting for it.\n"
        time.sleep(0.6)
        inbox.mkdir()
        shutil.copyfile(photos / "test" / "red" / "00.jpg", inbox / "a.jpg")
        assert json.loads(process.stdout.readline())["image"] == str(inbox / "a.jpg")


def test_a_folder_to_watch_that_is_missing_is_one_line(finish, tmp_path):
    code, _, errors = finish("--watch", tmp_path / "none")
    assert (code, errors.splitlines()[-1]) == (1, f"error: No such file or directory: {tmp_path / 'none'}")


@needs_full
def test_a_full_disk_does_not_end_a_watch(program, photos, tmp_path):
    with FULL.open("w") as full, watching(program, tmp_path, stdout=full) as process:
        shutil.copyfile(photos / "test" / "red" / "00.jpg", tmp_path / "a.jpg")
        line = process.stderr.readline()
        assert line.startswith("error: cannot write results: No space left on device. Going on;")
        shutil.copyfile(photos / "test" / "red" / "00.jpg", tmp_path / "b.jpg")
        time.sleep(1.5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 1
        assert process.stderr.read() == "error: 2 results could not be written\n"


def movie(path: Path, frames: list[tuple[int, int, int]]) -> Path:
    """Write a video of plain frames (RGB)."""
    cv2 = pytest.importorskip("cv2", reason="needs OpenCV: pip install -e '.[dev]'")
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (64, 48))
    if not writer.isOpened():
        pytest.skip("OpenCV cannot write videos here")
    for color in frames:
        writer.write(np.full((48, 64, 3), color[::-1], np.uint8))
    writer.release()
    return path


def test_a_video_is_classified_frame_by_frame(finish, tmp_path):
    red, blue = (210, 60, 40), (40, 80, 200)
    video = movie(tmp_path / "a.avi", [red] * 6 + [blue] * 6)
    code, out, errors = finish("--camera", video, "--csv")
    found = rows(out)
    assert (code, [row["frame"] for row in found]) == (0, [str(number) for number in range(12)])
    stills = []
    for name, color in (("red", red), ("blue", blue)):
        Image.new("RGB", (64, 48), color).save(tmp_path / f"{name}.png")
        (still,) = json.loads(finish("--json", tmp_path / f"{name}.png")[1])["predictions"]
        stills.append(still["guesses"][0]["label"])
    assert [row["label_1"] for row in found] == [stills[0]] * 6 + [stills[1]] * 6
    assert all(float(row[part]) >= 0 for row in found for part in ("fps", "capture_ms", "preprocess_ms", "model_ms"))
    assert " frames/s over 12 frames; mean ms: capture " in errors.splitlines()[-1]


def test_smoothing_averages_the_last_frames(finish, tmp_path):
    video = movie(tmp_path / "a.avi", [(210, 60, 40)] * 5 + [(40, 80, 200)] + [(210, 60, 40)] * 5)
    said = [finish("--camera", video, "--jsonl", "--top", 3, *more)[1] for more in ((), ("--smooth", 4))]
    raw, smooth = ([json.loads(line)["guesses"] for line in text.splitlines()] for text in said)
    shares = [{guess["label"]: guess["probability"] for guess in guesses} for guesses in raw]
    for row, guesses in enumerate(smooth):
        last = shares[max(0, row - 3) : row + 1]
        for guess in guesses:
            assert guess["probability"] == pytest.approx(np.mean([share[guess["label"]] for share in last]), abs=1e-9)


def test_the_text_has_a_line_per_change(finish, tmp_path):
    red, blue = (210, 60, 40), (40, 80, 200)
    out = finish("--camera", movie(tmp_path / "a.avi", [red] * 4 + [blue] * 4 + [red] * 4))[1]
    assert len(out.splitlines()) == 3


def test_a_camera_that_vanishes_is_opened_again(finish):
    code, out, errors = finish(
        "--camera", 0, "--jsonl", "--frames", 14, modules={"cv2": CV2}, FRAMES=5, RETURNS=4, PICAMERA2="none"
    )
    assert (code, len(out.splitlines())) == (0, 14)
    said = [line for line in errors.splitlines() if not line.startswith("opened")]
    assert said[0] == "error: the camera has stopped. Opening it again for 60 s."
    assert said[1] == "the camera is back"


def test_a_camera_that_stays_away_ends_with_exit_code_4(finish):
    code, out, errors = finish("--camera", 0, "--jsonl", "--retry-seconds", 1.5, modules={"cv2": CV2}, FRAMES=3)
    assert (code, len(out.splitlines())) == (4, 3)
    assert errors.splitlines()[-1] == "error: no frame for 1.5 s. Check the cable and --camera."


def test_no_camera_and_no_library_is_one_line(finish):
    missing = "raise ImportError('not installed')"
    code, out, errors = finish("--camera", 0, modules={"cv2": missing, "picamera2": missing})
    assert (code, out, len(errors.splitlines())) == (4, "", 1)
    assert "OpenCV cannot be imported: not installed. Run: python3 -I install.py --camera" in errors


def test_picamera2_comes_first_and_a_broken_one_is_left_out(finish):
    modules = {"cv2": CV2, "picamera2": PICAMERA2}
    options = ("--camera", 0, "--jsonl", "--frames", 2, "--size", "64x48")
    code, out, errors = finish(*options, modules=modules, FRAMES=9)
    assert (code, len(out.splitlines()), "opened" in errors) == (0, 2, False)
    modules["picamera2"] = "raise ValueError('numpy.dtype size changed, may indicate binary incompatibility')"
    code, out, errors = finish(*options, modules=modules, FRAMES=9)
    assert (code, len(out.splitlines()), "opened 0" in errors) == (0, 2, True)
    assert finish(*options, "--backend", "picamera2", modules=modules, FRAMES=9)[0] == 4


@needs_full
def test_a_full_disk_does_not_end_a_camera_loop(finish):
    with FULL.open("w") as full:
        code, _, errors = finish(
            "--camera", 0, "--csv", "--frames", 9, modules={"cv2": CV2}, FRAMES=99, stdout=full
        )  # fmt: skip
    assert code == 1
    assert errors.count("cannot write results") == 1
    assert errors.splitlines()[-1] == "error: 9 results could not be written"
