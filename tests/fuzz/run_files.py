"""Harnesses of the other files of a run, of a bundle and of a measurement."""

from __future__ import annotations

import hashlib
import json
import logging
import types
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
from mutate import SPLIT
from readers import Read, Reader

from tcs_edge.bundle.programs import device_module
from tcs_edge.errors import TcsEdgeError

DOCUMENTS = {
    "validation.json": {
        "images": 100, "precisions": {"onnxruntime": "f32"},
        "checks": [{"name": "outputs", "value": 0.1, "limit": 0.2, "unit": "", "passed": True, "detail": "d"}],
        "parities": {"onnxruntime": {
            "max_abs_diff": 0.1, "max_rel_diff": 0.1, "max_centered_diff": None, "top1_agreement": 1.0, "finite": True,
            "flips": [{"index": 0, "reference_class": 0, "model_class": 1, "margin": 0.1, "image": "a.jpg"}],
        }},
    },
    "latency.json": {"calls_ms": {"pytorch": [1.0, 2.0], "onnxruntime": [1.0]}},
    "choice.json": {
        "target": "raspberrypi", "named": False, "ranking": "r", "img_size": 32, "limits": {"max_latency_ms": 3.0},
        "candidates": [
            {"name": "a", "chosen": True, "params_m": 1.0, "size_mb": 2.0, "on_pareto_front": True, "latency": {
                "p50_ms": 1.0, "low_ms": 0.9, "high_ms": 1.1, "threads": 1, "source": "estimated", "citation": "c"},
             "expected_accuracy": {"percent": 90.0, "search": "table", "how": "h"}, "exported": {
                 "fp32": {"bytes": 10, "source": "measured"}}},
            {"name": "b", "chosen": False, "params_m": 1.0, "size_mb": 2.0, "reasons": ["too slow"], "top1": 70.0},
        ],
    },
    "coordinates.json": {"dims": 2, "eigenvalues": [2.0, 1.0, 0.5], "ablation": "none"},
    "selection.json": {"rounds": [{"step": 1, "removed": [0], "scores": [0.1, 0.2]}]},
    "predictions.json": {"names": ["a.jpg"], "labels": [0], "predicted": [1], "confidences": [0.7]},
    "int8.json": {
        "outlook": "o", "calibration_images": 3, "validation_images": 3, "max_accuracy_drop": 0.01,
        "layers": [{"name": "l", "kind": "Conv", "noise": 0.1}],
        "formats": [{"format": "onnx", "released": True, "schemes": {"a": 0.1}, "rounds": [
            {"float_layers": [], "accuracy": 0.9, "drop": 0.0, "drop_high": 0.01, "sqnr_db": 30.0, "failures": []}]}],
    },
}  # fmt: skip
EPOCHS = b'{"epoch": 1, "loss": 1.0, "val_accuracy": 0.5}\n{"epoch": 2, "loss": 0.5, "val_accuracy": 0.6}\n'


def _report(folder: Path) -> Read:
    """All documents of a run, shown as a page."""
    from gate_files import manifests

    from tcs_edge.report.page.run import run_page

    run = folder / "run"
    for name in ("reports", "export"):
        (run / name).mkdir(parents=True)
    (run / "tcs-edge-run.json").write_bytes(b'{"schema_version": 1, "kind": "tcs-edge run"}')
    manifest = json.loads(manifests(folder)[0])
    manifest["files"] = []
    (run / "manifest.json").write_text(json.dumps(manifest))

    def read(content: bytes) -> None:
        epochs, *documents = content.split(SPLIT)
        (run / "metrics.jsonl").write_bytes(epochs)
        for name, document in zip(DOCUMENTS, documents, strict=False):
            (run / "reports" / name).write_bytes(document)
        run_page(run)

    return read


def _documents(_: Path) -> list[bytes]:
    written = [json.dumps({"schema_version": 1, **document}).encode() for document in DOCUMENTS.values()]
    return [SPLIT.join([EPOCHS, *written])]


def _metadata(folder: Path) -> Read:
    """Files beside an exported model: preprocess.json, confidence.json, labels.txt; and the same text in metadata."""
    from tcs_edge.data.preprocess import Preprocess
    from tcs_edge.export.preprocess import read_labels
    from tcs_edge.runtimes.base import stored_labels
    from tcs_edge.specs.confidence import read_confidence
    from tcs_edge.utils.reading import read_json

    def readers():
        yield lambda: Preprocess.from_json(read_json(folder / "preprocess.json", schema_version=1)).describe()
        yield lambda: read_confidence(folder / "confidence.json")
        yield lambda: read_labels(folder / "labels.txt")
        yield lambda: stored_labels((folder / "names.json").read_text("utf-8", "surrogateescape"), 2, "model.onnx")

    names = ("preprocess.json", "confidence.json", "labels.txt", "names.json")

    def read(content: bytes) -> None:
        for name, part in zip(names, content.split(SPLIT), strict=False):
            (folder / name).write_bytes(part)
        each(readers())

    return read


def each(readers) -> None:
    """Call every reader, also after an expected error; raise the first of these at the end."""
    from tcs_edge.errors import TcsEdgeError

    first = None
    for read in readers:
        try:
            read()
        except TcsEdgeError as error:
            first = first or error
    if first is not None:
        raise first


def _sidecars(_: Path) -> list[bytes]:
    from tcs_edge.data.preprocess import Preprocess
    from tcs_edge.specs.confidence import Confidence, UnknownRule

    rule = UnknownRule(below=0.5, false_alarm_rate=0.05, images=100)
    documents = (Preprocess(32).to_json(), Confidence(temperature=1.5, unknown=rule).to_json())
    return [SPLIT.join([*(json.dumps(one).encode() for one in documents), b"cat\ndog\n", b'["cat", "dog"]'])]


def _names(folder: Path) -> Read:
    """Names of class folders and of images, on every screen."""
    from tcs_edge.data.class_names import class_name_of, look, lookalikes
    from tcs_edge.data.listing import is_clutter
    from tcs_edge.report.text import markdown_name, one_line

    def read(content: bytes) -> None:
        name = content[:255].decode("utf-8", "surrogateescape")  # the longest name of a file system
        for shown in (one_line(name), markdown_name(name)):
            if any(char in shown for char in "\x1b\x07\r\n\x9b\u202e\u2028"):
                raise AssertionError(f"not escaped: {shown!r}")
            shown.encode()
        is_clutter(name)
        lookalikes([name, look(name)])
        class_name_of(folder / (name.replace("/", "") or "a"))

    return read


def _device_script(name: str) -> types.ModuleType:
    import tcs_edge.bundle

    source = Path(tcs_edge.bundle.__file__).parent / "device_files" / name
    spec = spec_from_file_location(source.stem, source)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _bundle(folder: Path) -> Read:
    """SHA256SUMS and bundle.json of a bundle; the self-check turns every exception behind the hashes into a failure."""
    selfcheck = _device_script("selfcheck.py")
    selfcheck.HERE = folder

    def read(content: bytes) -> None:
        sums, _, about = content.partition(SPLIT)
        (folder / "bundle.json").write_bytes(about)
        (folder / "SHA256SUMS").write_bytes(sums)
        checked = selfcheck.check_files(folder, folder / "selfcheck.json")
        if "\n" in checked["detail"]:
            raise AssertionError(checked["detail"])
        document = selfcheck.examine(folder, 1, 0.0, folder / "selfcheck.json")
        json.dumps(document, allow_nan=False)
        if document["verdict"] == "pass":
            raise AssertionError("a bundle without a model passes")

    return read


def _sums(_: Path) -> list[bytes]:
    about = b'{"model_sha256": [], "model": "model.onnx", "target": "raspberrypi"}'
    line = f"{hashlib.sha256(about).hexdigest()}  bundle.json\n".encode()
    return [line + SPLIT + about, line + b"0" * 64 + b"  model.onnx\n" + SPLIT + about]


def _measured(folder: Path) -> Read:
    """The state of an interrupted measurement; the device's script has errors of its own."""
    from tcs_edge.errors import UsageError
    from tcs_edge.profiling.device.rounds import Plan
    from tcs_edge.profiling.device.session import OtherMeasurement, load_state

    def read(content: bytes) -> None:
        (folder / "measured.json").write_bytes(content)
        try:
            state = load_state(folder, {"plan": 1, "machine": "m"})
            if len(state.rounds("a")) >= Plan().rounds:
                state.objection("a", Plan())
        except OtherMeasurement as error:
            raise UsageError(str(error)) from None

    return read


def _intake(folder: Path) -> Read:
    """The store of checked images; a damaged one is replaced, so nothing is an error."""
    from tcs_edge.data.intake import FILE, intake_bytes, open_intake

    def read(content: bytes) -> None:
        (folder / FILE).write_bytes(content)
        intake_bytes(folder)
        with open_intake(folder) as intake:
            for entry in intake.entries("/photos", ["a.jpg", "b.jpg"]).values():
                if len(entry.facts.content) != 32:
                    raise AssertionError(entry)

    return read


def _stores(folder: Path) -> list[bytes]:
    from tcs_edge.data.intake import FILE, Entry, Facts, Stamp, open_intake

    place = folder / "seed"
    place.mkdir()
    entry = Entry(Stamp(9, 10, 11), 12, Facts(bytes(32), 3, 4, None, False, bytes(48)))
    with open_intake(place) as intake:
        intake.add([("/photos", name, entry) for name in ("a.jpg", "b.jpg")])
    return [(place / FILE).read_bytes()]


def _states(_: Path) -> list[bytes]:
    from dataclasses import asdict

    from tcs_edge.profiling.device.rounds import State

    state = asdict(State()) | {"peak_memory_mb": {"a": 1.0}, "restarts": {"a": 1}}
    return [json.dumps({"schema_version": 1, "begun": {"plan": 1, "machine": "m"}, "state": state}).encode()]


logging.getLogger("tcs_edge").setLevel(logging.CRITICAL)


def _added(folder: Path) -> Read:
    """An index, or a file of added classes; their programs turn ValueError and OSError into one line."""
    indexes, classes = (device_module(name) for name in ("edge_index", "edge_classes"))
    known = classes.Known(np.eye(2, 4, dtype=np.float32), np.eye(4, dtype=np.float32))
    own = classes.AddedClasses(known, ["x", "y"], ["a" * 64])

    def read(content: bytes) -> None:
        path = folder / "added"
        path.write_bytes(content)
        try:
            if content[:1] == b"P":
                indexes.read_index(path).nearest(np.ones(4, dtype=np.float32), 2)
            else:
                classes.read_classes(path, own).find(np.ones(4, dtype=np.float32))
        except (ValueError, OSError) as error:
            if "\n" in str(error):
                raise AssertionError(str(error)) from error
            raise TcsEdgeError(str(error)) from error

    return read


def _added_seeds(folder: Path) -> list[bytes]:
    indexes, classes = (device_module(name) for name in ("edge_index", "edge_classes"))
    indexes.write_index(folder / "seed", ["a", "b"], np.eye(2, 4, dtype=np.float32), ["a" * 64])
    index = (folder / "seed").read_bytes()
    known = classes.Known(np.eye(2, 4, dtype=np.float32), np.eye(4, dtype=np.float32))
    grown, _ = classes.AddedClasses(known, ["x", "y"], ["a" * 64]).add("z", np.ones((5, 4), dtype=np.float32))
    classes.write_classes(folder / "seed", grown)
    return [index, (folder / "seed").read_bytes()]


READERS = (
    Reader("report", "json", _documents, _report, share=0.6),
    Reader("metadata", "json", _sidecars, _metadata, share=4),
    Reader("names", "bytes", lambda _: ["Straße".encode(), "🐶 كلب".encode(), b"a b"], _names, share=8),
    Reader("bundle", "bytes", _sums, _bundle, share=2),
    Reader("added", "json", _added_seeds, _added, share=2),
    Reader("intake", "bytes", _stores, _intake, share=1),
    Reader("measured", "json", _states, _measured, share=3),
)
