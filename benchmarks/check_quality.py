"""Measure `tcs-edge check` on image sets with injected faults, beside cleanlab and CleanVision.

    python benchmarks/check_quality.py ../shared/data/* --work /tmp/quality --peers PYTHON \\
        --teacher-onnx sscd.onnx --teacher-img-size 288

Copies: 3 % of the images each are encoded again (JPEG quality 40 to 75), resized (to 0.5 to 0.8 of the side), mirrored,
and cropped (to 0.8 to 0.95 of each side, anywhere). A pair is found if the check reports it. Other reported pairs count
as false, though some are real copies in the set. Labels: 2 % are replaced by another class at random. The images are
ranked by doubt. The precision is the share of replaced labels in the first 2 % of the ranking.

`--peers` names a Python with cleanlab and cleanvision. Both see the same images, and cleanlab the same probabilities.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tcs_edge.check.copies import find_copies
from tcs_edge.check.images import CheckedImages
from tcs_edge.check.labels import doubt_scores, heldout_probabilities
from tcs_edge.check.thumbnails import thumbnails_of
from tcs_edge.data import load_images
from tcs_edge.data.decode import open_rgb
from tcs_edge.data.images import Split
from tcs_edge.specs.config import ImagesConfig
from tcs_edge.teachers.source import run_features

KINDS = ("encoded", "resized", "mirrored", "cropped")
COPIES, FLIPS = 0.03, 0.02
PEERS = """
import json, sys, time, warnings
import numpy as np
warnings.filterwarnings("ignore")
job = json.load(open(sys.argv[1]))
if job["what"] == "copies":
    from cleanvision import Imagelab
    started = time.process_time()
    lab = Imagelab(data_path=job["folder"], verbose=False)
    lab.find_issues({"exact_duplicates": {}, "near_duplicates": {}}, n_jobs=1, verbose=False)
    sets = [group for kind in ("exact_duplicates", "near_duplicates") for group in lab.info[kind]["sets"]]
    print(json.dumps({"sets": [[str(name) for name in group] for group in sets], "s": time.process_time() - started}))
else:
    from cleanlab.rank import get_label_quality_scores
    found = np.load(job["file"])
    scores = {
        method: get_label_quality_scores(found["labels"], found["probabilities"], method=method).tolist()
        for method in ("self_confidence", "normalized_margin")
    }
    print(json.dumps(scores))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="Folder of the images with faults and of the rows.")
    parser.add_argument("--images", type=int, default=1000, help="Images of each set.")
    parser.add_argument("--peers", type=Path, help="Python with cleanlab and cleanvision.")
    parser.add_argument("--cache-dir", type=Path)
    parser.add_argument("--teacher", action="append", default=[], help="NAME,WEIGHTS,PIXELS; repeatable.")
    parser.add_argument("--teacher-onnx", type=Path)
    parser.add_argument("--teacher-img-size", type=int)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    rows = arguments.work / "rows.jsonl"
    done = {tuple(json.loads(line)["key"]) for line in rows.read_text().splitlines()} if rows.exists() else set()
    for data in arguments.data:
        images = load_images(data, cache_dir=arguments.cache_dir)
        some = sampled(images.train.followed_by(images.val), arguments.images)
        jobs = {("copies", data.name): lambda some=some, data=data: measure_copies(some, data.name, arguments)}
        for teacher in teachers(arguments):
            jobs["labels", data.name, str(teacher.teacher or teacher.teacher_onnx)] = (
                lambda some=some, images=images, teacher=teacher: measure_labels(some, images, teacher, arguments)
            )
        for key, job in jobs.items():
            if key in done:
                continue
            row = {"key": key} | job()
            with rows.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)


def teachers(arguments: argparse.Namespace) -> list[ImagesConfig]:
    found = []
    for text in arguments.teacher:
        name, weights, pixels = text.split(",")
        found.append(
            ImagesConfig(
                teacher=name, teacher_weights=weights or None, teacher_img_size=pixels, cache_dir=arguments.cache_dir
            )
        )
    if arguments.teacher_onnx:
        own = {"teacher_onnx": arguments.teacher_onnx, "teacher_img_size": arguments.teacher_img_size}
        found.append(ImagesConfig(**own, cache_dir=arguments.cache_dir))
    return found


def sampled(split: Split, count: int) -> Split:
    rows = sorted(random.Random(0).sample(range(len(split)), min(count, len(split))))
    return split.subset(rows)


def measure_copies(some: Split, name: str, arguments: argparse.Namespace) -> dict[str, object]:
    folder = arguments.work / name
    wanted = write_copies(some, folder)
    images = CheckedImages.of(load_images(folder, cache_dir=arguments.cache_dir))
    seen = thumbnails_of(images.all, arguments.cache_dir)
    started = time.process_time()
    pairs = {
        frozenset((Path(images.name(pair.first)).name, Path(images.name(pair.second)).name))
        for pair in find_copies(images, seen.gray)
    }
    row = {"images": len(images), "compare_s": round(time.process_time() - started, 1), "check": score(pairs, wanted)}
    row["check"]["false"] = sorted(sorted(pair) for pair in pairs - set(wanted))
    if arguments.peers:
        found = peer(arguments, {"what": "copies", "folder": str(folder.resolve())})
        theirs = {
            frozenset((Path(a).name, Path(b).name)) for group in found["sets"] for a in group for b in group if a < b
        }
        row["cleanvision"] = score(theirs, wanted) | {"s": round(found["s"], 1)}
    return row


def score(pairs: set[frozenset[str]], wanted: dict[frozenset[str], str]) -> dict[str, object]:
    """Return the share of the injected pairs that were found, by kind, and the other pairs as a share of all found."""
    recall = {
        kind: round(float(np.mean([pair in pairs for pair, of in wanted.items() if of == kind])), 4) for kind in KINDS
    }
    others = len(pairs - set(wanted))
    found = float(np.mean([pair in pairs for pair in wanted]))
    return {"found": round(found, 4), "by_kind": recall, "pairs": len(pairs), "other_pairs": others}


def write_copies(some: Split, folder: Path) -> dict[frozenset[str], str]:
    """Write the images and their copies, one folder per class; return the kind of each injected pair of names."""
    draw = random.Random(1)
    rows = draw.sample(range(len(some)), len(KINDS) * round(COPIES * len(some)))
    kind_of = {row: KINDS[at % len(KINDS)] for at, row in enumerate(rows)}
    wanted = {}
    for row in range(len(some)):
        place = folder / f"class{some.labels[row]}"
        place.mkdir(parents=True, exist_ok=True)
        source = Path(str(some.sources[row]))
        name = f"{row:05d}{source.suffix}"
        (place / name).write_bytes(source.read_bytes())
        if row in kind_of:
            copy = f"{row:05d}-copy.jpg"
            (place / copy).write_bytes(copied(open_rgb(source), kind_of[row], draw))
            wanted[frozenset((name, copy))] = kind_of[row]
    return wanted


def copied(image: Image.Image, kind: str, draw: random.Random) -> bytes:
    quality, (width, height) = 90, image.size
    if kind == "encoded":
        quality = draw.randint(40, 75)
    elif kind == "resized":
        share = draw.uniform(0.5, 0.8)
        image = image.resize((max(8, round(share * width)), max(8, round(share * height))), Image.Resampling.BICUBIC)
    elif kind == "mirrored":
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    else:
        across, down = (round(draw.uniform(0.8, 0.95) * side) for side in (width, height))
        left, top = draw.randint(0, width - across), draw.randint(0, height - down)
        image = image.crop((left, top, left + across, top + down))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def measure_labels(
    some: Split, images: object, teacher: ImagesConfig, arguments: argparse.Namespace
) -> dict[str, object]:
    holder = CheckedImages.of(images)
    none = some.subset([])
    alone = CheckedImages(
        type(images)(images.name, images.classes, some, none, none, ""), some, np.zeros(len(some), np.int8)
    )
    features = run_features(alone.as_training_set(), teacher, torch.device("cpu")).train.astype(np.float32)
    classes = len(holder.classes)
    clean = heldout_probabilities(features, some.labels, classes)
    draw = np.random.default_rng(2)
    flipped = draw.choice(len(some), round(FLIPS * len(some)), replace=False)
    labels = some.labels.copy()
    labels[flipped] = (labels[flipped] + draw.integers(1, classes, len(flipped))) % classes
    probabilities = heldout_probabilities(features, labels, classes)
    row: dict[str, object] = {
        "images": len(some),
        "accuracy": round(float((clean.argmax(axis=1) == some.labels).mean()), 4),
        "check": precision(-np.nan_to_num(doubt_scores(probabilities, labels), nan=-np.inf), flipped),
    }
    if arguments.peers:
        file = arguments.work / "probabilities.npz"
        np.savez(file, labels=labels, probabilities=probabilities)
        scores = peer(arguments, {"what": "labels", "file": str(file.resolve())})
        row |= {f"cleanlab {name}": precision(np.array(values), flipped) for name, values in scores.items()}
    return row


def precision(quality: np.ndarray, flipped: Sequence[int]) -> float:
    """Return the share of replaced labels among as many images with the lowest quality."""
    first = np.argsort(quality, kind="stable")[: len(flipped)]
    return round(float(np.isin(first, flipped).mean()), 4)


def peer(arguments: argparse.Namespace, job: dict[str, str]) -> dict[str, object]:
    """Run cleanlab or CleanVision in its own Python."""
    file = arguments.work / "job.json"
    file.write_text(json.dumps(job))
    environment = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(arguments.peers), "-c", PEERS, str(file)], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    found: dict[str, object] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
