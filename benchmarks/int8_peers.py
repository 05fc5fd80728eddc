"""Compare int8 files of tcs-edge with onnxruntime's plain quantization and with nncf, on the same network and images.

    python benchmarks/int8_peers.py --data eurosat/ --student resnet18 --state resnet18.safetensors --out peers.json

Every way gets the same 128 calibration images. Signal to noise, classes and accuracy are measured on the same
validation images. Every layer is in int8, without a fallback. Latencies are of one thread and one image. The files of
one runtime are timed in turns. Finished rows in `--out` are kept, so a stopped comparison goes on.

The weights are those of `--state` (a state of backbone and classifier, in safetensors), or `--init` with a
linear probe on the training images as classifier. Ways:

- `onnx: tcs-edge`, `openvino: tcs-edge`: the first round of `compress --precision int8`;
- `onnx: plain`: `quantize_static(per_channel=True)` with unsigned activations, as onnxruntime advises for x86;
- `onnx: nncf`, `openvino: nncf`: `nncf.quantize` with its defaults, and its mode for transformers where it applies.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from safetensors.torch import load_file
from torch import nn

from tcs_edge.data import Preprocess, Split
from tcs_edge.data.folders import load_data
from tcs_edge.export.files import save_onnx
from tcs_edge.export.onnx import export_onnx
from tcs_edge.labels.linear_probe import fit_linear_probe
from tcs_edge.quantization.gemm import read_for_int8
from tcs_edge.quantization.ir import quantized_ir
from tcs_edge.quantization.qdq import Scheme, int8_layers, products_of_values, with_float_layers
from tcs_edge.quantization.quantize import least_noisy
from tcs_edge.quantization.sensitivity import noise_share
from tcs_edge.runtimes.base import Runner
from tcs_edge.runtimes.metadata import read_onnx_metadata, set_onnx_metadata
from tcs_edge.runtimes.onnx_file import read_onnx
from tcs_edge.runtimes.onnxruntime import OrtRunner
from tcs_edge.runtimes.openvino import OpenVinoRunner
from tcs_edge.runtimes.openvino.export import export_openvino, read_as_openvino, write_ir
from tcs_edge.students.build import build_student, deployable, feature_dim, student_mean_std
from tcs_edge.utils.files import write_json
from tcs_edge.utils.reading import read_json
from tcs_edge.utils.threads import use_threads
from tcs_edge.utils.version import __version__

SCHEMA_VERSION = 1
CALIBRATION, VALIDATION, PROBE = 128, 500, 1500
SCHEMES = tuple(Scheme(per_channel, signed_activations=False, seven_bit_weights=False) for per_channel in (True, False))
QUESTION = "Is int8 of tcs-edge as accurate and as fast as that of onnxruntime and nncf?"
BATCH, CALLS, FAST = 50, 100, 20  # FAST: percentile of the calls, because other programs only make calls slower


def main() -> int:
    arguments = parse_arguments()
    use_threads(1)
    images = load_data(arguments.data)
    mean, std = student_mean_std(arguments.student)
    preprocess = Preprocess(arguments.img_size, mean=mean, std=std)
    train, val = drawn(images.train, PROBE), drawn(images.val, VALIDATION)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        source = export_onnx(network(arguments, train, preprocess, len(images.classes)), folder / "model.onnx",
                             arguments.img_size, labels=images.classes, preprocess=preprocess.to_json())  # fmt: skip
        calibration = [pixels(train, [row], preprocess) for row in range(CALIBRATION)]
        given = pixels(val, range(len(val)), preprocess)
        compare(arguments, source, calibration, given, val.labels)
    return 0


def compare(
    arguments: argparse.Namespace, source: Path, calibration: list[np.ndarray], given: np.ndarray, labels: np.ndarray
) -> None:
    """Make and measure every file that `--out` lacks for this student, one runtime after the other."""
    transformer = any(node.op_type == "Softmax" for node in read_onnx(source).graph.node)
    ways: dict[str, dict[str, Callable[[Path], Path]]] = {
        "onnx": {
            "float32": lambda _: source,
            "tcs-edge": lambda path: ours(source, path, calibration),
            "plain": lambda path: plain(source, path, calibration),
            "nncf": lambda path: nncf_onnx(source, path, calibration, transformer),
        },
        "openvino": {
            "float32": lambda path: export_openvino(source, path)[0],
            "tcs-edge": lambda path: ir(
                source,
                path,
                quantized_ir(source, calibration, products_of_values(read_onnx(source).graph), transformer),
            ),
            "nncf": lambda path: ir(source, path, nncf_default(read_as_openvino(source), calibration, transformer)),
        },
    }
    rows: list[dict[str, Any]] = read_json(arguments.out, SCHEMA_VERSION)["rows"] if arguments.out.is_file() else []
    with OrtRunner(source) as reference:
        expected = reference.run(given)
    for runtime, makers in ways.items():
        if {(row["student"], row["runtime"]) for row in rows} >= {(arguments.student, runtime)}:
            continue
        found, runners = [], {}
        for way, make in makers.items():
            path = source.with_name(f"{way}.{'xml' if runtime == 'openvino' else 'onnx'}")
            started = time.process_time()
            made = make(path)
            seconds = time.process_time() - started
            runners[way] = OpenVinoRunner(made) if runtime == "openvino" else OrtRunner(made)
            found.append(
                {"student": arguments.student, "weights": weights_of(arguments), "runtime": runtime, "way": way}
                | scores(runners[way].run(given), expected, labels)
                | {"int8_layers": layers(made), "cpu_seconds": round(seconds, 1)}
            )
            sys.stdout.write(f"{found[-1]}\n")
            sys.stdout.flush()
        for row, latency in zip(found, latencies(list(runners.values()), given[:1]), strict=True):
            row["latency_ms"] = latency
        rows += found
        write_json(arguments.out, document(rows))


def document(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "question": QUESTION,
        "command": "python benchmarks/int8_peers.py --data DIR --student NAME --state FILE --out FILE",
        "version": __version__,
        "rows": rows,
    }


def scores(logits: np.ndarray, expected: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    share = noise_share(expected, logits)
    same = float((logits.argmax(axis=1) == expected.argmax(axis=1)).mean())
    return {
        "sqnr_db": round(-10 * float(np.log10(share)), 1) if share > 0 else None,
        "same_class_percent": round(100 * same, 1),
        "accuracy_percent": round(100 * float((logits.argmax(axis=1) == labels).mean()), 1),
    }


def latencies(runners: list[Runner], image: np.ndarray) -> list[float]:
    """Return the FAST percentile of CALLS calls of each runner in ms, one call of each in turn."""
    times: list[list[float]] = [[] for _ in runners]
    for turn in range(CALLS + 10):
        for runner, own in zip(runners, times, strict=True):
            runner.run(image)  # brings this file back into the processor's cache
            started = time.perf_counter()
            runner.run(image)
            if turn >= 10:
                own.append(1000 * (time.perf_counter() - started))
    return [round(float(np.percentile(own, FAST)), 3) for own in times]


def layers(path: Path) -> int | None:
    """Return the number of convolutions and matrix products with int8 inputs."""
    if path.suffix == ".onnx":
        return len(int8_layers(read_onnx(path)))
    import openvino as ov

    heavy = [op for op in ov.Core().read_model(path).get_ops() if op.get_type_name() in
             ("Convolution", "GroupConvolution", "MatMul")]  # fmt: skip
    return sum(op.input_value(0).get_node().get_type_name() == "FakeQuantize" for op in heavy)


def ours(source: Path, path: Path, calibration: list[np.ndarray]) -> Path:
    model, _ = least_noisy(source, SCHEMES, calibration, threads=1)
    return save_onnx(with_float_layers(model, read_for_int8(source), ()), path)


def plain(source: Path, path: Path, calibration: list[np.ndarray]) -> Path:
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._images: Iterator[np.ndarray] = iter(calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self._images, None)
            return None if image is None else {"image": image}

    quantize_static(source, path, Reader(), per_channel=True, activation_type=QuantType.QUInt8)
    return with_metadata(source, onnx.load(path), path)


def nncf_onnx(source: Path, path: Path, calibration: list[np.ndarray], transformer: bool) -> Path:
    model = nncf_default(read_onnx(source), [{"image": image} for image in calibration], transformer)
    return with_metadata(source, model, path)


def nncf_default(model: Any, calibration: list[Any], transformer: bool) -> Any:
    import nncf

    kind = nncf.ModelType.TRANSFORMER if transformer else None
    return nncf.quantize(model, nncf.Dataset(calibration), subset_size=len(calibration), model_type=kind)


def ir(source: Path, path: Path, model: Any) -> Path:
    return write_ir(model, path, read_onnx_metadata(source) | {"precision": "int8"})[0]


def with_metadata(source: Path, model: onnx.ModelProto, path: Path) -> Path:
    del model.metadata_props[:]
    set_onnx_metadata(model, read_onnx_metadata(source) | {"precision": "int8"})
    onnx.save(model, path)
    return path


@torch.no_grad()
def network(arguments: argparse.Namespace, train: Split, preprocess: Preprocess, classes: int) -> nn.Module:
    """Return the student with its classifier, in eval mode."""
    asked = "random" if arguments.state else arguments.init
    init = asked if asked in ("pretrained", "random") else Path(asked)
    backbone = build_student(arguments.student, arguments.img_size, init, seed=0)
    head = nn.Linear(feature_dim(backbone, arguments.img_size), classes)
    if arguments.state:
        nn.Sequential(backbone, head).load_state_dict(load_file(arguments.state))
        return nn.Sequential(deployable(backbone), head).eval()
    backbone = deployable(backbone)
    starts = range(0, len(train), BATCH)
    given = (pixels(train, range(start, min(start + BATCH, len(train))), preprocess) for start in starts)
    probe = fit_linear_probe(torch.cat([backbone(torch.from_numpy(part)) for part in given]).numpy(), train.labels)
    head.weight.copy_(torch.from_numpy(probe.weight))
    head.bias.copy_(torch.from_numpy(probe.bias))
    return nn.Sequential(backbone, head).eval()


def weights_of(arguments: argparse.Namespace) -> str:
    if arguments.state:
        return "trained"
    return "random, linear probe" if arguments.init == "random" else "pretrained, linear probe"


def drawn(split: Split, count: int) -> Split:
    """Draw at most `count` images of `split` in random order."""
    return split.subset(np.random.default_rng(0).permutation(len(split))[:count])


def pixels(split: Split, rows: Any, preprocess: Preprocess) -> np.ndarray:
    return np.stack([preprocess(split.image(int(row))) for row in rows])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--student", required=True)
    parser.add_argument("--state", type=Path, help=".safetensors with the state of backbone and classifier")
    parser.add_argument("--init", default="pretrained", help="pretrained, random or a .safetensors file")
    parser.add_argument("--img-size", type=int, default=64)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
