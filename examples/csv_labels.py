"""Distill from a table of labels, and keep the photos of one group in one split.

python examples/csv_labels.py photos/labels.csv --label species --group tree --target raspberrypi4

The table has one row for each image: its path relative to the table, its label, and a group, such as the tree in the
photo.
The splits are drawn, so no tree is in two of them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tcs_edge import compress


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--label", default="label", help="column of the class names")
    parser.add_argument("--group", help="column of the groups")
    parser.add_argument("--target", default="raspberrypi4")
    parser.add_argument("--config", type=Path, help="TOML file with more options of compress")
    given = parser.parse_args()

    columns = [f"label={given.label}", *([f"group={given.group}"] if given.group else [])]
    run = compress(
        given.table, target=given.target, column=columns, config=given.config, out=f"runs/{given.table.stem}"
    )
    accuracy = run.manifest.accuracy["onnxruntime"]
    print(f"{', '.join(run.manifest.dataset.classes)}: {accuracy.value:.1%} of {accuracy.total} test images")


if __name__ == "__main__":
    main()
