#!/usr/bin/env python3
"""Find like images with the embedding of the model in this folder.

    python3 -I similar.py --index FILE --make IMAGE_OR_FOLDER...
    python3 -I similar.py --index FILE IMAGE_OR_FOLDER... [--top N] [--json]

The first line writes an index of images, the second one names the images of an index that are like others. The score is
the cosine of two embeddings, in -1..1. `tcs-edge index` writes the same file. An index of another model is refused.
Images that cannot be read are named on stderr, and the exit code is 3.
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
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from edge_images import open_rgb
from edge_index import read_index, require_model, write_index
from edge_listing import listed
from edge_model import Classifier
from edge_options import number
from edge_output import json_line, plain, prepare_screen, reason, say, silence_stdout

GOOD, FAILED, BAD_IMAGES, INTERRUPTED = 0, 1, 3, 130


def embeddings(classifier: Classifier, paths: "list[str]") -> "Iterator[tuple[str, np.ndarray | str]]":
    """Yield the path and the embedding of every image, or the reason if an image or folder cannot be read."""
    for path in paths:
        try:
            files = listed(path, say)
        except (OSError, ValueError) as error:
            yield path, reason(error)
            continue
        for file in files:
            try:
                image = open_rgb(file)
            except Exception as error:  # decoders raise any exception on hostile bytes
                yield str(file), reason(error)
                continue
            yield str(file), classifier.embedding(image)


def make_index(classifier: Classifier, arguments: argparse.Namespace) -> int:
    """Write an index of the images; return the exit code."""
    names, rows, failed = [], [], 0
    for name, found in embeddings(classifier, arguments.images):
        if isinstance(found, str):
            say(f"error: cannot read image {name}: {found}")
            failed += 1
            continue
        names.append(name)
        rows.append(found)
    if not names:
        say("error: no image could be read, so no index was written")
        return BAD_IMAGES
    write_index(arguments.index, names, np.stack(rows), classifier.about["model_sha256"])
    say(f"index: {arguments.index} ({len(names)} images)")
    return BAD_IMAGES if failed else GOOD


def find_like(classifier: Classifier, arguments: argparse.Namespace) -> int:
    """Print the images of the index that are like the images; return the exit code."""
    index = read_index(arguments.index)
    require_model(index, classifier.about["model_sha256"], classifier.embedding_size, arguments.index.name)
    answers, failed = [], []
    for name, found in embeddings(classifier, arguments.images):
        if isinstance(found, str):
            say(f"error: cannot read image {name}: {found}")
            failed.append({"image": name, "reason": found})
            continue
        like = [{"image": other, "score": score} for other, score in index.nearest(found, arguments.top)]
        answers.append({"image": name, "similar": like})
        if not arguments.json:
            print(plain(f"{name}: " + ", ".join(f"{one['image']} {one['score']:.3f}" for one in like)), flush=True)
    if arguments.json:
        document = {"schema_version": 1, "similar": answers, "failed": failed}
        print(json_line(document, sys.stdout.encoding, indent=2))
    return BAD_IMAGES if failed else GOOD


def parsed(words: "list[str] | None" = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Find like images with the embedding of the model in this folder.")
    positive = number(int)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="images, and folders of images")
    parser.add_argument("--index", type=Path, required=True, metavar="FILE", help="the index, outside of this folder")
    parser.add_argument("--make", action="store_true", help="write the index of these images")
    parser.add_argument("--top", type=positive, default=5, help="like images to show per image")
    parser.add_argument("--threads", type=positive, help="default: the target's number of threads")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    return parser.parse_args(words)


def main() -> int:
    """Run the command line; return the exit code."""
    arguments = parsed()
    prepare_screen()
    try:
        classifier = Classifier(threads=arguments.threads)
    except Exception as error:  # a damaged file, or a runtime that is not installed
        say(f"error: cannot load the model: {reason(error)}. Run selfcheck.py.")
        return FAILED
    if not classifier.embedding_size:
        say("error: the model has no embedding. Train and bundle it with: tcs-edge compress --with-embedding")
        return FAILED
    try:
        return (make_index if arguments.make else find_like)(classifier, arguments)
    except BrokenPipeError:
        silence_stdout()
        return FAILED
    except (OSError, ValueError) as error:
        say(f"error: {reason(error)}: {arguments.index}")
        return FAILED


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(INTERRUPTED)
