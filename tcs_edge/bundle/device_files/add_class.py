#!/usr/bin/env python3
"""Add a class to the model in this folder, from a few photos, without training.

    python3 -I add_class.py NAME PHOTO_OR_FOLDER...
    python3 -I add_class.py --list
    python3 -I add_class.py --remove NAME

The class is stored in classes.json beside the model, which does not change. `classify.py` and `serve.py` read the file
when they start. Five photos or more are advised. A photo that cannot be read stops the command, with exit code 3.
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
import os

import numpy as np
from edge_classes import CLASSES, ENOUGH_PHOTOS, FALSE_ALARM_RATE, AddedClasses, Fit, write_classes
from edge_images import open_rgb
from edge_listing import listed
from edge_model import HERE, Classifier
from edge_options import number
from edge_output import json_line, plain, prepare_screen, reason, say

GOOD, FAILED, BAD_IMAGES, INTERRUPTED = 0, 1, 3, 130


class BadPhoto(Exception):
    """A photo, or a folder of photos, cannot be read."""


def photo_embeddings(classifier: Classifier, paths: "list[str]") -> np.ndarray:
    """Return the embeddings (N, k) of all photos.

    Raises:
        BadPhoto: one of them cannot be read.
    """
    rows = []
    for path in paths:
        try:
            for file in listed(path, say):
                path = file
                rows.append(classifier.embedding(open_rgb(file)))
        except Exception as error:  # decoders raise any exception on hostile bytes
            raise BadPhoto(f"cannot read photo {path}: {reason(error)}") from error
    return np.stack(rows)


def describe(classes: AddedClasses, as_json: bool) -> None:
    """Print the added classes."""
    listed_classes = [{"name": one.name, "photos": one.photos, "threshold": one.threshold} for one in classes.added]
    if as_json:
        print(json_line({"schema_version": 1, "classes": listed_classes}, sys.stdout.encoding, indent=2))
    elif not listed_classes:
        print("no added classes")
    else:
        for one in listed_classes:
            print(plain(f"{one['name']}: {one['photos']} photos, threshold {one['threshold']:.3f}"))


def report(name: str, fit: Fit) -> None:
    """Print how well a new class fits the images at hand, and what to do about one that does not."""
    left_out = f", found when left out: {fit.found}" if fit.photos > 1 else ""
    print(plain(f"added: {name} ({fit.photos} photos{left_out})"))
    print(f"validation images of other classes taken: {fit.false_alarms} of {fit.images}")
    if fit.photos < ENOUGH_PHOTOS:
        say(f"warning: {fit.photos} photos are few. Add the class again with {ENOUGH_PHOTOS} or more.")
    elif 2 * fit.found < fit.photos:
        say("warning: fewer than half of the photos are found. Pass other photos, or a larger --false-alarm-rate.")


def parsed(words: "list[str] | None" = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Add a class to the model in this folder, from a few photos.")
    parser.add_argument("name", nargs="?", help="name of the new class")
    parser.add_argument("photos", nargs="*", metavar="PHOTO", help="photos of the class, and folders of photos")
    parser.add_argument("--remove", metavar="NAME", help="remove an added class")
    parser.add_argument("--list", action="store_true", help="list the added classes")
    share = number(float, 0.0, 1.0)
    parser.add_argument(
        "--false-alarm-rate", type=share, default=FALSE_ALARM_RATE, metavar="P",
        help="share of images of other classes that the class may take; larger: more images of the class are found",
    )  # fmt: skip
    parser.add_argument("--threads", type=number(int), help="default: the target's number of threads")
    parser.add_argument("--json", action="store_true", help="with --list: one JSON document")
    arguments = parser.parse_args(words)
    if sum((arguments.name is not None, arguments.remove is not None, arguments.list)) != 1:
        parser.error("name a class and its photos, or pass --remove NAME, or --list")
    if arguments.name is not None and not arguments.photos:
        parser.error("pass 1 photo or more")
    return arguments


def main() -> int:
    """Run the command line; return the exit code."""
    arguments = parsed()
    prepare_screen()
    try:
        classifier = Classifier(threads=arguments.threads)
    except Exception as error:  # a damaged file, or a runtime that is not installed
        say(f"error: cannot load the model: {reason(error)}. Run selfcheck.py.")
        return FAILED
    if classifier.own_classes is None:
        say("error: the model has no embedding. Train and bundle it with: tcs-edge compress --with-embedding")
        return FAILED
    classes = classifier.added or classifier.own_classes
    try:
        if arguments.list:
            describe(classes, arguments.json)
            return GOOD
        if arguments.remove is not None:
            left = classes.remove(arguments.remove)
            store(left)
            print(plain(f"removed: {arguments.remove}"))
            return GOOD
        rate = arguments.false_alarm_rate
        grown, fit = classes.add(arguments.name, photo_embeddings(classifier, arguments.photos), rate)
        store(grown)
        report(arguments.name, fit)
    except BadPhoto as error:
        say(f"error: {error}. Nothing was added.")
        return BAD_IMAGES
    except (OSError, ValueError) as error:
        say(f"error: {reason(error)}.")
        return FAILED
    say("Restart serve.py and classify.py, if they run, to use the change.")
    return GOOD


def store(classes: AddedClasses) -> None:
    """Write classes.json, or remove it if there are no classes.

    Raises:
        OSError: the folder cannot be written.
    """
    path = HERE / CLASSES
    if classes.added:
        write_classes(path, classes)
    elif os.path.lexists(path):
        path.unlink()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(INTERRUPTED)
