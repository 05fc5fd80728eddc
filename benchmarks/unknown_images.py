"""Measure the confidence of finished runs: calibration, and images of classes that the student never saw.

Train runs with `compress --exclude CLASS`, then name the classes here. Every image of them, in any split, is unknown:

    python benchmarks/unknown_images.py runs/clothes --unknown skirt --unknown t-shirt --out unknown.json

The known images are the test images of the run. Each score is the one below which an image would count as unknown.
AUROC is the probability that a known image has the higher score. The threshold is the run's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from scipy.special import logsumexp, softmax
from scipy.stats import mannwhitneyu

from tcs_edge.data.decode import open_rgb
from tcs_edge.data.loader import image_batches
from tcs_edge.runs.load import images_of, preprocess_of, trained_model, validated_run
from tcs_edge.runtimes.torch import TorchRunner
from tcs_edge.specs.artifacts import CONFIDENCE_FILE
from tcs_edge.specs.confidence import read_confidence
from tcs_edge.utils.files import write_json
from tcs_edge.validation.metrics import expected_calibration_error
from tcs_edge.validation.statistics import wilson_interval


def scores_of(logits: np.ndarray) -> dict[str, np.ndarray]:
    """Return candidates for the score of an image, each float (N,), high for a known image."""
    probabilities = softmax(logits, axis=1)
    two = np.sort(logits, axis=1)[:, -2:]
    return {
        "largest probability": probabilities.max(axis=1),
        "largest logit": logits.max(axis=1),
        "logsumexp (energy)": logsumexp(logits, axis=1),
        "negative entropy": (probabilities * np.log(probabilities + 1e-12)).sum(axis=1),
        "margin of logits": two[:, 1] - two[:, 0],
    }


def auroc(known: np.ndarray, unknown: np.ndarray) -> float:
    """Return the probability that a known image has a higher score than an unknown one; ties count half."""
    return float(mannwhitneyu(known, unknown).statistic / (len(known) * len(unknown)))


def share(count: int, total: int) -> dict[str, Any]:
    low, high = wilson_interval(count, total)
    return {"count": count, "total": total, "value": count / total, "low": low, "high": high}


def measure(run: Path, unknown: list[str]) -> dict[str, Any]:
    """Measure one run against the images in the folders `unknown` of its image folder."""
    folder, manifest = validated_run(run)
    data = Path(manifest.options["data"])
    images, preprocess = images_of(run, manifest, None), preprocess_of(folder)
    runner = TorchRunner(trained_model(run))
    parts = [(runner.run(pixels), labels) for pixels, labels in image_batches(images.test, preprocess, 64)]
    logits, labels = (np.concatenate(part).astype(np.float64) for part in zip(*parts, strict=True))
    paths = sorted(path for name in unknown for path in data.rglob(f"{name}/*") if path.is_file())
    strange = np.concatenate([runner.run(preprocess(open_rgb(path))[None]) for path in paths]).astype(np.float64)
    confidence = read_confidence(folder.export / CONFIDENCE_FILE)
    known_scores, strange_scores = scores_of(logits), scores_of(strange)
    document: dict[str, Any] = {
        "schema_version": 1,
        "images": manifest.dataset.name,
        "unknown_classes": unknown,
        "validation_images": len(images.val),
        "known_images": len(logits),
        "unknown_images": len(strange),
        "accuracy": float((logits.argmax(axis=1) == labels).mean()),
        "temperature": confidence.temperature,
        "ece_before": expected_calibration_error(logits * confidence.temperature, labels.astype(int)),
        "ece_after": expected_calibration_error(logits, labels.astype(int)),
        "auroc": {name: auroc(known, strange_scores[name]) for name, known in known_scores.items()},
    }
    if confidence.unknown:
        below = {name: scores["largest probability"] < confidence.unknown.below for name, scores in
                 (("known", known_scores), ("unknown", strange_scores))}  # fmt: skip
        document |= {
            "promised_false_alarm_rate": confidence.unknown.false_alarm_rate,
            "threshold": confidence.unknown.below,
            "false_alarms": share(int(below["known"].sum()), len(logits)),
            "found_unknown": share(int(below["unknown"].sum()), len(strange)),
        }
    return document


def main(
    run: Annotated[Path, typer.Argument()],
    unknown: Annotated[list[str], typer.Option(help="Name of a class folder that the run left out.")],
    out: Annotated[Path | None, typer.Option()] = None,
) -> None:
    """Print the measures of one run, and write them as JSON."""
    document = measure(run, unknown)
    for name, value in document.items():
        print(f"{name}: {value}")
    if out:
        write_json(out, document)


if __name__ == "__main__":
    typer.run(main)
