#!/usr/bin/env python3
"""Classify images with the model in this folder.

    python3 -I predict.py IMAGE_OR_FOLDER... [--top N] [--threads N] [--json]

Images that cannot be read are named on stderr; the others are classified, and the exit code is 3.
Needs Python 3.9 or newer and the packages in requirements.txt; for HEIC images, pillow-heif too. From another program:

    classifier = Classifier()
    answer = classifier.classify(open_rgb("photo.jpg"), top=3)   # [("cat", 0.93), ...]
    classifier.is_unknown(answer)   # True for an image that likely shows none of the classes
"""

# Until this folder is out of the import path, only built-in modules may be imported: a numpy.py beside the script would
# run. `from __future__` opens a file, too.
import sys

if __name__ == "__main__":
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        del sys.path[:1]
    import os.path

    folder = os.path.dirname(os.path.realpath(__file__))  # noqa: PTH120
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != folder]

import argparse
import functools
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, features

try:
    import pillow_heif
except ImportError:
    pillow_heif = None
else:
    pillow_heif.register_heif_opener()

HERE = Path(__file__).resolve().parent
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF")
FORMATS += (("AVIF",) if features.check("avif") else ()) + (("HEIF",) if pillow_heif else ())
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif")
SUFFIXES += ((".avif",) if "AVIF" in FORMATS else ()) + ((".heic", ".heif", ".hif") if pillow_heif else ())
# Entries of network storage, file systems, macOS, Windows, cameras, photo programs and version control.
CLUTTER = re.compile(
    r"\..*|@eadir|@tmp|@sharebin|@sharesnap|@recycle|@recently-snapshot|@snapshot|#recycle|#snapshot|trashbox|~snapshot|"
    r"nflc_data|lost\+found|network trash folder|temporary items|thevolumesettingsfolder|__macosx|icon\r|thumbs\.db|"
    r"thumbs\.db:encryptable|ehthumbs\.db|ehthumbs_vista\.db|desktop\.ini|\$recycle\.bin|recycler|recycled|"
    r"system volume information|cvs|_svn|_darcs|__pycache__|node_modules|found\.\d{3}|"
    r".*(\.thm|\.lrv|\.lrdata|\.photoslibrary|\.aplibrary|@synoeastream|@synoresource|:zone\.identifier)",
    re.IGNORECASE | re.DOTALL,
)
MAX_PIXELS = 178_956_970  # 0.5 GB as RGB; protects against small files with a huge declared size
# A file that grows this many times in memory, and to more bytes than this, is refused. Photos grow 10 to 500 times.
BOMBS = ((10_000, 100_000_000), (3_000, 1_000_000_000))
MOST_JPEG_PIXELS_PER_BYTE = 512  # Huffman codes take at least 1 bit per 8 x 8 block
# Peak memory of decoding per pixel: modes RGB and gray, and others, which are converted or composited on white.
BYTES_PER_PIXEL = {"WEBP": (18, 26), "AVIF": (12, 20), "HEIF": (12, 20)}
OTHER_BYTES_PER_PIXEL = (8, 16)
MAX_12_BIT, MAX_16_BIT = 4095, 65535
GRAY_STEPS = {"L;2": 85, "L;4": 17}  # 255 by the largest value of a PNG with 2 or 4 bits
ORIENTATION_TAG = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
ELONGATED = 16  # above this ratio of sides only the cropped part is resized


class Classifier:
    """Model of a bundle folder, loaded into its runtime.

    Attributes:
        about: bundle.json. steps: preprocess.json. labels: class names, in the order of the logits.
        confidence: confidence.json.
        runtime_version: version of the installed runtime.
        arithmetic: arithmetic of the runtime: "f32", "f16-weights", "f16" or "bf16".
    """

    def __init__(self, folder: Path = HERE, threads: "int | None" = None) -> None:
        self.about = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
        if Path(self.about["model"]).name != self.about["model"]:
            raise ValueError("bundle.json names a model outside of its folder")
        self.steps = json.loads((folder / "preprocess.json").read_text(encoding="utf-8"))
        self.confidence = json.loads((folder / "confidence.json").read_text(encoding="utf-8"))
        self.labels = (folder / "labels.txt").read_text(encoding="utf-8").split("\n")[:-1]
        self.threads = threads or self.about["threads"]
        load = {"onnxruntime": load_onnxruntime, "openvino": load_openvino, "ncnn": load_ncnn}[self.about["runtime"]]
        self._infer, self.runtime_version, self.arithmetic = load(str(folder / self.about["model"]), self.threads)

    def logits(self, inputs: np.ndarray) -> np.ndarray:
        """Return logits, float32 (N, classes), for float32 inputs (N, 3, S, S) from `preprocess`."""
        return np.concatenate([np.array(self._infer(inputs[row : row + 1])) for row in range(len(inputs))])

    def classify(self, image: Image.Image, top: int = 1) -> list[tuple[str, float]]:
        """Return the `top` most probable classes of an RGB image with softmax probabilities, best first."""
        scores = self.logits(preprocess(image, self.steps)[None])[0].astype(np.float64)
        probabilities = np.exp(scores - scores.max())
        probabilities /= probabilities.sum()
        best = np.argsort(-probabilities, kind="stable")[:top]
        return [(self.labels[row], float(probabilities[row])) for row in best]

    def is_unknown(self, guesses: list[tuple[str, float]]) -> bool:
        """Return True if the best of the guesses of `classify` is below the threshold: likely of no known class."""
        rule = self.confidence["unknown"]
        return rule is not None and guesses[0][1] < rule["below"]


def load_onnxruntime(path: str, threads: int) -> tuple:
    """Load the model; return a function from (1, 3, S, S) to logits, the runtime's version and its arithmetic."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads slow down the other programs of a small device.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return (lambda inputs: session.run(None, {name: inputs})[0]), onnxruntime.__version__, "f32"


def load_openvino(path: str, threads: int) -> tuple:
    """Load the model like `load_onnxruntime`; OpenVINO itself selects bf16 or f16 on CPUs that have it."""
    import openvino

    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    compiled = openvino_core().compile_model(path, "CPU", config)
    arithmetic = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    return (lambda inputs: compiled([inputs])[0]), openvino.__version__, arithmetic


@functools.lru_cache(maxsize=None)
def openvino_core() -> object:
    """Return the only core of this process: a signal may crash a process that destroys several (openvino 2026.4)."""
    import openvino

    return openvino.Core()


def load_ncnn(path: str, threads: int) -> tuple:
    """Load the model like `load_onnxruntime`; ncnn itself selects float16 arithmetic on Arm CPUs that have it."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    if net.load_param(path) or net.load_model(str(Path(path).with_suffix(".bin"))):
        raise ValueError("ncnn cannot load the model")
    # Without such arithmetic, ncnn stores weights of fully connected layers in float16 at most.
    arithmetic = "f16" if ncnn.cpu_support_arm_asimdhp() else "f16-weights"
    return functools.partial(run_ncnn, net), ncnn.__version__, arithmetic


def run_ncnn(net, inputs: np.ndarray) -> np.ndarray:
    """Return the logits (1, classes) of one input (1, 3, S, S)."""
    import ncnn

    extractor = net.create_extractor()
    failed = extractor.input(net.input_names()[0], ncnn.Mat(np.ascontiguousarray(inputs[0])).clone())
    code, logits = extractor.extract(net.output_names()[0])
    if failed or code or logits.empty():
        raise RuntimeError(f"ncnn failed with code {failed or code}")
    return np.array(logits).reshape(1, -1)


def open_rgb(path: "str | Path") -> Image.Image:
    """Open an image, or the first frame or page, as 8-bit RGB: upright by its EXIF data, transparency on white."""
    with Image.open(path, formats=FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"the image has {image.width} x {image.height} pixels, more than {MAX_PIXELS}")
        if image.mode == "F":
            raise ValueError("floating-point pixels, which have no fixed range")
        refuse_bomb(image, Path(path).stat().st_size)
        scale_transparency(image)
        image.load()
        turn = UPRIGHT.get(orientation(image))
        return flatten(image if turn is None else image.transpose(turn), image.format)


def refuse_bomb(image: Image.Image, size: int) -> None:
    """Raise ValueError for a file of `size` bytes whose header states far more pixels than they plausibly hold."""
    pixels = image.width * image.height
    plain, others = BYTES_PER_PIXEL.get(image.format, OTHER_BYTES_PER_PIXEL)
    converted = image.mode not in ("RGB", "L", "1", "P") or "transparency" in image.info
    needed = pixels * (others if converted else plain)
    if any(needed > factor * size and needed > least for factor, least in BOMBS):
        raise ValueError(f"{size:,} bytes that need {needed / 1e9:.1f} GB of memory: a decompression bomb")
    if image.format in ("JPEG", "MPO") and pixels > MOST_JPEG_PIXELS_PER_BYTE * size:
        raise ValueError(f"{size:,} bytes cannot hold {image.width} x {image.height} pixels: a false size")


def scale_transparency(image: Image.Image) -> None:
    """Scale the transparent value of a PNG as Pillow scales its pixels; call it before the pixels are loaded."""
    stored, raw = image.info.get("transparency"), str(image.tile[0][3]) if image.tile else ""
    if image.format == "PNG" and isinstance(stored, int) and raw in GRAY_STEPS:
        image.info["transparency"] = stored * GRAY_STEPS[raw]
    elif image.format == "PNG" and isinstance(stored, tuple) and ";16" in raw:
        image.info["transparency"] = tuple(value >> 8 for value in stored)


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 for missing or damaged EXIF data."""
    try:
        tag = image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # damaged EXIF data can raise anything, but the pixels are good
        return 1
    return tag if isinstance(tag, int) else 1


def flatten(image: Image.Image, container: "str | None" = None) -> Image.Image:
    """Convert any mode to RGB: 16-bit gray scaled to 8 bits, transparency on white.

    Args:
        container: format of the file, such as "BMP".
    """
    if image.mode == "I" or image.mode.startswith("I;16"):
        return scale_16_bit(image).convert("RGB")
    # Programs without alpha support leave the fourth byte of a 32-bit BMP at 0.
    if container in ("BMP", "DIB") and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        return image.convert("RGB")
    if image.has_transparency_data:
        opened = image.convert("RGBA")
        white = Image.new("RGBA", opened.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, opened).convert("RGB")
    return image.convert("RGB")


def scale_16_bit(image: Image.Image) -> Image.Image:
    """Scale gray values to 8 bits: from 12 bits if none exceeds 4095, else from 16 bits; transparency is white."""
    stored = np.asarray(image)
    if stored.min() < 0 or stored.max() > MAX_16_BIT:
        raise ValueError(f"gray values outside 0..{MAX_16_BIT}")
    top = MAX_12_BIT if stored.max() <= MAX_12_BIT else MAX_16_BIT
    gray = ((stored.astype(np.uint32) * 255 + top // 2) // top).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        gray[stored == transparent] = 255
    return Image.fromarray(gray)


def preprocess(image: Image.Image, steps: dict) -> np.ndarray:
    """Preprocess an RGB image of any size to float32 (3, S, S) as in preprocess.json."""
    pixels = np.asarray(crop(image, steps))
    mean, std = (np.array(steps[key], dtype=np.float32).reshape(3, 1, 1) for key in ("mean", "std"))
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32)
    planes /= np.float32(255)
    planes -= mean
    planes /= std
    return planes


def crop(image: Image.Image, steps: dict) -> Image.Image:
    """Resize with antialiasing and crop the center to an RGB image of S x S."""
    size, resampling = steps["img_size"], FILTERS[steps["interpolation"]]
    width, height = resized_size(image.size, steps)
    left, top = (width - size) // 2, (height - size) // 2
    window = (left, top, left + size, top + size)
    if max(width, height) <= ELONGATED * min(width, height):
        return image.resize((width, height), resampling).crop(window)
    # A 1 x 60000 image would be resized to gigabytes, although the crop keeps one square.
    across, down = image.width / width, image.height / height
    right, bottom = min(window[2] * across, image.width), min(window[3] * down, image.height)
    return image.resize((size, size), resampling, box=(left * across, top * down, right, bottom))


def resized_size(size: tuple[int, int], steps: dict) -> tuple[int, int]:
    """Return width and height before the crop."""
    side, (width, height) = math.floor(steps["img_size"] / steps["crop_pct"]), size
    if steps["resize"] == "stretch":
        return side, side
    if width <= height:
        return side, side * height // width
    return side * width // height, side


def image_files(folder: Path, left_out: Counter, above: tuple = ()) -> Iterator[Path]:
    """Yield the images below a folder; count the other entries in `left_out`."""
    here = (folder.stat().st_dev, folder.stat().st_ino)
    if here in above:  # a link back
        return
    for entry in folder.iterdir():
        if CLUTTER.fullmatch(entry.name):
            left_out["hidden entries and entries of other programs"] += 1
        elif entry.is_dir():
            yield from image_files(entry, left_out, (*above, here))
        elif entry.name.lower().endswith(SUFFIXES) and (entry.is_file() or not entry.exists()):  # or a broken link
            yield entry
        else:
            left_out["files that are not images or not read here"] += 1


def listed(path: str) -> list[Path]:
    """Return the images in a folder, sorted, or the path itself; print what is left out of a folder."""
    if not Path(path).is_dir():
        return [Path(path)]
    left_out = Counter()
    found = sorted(image_files(Path(path), left_out))
    for kind, count in left_out.items():
        print(f"{plain(path)}: ignored {kind}: {count}", file=sys.stderr)
    if not found:
        raise ValueError("no images in this folder")
    return found


def answer_each(classifier: Classifier, paths: list[str], top: int) -> Iterator[dict]:
    """Yield a document per image with its guesses, or with the reason if an image or folder cannot be read."""
    for path in paths:
        try:
            files = listed(path)
        except (OSError, ValueError) as error:
            yield {"image": path, "reason": reason(error)}
            continue
        for file in files:
            try:
                image = open_rgb(file)
            except Exception as error:  # decoders raise any exception on hostile bytes
                yield {"image": str(file), "reason": reason(error)}
                continue
            guesses = classifier.classify(image, top)
            named = [{"label": name, "probability": share} for name, share in guesses]
            yield {"image": str(file), "guesses": named, "unknown": classifier.is_unknown(guesses)}


def reason(error: Exception) -> str:
    """Return the message of an exception in one line."""
    return plain(" ".join(str(getattr(error, "strerror", None) or error).split())) or type(error).__name__


def plain(text: str) -> str:
    """Return text with control characters escaped, for a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def positive(text: str) -> int:
    """Convert the text of an option to a whole number of at least 1."""
    if int(text) < 1:
        raise ValueError
    return int(text)


def main() -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description="Classify images with the model in this folder.")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="images, and folders of images")
    parser.add_argument("--top", type=positive, default=1, help="classes to show per image")
    parser.add_argument("--threads", type=positive, help="default: the target's number of threads")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    arguments = parser.parse_args()
    for stream in (sys.stdout, sys.stderr):  # file names may have characters that a pipe's encoding lacks
        stream.reconfigure(errors="backslashreplace")
    answers, failed = [], []
    try:
        classifier = Classifier(threads=arguments.threads)
    except Exception as error:  # a damaged file, or a runtime that is not installed
        print(f"error: cannot load the model: {reason(error)}. Run selfcheck.py.", file=sys.stderr)
        return 1
    for found in answer_each(classifier, arguments.images, arguments.top):
        if "reason" in found:
            print(f"error: cannot read image {plain(found['image'])}: {found['reason']}", file=sys.stderr)
            failed.append(found)
            continue
        answers.append(found)
        if not arguments.json:
            guesses = ", ".join(f"{guess['label']} {guess['probability']:.1%}" for guess in found["guesses"])
            print(plain(f"{found['image']}: {'unknown, nearest ' if found['unknown'] else ''}{guesses}"))
    if arguments.json:
        document = {"schema_version": 1, "predictions": answers, "failed": failed}
        unicode = sys.stdout.encoding.replace("-", "").lower() == "utf8"
        print(json.dumps(document, indent=2, ensure_ascii=not unicode))
    if failed and answers:
        total = len(answers) + len(failed)
        print(f"error: {len(failed)} of {total} images were not classified", file=sys.stderr)
    return 3 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
