"""Distill from a few labeled images per class, and print the test accuracy.

python examples/few_shot.py PHOTOS --shots 5 --target raspberrypi4

PHOTOS has train/, val/ and test/ with one folder per class in each. val/ and test/ are used unchanged.
"""

from __future__ import annotations

import argparse
import random
import shutil
from pathlib import Path

from tcs_edge import compress


def draw(photos: Path, few: Path, shots: int, seed: int) -> None:
    """Copy `shots` random training images of every class to `few`, and link val/ and test/ beside them."""
    chance = random.Random(seed)
    for folder in sorted((photos / "train").iterdir()):
        images = sorted(folder.iterdir())
        (few / "train" / folder.name).mkdir(parents=True)
        for image in chance.sample(images, shots):
            shutil.copy(image, few / "train" / folder.name)
    for part in ("val", "test"):
        (few / part).symlink_to((photos / part).resolve())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--shots", type=int, default=5, help="training images per class")
    parser.add_argument("--target", default="raspberrypi4")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw and of the training")
    parser.add_argument("--config", type=Path, help="TOML file with more options of compress")
    given = parser.parse_args()

    few = Path("few-shot") / f"{given.shots}-shots-seed{given.seed}"
    draw(given.photos, few, given.shots, given.seed)
    run = compress(few, target=given.target, seed=given.seed, config=given.config, out=f"runs/{few.name}")
    accuracy = run.manifest.accuracy["onnxruntime"]
    interval = f"95 % interval {accuracy.low:.1%} to {accuracy.high:.1%}"
    print(f"{given.shots} images per class: {accuracy.value:.1%} of {accuracy.total} test images ({interval})")


if __name__ == "__main__":
    main()
