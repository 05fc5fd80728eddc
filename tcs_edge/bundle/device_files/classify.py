#!/usr/bin/env python3
"""Classify images with the model in this folder: files, folders, a watched folder, or a camera.

    python3 -I classify.py IMAGE_OR_FOLDER... [--top N] [--json | --jsonl | --csv] [--out FILE]
    python3 -I classify.py --watch FOLDER
    python3 -I classify.py --camera 0 [--smooth N]

Images that cannot be read are named on stderr; the others are classified, and the exit code is 3. With exit code 4, the
camera cannot be opened.
Needs Python 3.9 or newer and the packages in requirements.txt; for HEIC images, pillow-heif too.
"""

# Until this folder is out of the import path, only built-in modules may be imported: a numpy.py beside the program
# would run. `from __future__` opens a file, too. Of this folder, only the modules named edge_* are imported.
import sys

if __name__ == "__main__":
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        del sys.path[:1]
    import os.path

    folder = os.path.dirname(os.path.realpath(__file__))  # noqa: PTH120
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != folder]
    sys.dont_write_bytecode = True
    from importlib.util import spec_from_file_location

    class OwnModules:
        """Find the modules of this folder whose names begin with edge_."""

        @staticmethod
        def find_spec(name, path=None, target=None):
            """Return the spec of a module of this folder; None for others."""
            return spec_from_file_location(name, f"{folder}/{name}.py") if name.startswith("edge_") else None

    sys.meta_path.insert(0, OwnModules)

import argparse
import signal
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path

from edge_camera import Clock, NoCamera, Smoothing, frames, open_camera
from edge_images import open_rgb
from edge_listing import Watch, listed, watched
from edge_model import Classifier
from edge_options import frame_size, number
from edge_output import Output, json_line, named, prepare_screen, reason, say, silence_stdout

GOOD, FAILED, BAD_IMAGES, MISSING, INTERRUPTED = 0, 1, 3, 4, 130
REPORT_SECONDS = 10.0


def answer_each(classifier: Classifier, paths: Iterable[str], top: int) -> Iterator[dict]:
    """Yield a document per image with its guesses, or with the reason if an image or folder cannot be read."""
    for path in paths:
        try:
            files = listed(path, say)
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
            yield {"image": str(file), "guesses": named(guesses), "unknown": classifier.is_unknown(guesses)}


def classify_files(classifier: Classifier, arguments: argparse.Namespace) -> int:
    """Classify the images and folders of the command line; return the exit code."""
    output = Output(arguments.style, arguments.out, "files", arguments.top)
    answers, failed = [], []
    for found in answer_each(classifier, arguments.images, arguments.top):
        bad = "reason" in found
        if bad:
            say(f"error: cannot read image {found['image']}: {found['reason']}")
        (failed if bad else answers).append(found)
        if output.style != "json" and not (bad and output.style == "text"):
            output.write({"time": now(), **found})
    if output.style == "json":
        document = {"schema_version": 1, "predictions": answers, "failed": failed}
        output.put(json_line(document, output.encoding, indent=2) + "\n")
    if failed and answers:
        say(f"error: {len(failed)} of {len(answers) + len(failed)} images were not classified")
    return BAD_IMAGES if failed else GOOD


def classify_new(classifier: Classifier, arguments: argparse.Namespace) -> int:
    """Classify the new images of a folder until the program is ended; return the exit code."""
    output = Output(arguments.style, arguments.out, "files", arguments.top)
    watch = Watch(arguments.watch)
    say(f"watching {arguments.watch} for new images")
    found = watched(watch, arguments.every, say)
    try:
        for answer in answer_each(classifier, map(str, found), arguments.top):
            if "reason" in answer:
                say(f"error: cannot read image {answer['image']}: {answer['reason']}")
                if output.style == "text":
                    continue
            output.write({"time": now(), **answer}, going_on=True)
    except (KeyboardInterrupt, SystemExit):
        return ended(output)


def classify_frames(classifier: Classifier, arguments: argparse.Namespace) -> int:
    """Classify the frames of a camera until it ends or the program is ended; return the exit code."""
    output = Output(arguments.style, arguments.out, "camera", arguments.top)
    smoothing, clock, shown, count = Smoothing(arguments.smooth), Clock(), None, 0
    source, backend, size = arguments.camera, arguments.backend, arguments.size
    try:
        for image, capture_ms in frames(lambda: open_camera(source, backend, size), arguments.retry_seconds, say):
            shares, preprocess_ms, model_ms = classifier.timed_probabilities(image)
            clock.add(capture_ms, preprocess_ms, model_ms)
            guesses = classifier.best(smoothing.mean(shares), arguments.top)
            answer = {"time": now(), "frame": count, "guesses": named(guesses)}
            answer |= {"unknown": classifier.is_unknown(guesses), "fps": round(clock.fps, 2)}
            parts = {"capture_ms": capture_ms, "preprocess_ms": preprocess_ms, "model_ms": model_ms}
            answer |= {name: round(value, 3) for name, value in parts.items()}
            seen, count = (guesses[0][0], answer["unknown"]), count + 1
            if output.style != "text" or seen != shown:  # people read changes, programs read every frame
                output.write(answer, going_on=True)
            shown = seen
            if clock.seconds >= REPORT_SECONDS:
                say(clock.report())
            if count == arguments.frames:
                break
    except NoCamera as error:
        say(f"error: {reason(error)}. Check the cable and --camera.")
        return MISSING
    except (KeyboardInterrupt, SystemExit):
        pass
    say(clock.report())
    return ended(output)


def ended(output: Output) -> int:
    """Return the exit code at the end of a loop; say how many lines were lost."""
    if output.lost:
        say(f"error: {output.lost} results could not be written")
    return FAILED if output.lost else GOOD


def now() -> str:
    """Return the time in UTC, to the millisecond."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def parsed(words: "list[str] | None" = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Classify images with the model in this folder.")
    positive, share = number(int), number(float, 0.0, 1.0, open_below=False)
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="images, and folders of images")
    parser.add_argument("--watch", type=Path, metavar="FOLDER", help="classify new images of a folder as they come")
    parser.add_argument("--camera", metavar="SOURCE", help="camera number; with OpenCV also a device, video or stream")
    parser.add_argument("--top", type=positive, default=1, help="classes to show per image")
    parser.add_argument("--threads", type=positive, help="default: the target's number of threads")
    parser.add_argument(
        "--unknown-below", type=share, metavar="P", help="threshold in place of confidence.json's; 0: off"
    )
    styles = parser.add_mutually_exclusive_group()
    for name, content in (
        ("--json", "one JSON document"),
        ("--jsonl", "a JSON document per line"),
        ("--csv", "a table"),
    ):
        styles.add_argument(name, dest="style", action="store_const", const=name[2:], help=content)
    parser.add_argument("--out", type=Path, metavar="FILE", help="append the results to a file; default: stdout")
    parser.add_argument("--every", type=number(float), default=1.0, metavar="S", help="--watch: seconds between looks")
    camera = parser.add_argument_group("camera")
    camera.add_argument("--backend", choices=("auto", "picamera2", "opencv"), default="auto")
    camera.add_argument("--size", type=frame_size, metavar="WxH", help="size of the frames; default: the camera's")
    camera.add_argument("--smooth", type=positive, default=1, metavar="N", help="average over the last N frames")
    camera.add_argument("--frames", type=positive, metavar="N", help="stop after N frames")
    seconds = number(float, open_below=False)
    camera.add_argument("--retry-seconds", type=seconds, default=60.0, metavar="S", help="open a lost camera for S s")
    arguments = parser.parse_args(words)
    arguments.style = arguments.style or "text"
    if sum((bool(arguments.images), arguments.watch is not None, arguments.camera is not None)) != 1:
        parser.error("name images, or --watch FOLDER, or --camera SOURCE")
    if arguments.style == "json" and not arguments.images:
        parser.error("--json is one document, for images. Pass --jsonl")
    return arguments


def main() -> int:
    """Run the command line; return the exit code."""
    arguments = parsed()
    prepare_screen()
    if not arguments.images:  # a service manager ends a loop this way
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(GOOD))
    try:
        classifier = Classifier(threads=arguments.threads, unknown_below=arguments.unknown_below)
    except Exception as error:  # a damaged file, or a runtime that is not installed
        say(f"error: cannot load the model: {reason(error)}. Run selfcheck.py.")
        return FAILED
    work = classify_files if arguments.images else classify_new if arguments.watch else classify_frames
    try:
        return work(classifier, arguments)
    except BrokenPipeError:
        silence_stdout()
        return FAILED
    except OSError as error:
        say(f"error: {reason(error)}: {error.filename or arguments.out or 'stdout'}")
        return FAILED


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(INTERRUPTED)
