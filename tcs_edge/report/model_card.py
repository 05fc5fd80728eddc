"""Write README.md of a run: the model card, with front matter for model hubs."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tcs_edge.report.confidence import REFERENCE, confidence_lines, loss_lines
from tcs_edge.report.metrics import empty_classes_note, lowest_recall, percent
from tcs_edge.report.text import markdown_name, markdown_text, one_line
from tcs_edge.runs.device_file import shown_device_file
from tcs_edge.runs.licenses import SPDX, License, licenses_of, student_license
from tcs_edge.runs.schema import AccuracyRecord, Manifest

SHOWN_CLASSES = 100
OTHER = "other"  # the hubs' value for a license that is not in their list


def model_card(manifest: Manifest) -> str:
    """Return the model card as Markdown; special characters in names are escaped."""
    sections = (
        _front_matter(manifest), _title(manifest), _results(manifest), _use(manifest), _data(manifest),
        _limits(manifest), _licenses(manifest), _origin(manifest),
    )  # fmt: skip
    return "\n".join("\n".join(section) + "\n" for section in sections)


def _front_matter(manifest: Manifest) -> Iterator[str]:
    student = manifest.student
    license = student_license(manifest)
    yield "---"
    yield f"license: {license if license in SPDX else OTHER}"
    if license not in SPDX:
        yield "license_name: see-section-licenses"  # the hub takes small letters and hyphens alone
    yield "pipeline_tag: image-classification"
    yield "library_name: onnx"
    yield f"datasets: [{_yaml(manifest.dataset.name)}]"
    yield "metrics: [accuracy]"
    tags = ("tcs-edge", "image-classification", "distillation", "edge", "onnx", "openvino", student.name)
    yield f"tags: [{', '.join(_yaml(tag) for tag in tags)}]"
    yield from _model_index(manifest)
    yield "---"


def _model_index(manifest: Manifest) -> Iterator[str]:
    """Yield the results of the exports in the hubs' format, without the trained network."""
    yield "model-index:"
    yield f"- name: {_yaml(manifest.student.name)}"
    yield "  results:"
    name = _yaml(manifest.dataset.name)
    for runtime, accuracy in _exported(manifest):
        metric = _yaml(f"accuracy, {runtime}")
        yield "  - task: {type: image-classification}"
        yield f"    dataset: {{name: {name}, type: {name}, split: test}}"
        yield f"    metrics: [{{type: accuracy, name: {metric}, value: {accuracy.value:.4f}}}]"


def _yaml(text: str) -> str:
    """Quote a YAML string; every JSON string is also a YAML string."""
    return json.dumps(one_line(text), ensure_ascii=False)


def _title(manifest: Manifest) -> Iterator[str]:
    target = markdown_text(str(manifest.target.get("title", "this device")))
    yield f"# {markdown_text(manifest.student.name)} for {target}"
    yield ""
    if manifest.verdict != "pass":
        yield "**Not deployable: the exported files failed validation. See `reports/validation.json`.**"
        yield ""
    yield (
        f"An image classifier with {len(manifest.dataset.classes)} classes, {manifest.student.params_m:.2f} million "
        f"parameters and {manifest.student.img_size} px input, distilled and exported by "
        f"tcs-edge {manifest.versions['tcs-edge']} on {manifest.created.date().isoformat()}."
    )
    if device := shown_device_file(manifest):
        yield ""
        yield f"File for the device: {markdown_name(device.name)} ({device.facts})."


def _results(manifest: Manifest) -> Iterator[str]:
    yield "## Results"
    yield ""
    yield f"Measured on {manifest.dataset.counts.get('test', 0)} test images that were used for nothing else."
    if copies := manifest.dataset.test_copies:
        yield f"Test images with a copy in train: {copies}. The accuracy is too optimistic by them."
    yield ""
    if trained := manifest.metrics.get(REFERENCE):
        yield f"Chance accuracy of these predictions: {100 * trained.chance:.1f} %."
    if manifest.teacher and manifest.teacher.probe_accuracy is not None:
        yield f"Validation accuracy of a linear probe on the teacher: {100 * manifest.teacher.probe_accuracy:.1f} %."
    yield ""
    yield "| runtime | accuracy | 95 % interval | largest logit difference from the trained network |"
    yield "|---|---|---|---|"
    for runtime, accuracy in manifest.accuracy.items():
        parity = manifest.parity.get(runtime)
        difference = "(the trained network)" if parity is None else _relative(parity.max_rel_diff)
        interval = f"{100 * accuracy.low:.1f} to {100 * accuracy.high:.1f} %"
        here = " (this machine, not judged)" if runtime in manifest.only_here else ""
        yield f"| {markdown_text(runtime)}{here} | {100 * accuracy.value:.2f} % | {interval} | {difference} |"
    if embedding := manifest.student.embedding:
        differences = [parity.embedding.max_rel_diff for parity in manifest.parity.values() if parity.embedding]
        worst = max((value for value in differences if value is not None), default=None)
        yield ""
        yield (
            f"The second output, `embedding`, has {embedding.size} values ({embedding.space}). "
            f"Largest difference from the trained network: {_relative(worst)}."
        )
    if manifest.metrics:
        yield ""
        yield from _metrics(manifest)
    if latency := manifest.student.latency:
        used = f" in {markdown_text(latency.runtime)} ({latency.precision})" if latency.runtime else ""
        yield ""
        yield (
            f"Latency of one image on the target{used}: {latency.p50_ms:.3g} ms ({latency.low_ms:.3g} to "
            f"{latency.high_ms:.3g} ms), {latency.threads} threads, {markdown_text(latency.origin)}."
        )
    if lines := [*confidence_lines(manifest), *loss_lines(manifest)]:
        yield ""
        yield from (f"- {line}" for line in lines)


def _metrics(manifest: Manifest) -> Iterator[str]:
    classes = manifest.dataset.classes
    yield "| runtime | balanced accuracy | macro F1 | lowest recall (95 % interval) | class | calibration error |"
    yield "|---|---|---|---|---|---|"
    for runtime, found in manifest.metrics.items():
        lowest = lowest_recall(found, classes)
        interval = f"{percent(lowest.value)} ({100 * lowest.low:.1f} to {100 * lowest.high:.1f})"
        means = f"{percent(found.balanced_accuracy)} | {percent(found.macro_f1)}"
        yield (
            f"| {markdown_text(runtime)} | {means} | {interval} | {markdown_name(lowest.name)} | {percent(found.ece)} |"
        )
    found = next(iter(manifest.metrics.values()))
    yield ""
    yield f"Calibration error: {found.bins} bins of equal width. Few images inflate it."
    if note := empty_classes_note(found, classes):
        yield f"{markdown_text(note)}."


def _relative(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.1e} of the largest logit"


def _use(manifest: Manifest) -> Iterator[str]:
    side, classes = manifest.student.img_size, len(manifest.dataset.classes)
    yield "## Use"
    yield ""
    yield (
        f"Input: `image`, float32 (1, 3, {side}, {side}), preprocessed as described in `preprocess.json`. "
        f"Output: `logits`, float32 (1, {classes}), in the order of `labels.txt`. "
        "`tcs-edge bundle` writes a folder for the device with a script for both."
    )
    yield ""
    shown = ", ".join(markdown_name(name) for name in manifest.dataset.classes[:SHOWN_CLASSES])
    more = f" and {classes - SHOWN_CLASSES} more" if classes > SHOWN_CLASSES else ""
    yield f"Classes: {shown}{more}."


def _data(manifest: Manifest) -> Iterator[str]:
    counts = ", ".join(f"{count} {part}" for part, count in manifest.dataset.counts.items())
    yield "## Data"
    yield ""
    yield f"{markdown_text(manifest.dataset.name)}: {counts} images. Their sha256:"
    yield f"`{manifest.dataset.fingerprint}`."


def _limits(manifest: Manifest) -> Iterator[str]:
    yield "## Limits"
    yield ""
    yield "- Every image gets one of the classes above, even if it shows none of them. The threshold for unknown images"
    yield "  finds only a part of those."
    yield "- Measured on one data set. The accuracy may be lower for another camera, place or season."
    yield "- Probabilities are a softmax without calibration."
    if manifest.student.latency and manifest.student.latency.source != "measured":
        yield "- The latency was not measured on the device. Run `selfcheck.py` of a bundle there to measure it."


def _licenses(manifest: Manifest) -> Iterator[str]:
    yield "## Licenses"
    yield ""
    for license in licenses_of(manifest):
        yield f"- {_license_line(license)}"
    yield ""
    yield "You choose the license of the trained weights within these terms. Some teachers forbid commercial use."


def _license_line(license: License) -> str:
    remark = f" ({markdown_text(license.remark)})" if license.remark else ""
    return f"{markdown_text(license.of)}: {markdown_text(license.name)}{remark}"


def _origin(manifest: Manifest) -> Iterator[str]:
    yield "## Origin"
    yield ""
    if manifest.teacher:
        teacher = manifest.teacher
        yield f"Teacher: {markdown_text(teacher.name)}, weights sha256 `{teacher.weights_sha256}`."
        yield ""
    yield "Method: TCS, [arXiv 2412.09388](https://arxiv.org/abs/2412.09388). `manifest.json` has the sha256 of every"
    yield "file, `bom.cdx.json` (CycloneDX) all inputs."


def _exported(manifest: Manifest) -> Iterator[tuple[str, AccuracyRecord]]:
    judged = manifest.parity.keys() - manifest.only_here
    return ((name, accuracy) for name, accuracy in manifest.accuracy.items() if name in judged)
