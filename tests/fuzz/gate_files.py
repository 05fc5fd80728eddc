"""Harnesses of the gate: manifests, baselines, self-checks, ONNX and OpenVINO files.

Whatever the gate reads, its table, its reports and its JSON must be well-formed and free of control characters.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import shutil
import zlib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from mutate import SPLIT
from readers import Read, Reader

from tcs_edge.validation.statistics import wilson_interval

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "ci"
CONTROL = {*map(chr, range(32)), *map(chr, range(127, 160)), *"\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066"} - {
    "\n"
}
LIMITS = {
    "max_total_mb": 1e6, "max_size_mb": 1e6, "max_params_m": 1e6, "max_latency_ms": 1e6, "max_peak_memory_mb": 1e6,
    "min_accuracy": {"fail": 0.1, "warn": 0.9}, "min_class_recall": 0.1, "max_ece": 0.5, "max_rel_diff": 0.1,
}  # fmt: skip
CHANGES = {"change": {"size_mb": "5 %", "accuracy": 0.01, "latency_ms": {"warn": 0.1}, "params_m": 1}}
REPORTED = 4  # one in so many results is formatted as every report, which takes longest


class Unclean(AssertionError):
    """An output of the gate is malformed."""


def _checked(limits: dict[str, Any], model: Path, **more: Any) -> Any:
    """Judge a model, format every report, and check them."""
    from tcs_edge.gate.check import check_model
    from tcs_edge.gate.limits import GateLimits

    result = check_model(model, GateLimits.model_validate(limits), **more)
    document = json.loads(json.dumps(result.to_json(), allow_nan=False))
    if document["verdict"] != "fail" and any(check["outcome"] == "fail" for check in document["checks"]):
        raise Unclean("a failed check in a model that passes")
    if zlib.crc32(json.dumps(document).encode()) % REPORTED == 0:
        with contextlib.redirect_stdout(io.StringIO()) as shown:
            from tcs_edge.report.gate import print_gate

            print_gate(result)
        _require_clean(result, shown.getvalue())
    return result


def _require_clean(result: Any, shown: str) -> None:
    from tcs_edge.report.annotations import github_lines, gitlab_report
    from tcs_edge.report.junit import gate_junit
    from tcs_edge.report.markdown import gate_markdown

    lines = github_lines(result, "a:b,c")
    for text in (shown, gate_markdown(result), *lines):
        if set(text) & CONTROL:
            raise Unclean(f"control characters: {sorted(set(text) & CONTROL)}")
        text.encode()
    if any("\n" in line for line in lines):
        raise Unclean("a GitHub command of several lines")
    ElementTree.fromstring(gate_junit(result))
    json.loads(gitlab_report(result, "a"))


def _manifest(folder: Path) -> Read:
    from tcs_edge.report.model_card import model_card
    from tcs_edge.runs.bom import bom_text, build_bom
    from tcs_edge.runs.device_file import shown_device_file
    from tcs_edge.runs.manifest import read_manifest

    path = folder / "manifest.json"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        _checked(LIMITS, path)
        manifest = read_manifest(folder)
        shown_device_file(manifest)
        model_card(manifest)
        bom_text(build_bom(manifest, (), {}))

    return read


def _run(folder: Path) -> Read:
    """Marker and manifest of a run folder with two exported files."""
    run = folder / "run"
    (run / "export").mkdir(parents=True)
    (run / "export" / "model.onnx").write_bytes(b"w" * 100)

    def read(content: bytes) -> None:
        first, _, second = content.partition(SPLIT)
        (run / "manifest.json").write_bytes(first)
        (run / "tcs-edge-run.json").write_bytes(second)
        _checked(LIMITS, run)

    return read


def _baseline(folder: Path) -> Read:
    model = shutil.copy(EXAMPLE / "model" / "manifest.json", folder / "manifest.json")
    path = folder / "gate.json"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        _checked(LIMITS | CHANGES | {"baseline": str(path)}, Path(model), allow_other_target=True)

    return read


def _selfcheck(folder: Path) -> Read:
    model = Path(shutil.copy(EXAMPLE / "model" / "manifest.json", folder / "manifest.json"))
    path = folder / "selfcheck.json"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        _checked(LIMITS, model, selfcheck=path)

    return read


def _onnx(folder: Path) -> Read:
    import onnx

    path = folder / "model.onnx"

    def read(content: bytes) -> None:
        first, _, second = content.partition(SPLIT)
        path.write_bytes(first)
        (folder / "data.bin").write_bytes(second)
        result = _checked({key: LIMITS[key] for key in ("max_size_mb", "max_params_m", "max_peak_memory_mb")}, path)
        counted = next(check.value for check in result.checks if check.key == "params_m")
        if counted is not None:
            stored = sum(_elements(onnx.load(path, load_external_data=False)))
            if stored > 1e6 * counted + 1e-3:
                raise Unclean("more stored elements than counted")

    return read


def _elements(message: Any) -> Any:
    """Yield the elements of every tensor in a message, by a walk over all fields."""
    # Without whole numbers of 64 bits, switches and texts, which count if they are many.
    if message.DESCRIPTOR.name == "TensorProto" and message.data_type not in (7, 8, 9, 13):
        yield math.prod(message.dims)
    for field, value in message.ListFields():
        if field.message_type is not None:
            for one in value if field.is_repeated else [value]:
                yield from _elements(one)


def _openvino(folder: Path) -> Read:
    path = folder / "model.xml"

    def read(content: bytes) -> None:
        first, _, second = content.partition(SPLIT)
        path.write_bytes(first)
        (folder / "model.bin").write_bytes(second)
        _checked({key: LIMITS[key] for key in ("max_size_mb", "max_params_m")}, path)

    return read


def manifests(_: Path) -> list[bytes]:
    """Return the example's manifest, also with metrics and calibration."""
    plain = json.loads((EXAMPLE / "model" / "manifest.json").read_bytes())
    small = json.loads(json.dumps(plain))
    small["files"], small["dataset"]["classes"] = small["files"][:4], ["a", "b"]
    small.setdefault("metrics", {})
    correct, total = [40, 50], [50, 50]
    share = [0.8, 1.0]
    lows, highs = zip(*(wilson_interval(one, 50) for one in correct), strict=True)
    recalls = {
        "correct": correct,
        "total": total,
        "predicted": [40, 60],
        "value": share,
        "low": lows,
        "high": highs,
    }
    f1 = (2 * 40 / 90 + 2 * 50 / 110) / 2
    for name in list(small["accuracy"]):
        small["accuracy"][name] = _counted("correct", 90)
        small["metrics"][name] = {"balanced_accuracy": 0.9, "macro_f1": f1, "ece": 0.1, "bins": 15, "recalls": recalls}
    alarm = _counted("count", 5)
    rule = {"below": 0.5, "false_alarm_rate": 0.05, "images": 100}
    small["confidence"] = {
        "temperature": 1.2,
        "unknown": rule,
        "ece_before": 0.2,
        "false_alarms": {"onnxruntime": alarm},
    }
    return [json.dumps(small).encode(), json.dumps(plain).encode()]


def _counted(name: str, count: int) -> dict[str, float]:
    low, high = wilson_interval(count, 100)
    return {name: count, "total": 100, "value": count / 100, "low": low, "high": high}


def _runs(folder: Path) -> list[bytes]:
    import hashlib

    marker = b'{"schema_version": 1, "kind": "tcs-edge run", "started_in": ".."}'
    document = json.loads(manifests(folder)[0])
    record = {"path": "export/model.onnx", "bytes": 100, "sha256": hashlib.sha256(b"w" * 100).hexdigest()}
    document["files"] = [record]
    return [json.dumps(document).encode() + SPLIT + marker]


def _selfchecks(_: Path) -> list[bytes]:
    row = {
        "model": "a", "img_size": 32, "batch": 1, "runtime": "onnxruntime", "runtime_version": "1.22.0", "threads": 4,
        "precision": "fp32", "arithmetic": "f32", "p50_ms": 3.0, "p90_ms": 3.5, "p99_ms": 4.0, "low_ms": 2.9,
        "high_ms": 3.2, "runs": 500, "process_peak_memory_mb": 80.0, "source": "measured",
    }  # fmt: skip
    document = {
        "schema_version": 1, "kind": "tcs-edge selfcheck", "verdict": "pass", "measured": "2026-03-02",
        "target": "raspberrypi", "model_sha256": [], "machine": {"device": "Pi", "architecture": "aarch64"},
        "checks": [{"name": "files", "passed": True, "detail": ""}], "rows": [row],
    }  # fmt: skip
    return [json.dumps(document).encode()]


def _baselines(folder: Path) -> list[bytes]:
    return [(EXAMPLE / "gate.json").read_bytes(), manifests(folder)[0]]


def _graphs(_: Path) -> list[bytes]:
    from onnx_seeds import graphs

    return graphs()


def _irs(_: Path) -> list[bytes]:
    data = '<data element_type="{}" shape="{}" offset="{}" size="{}"/>'
    one = f'<layer id="0" name="w" type="Const" version="opset1">{data.format("f32", "2, 2", 0, 16)}</layer>'
    four = f'<layer id="1" name="q" type="Const">{data.format("u4", "3", 64, 2)}</layer>'
    body = f'<layer id="2" type="If"><body><layers>{one}</layers></body></layer>'
    texts = (
        f'<?xml version="1.0"?><net name="m" version="11"><layers>{one}{four}</layers><edges/><rt_info/></net>',
        f"<net><layers>{one}{body}</layers></net>",
        f'<net><layers><layer type="Const">{data.format("string", "1", 0, 9)}</layer></layers></net>',
    )
    return [text.encode() + SPLIT + bytes(66) for text in texts]


READERS = (
    Reader("manifest", "json", manifests, _manifest, share=4),
    Reader("run", "json", _runs, _run, share=3),
    Reader("baseline", "json", _baselines, _baseline, share=2),
    Reader("selfcheck", "json", _selfchecks, _selfcheck, share=3),
    Reader("onnx", "protobuf", _graphs, _onnx, share=4),
    Reader("openvino", "xml", _irs, _openvino, share=4),
)
