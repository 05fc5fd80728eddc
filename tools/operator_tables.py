"""Count the operators of every candidate at several image sizes, for the cost model.

    python tools/operator_tables.py --work-dir DIR --out tcs_edge/latency/operator_tables.json

Each network is exported with random weights into DIR, unless its graph exists, and run under onnxruntime's profiler,
which lists every executed operator with its shapes. Run it on a machine with AVX-512, because onnxruntime pads channels
to the width of the registers. ncnn's benchmark networks are included as anchors for the boards.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterable
from pathlib import Path

import onnxruntime as ort
import torch
import torchvision
from torch import nn

from tcs_edge.latency.cost_model import TABLES_VERSION
from tcs_edge.latency.operators import FEATURES, Operator, cost_features
from tcs_edge.models.candidates import CANDIDATES
from tcs_edge.profiling.operators import executed_operators
from tcs_edge.students.build import build_student, deployable, feature_dim
from tcs_edge.utils.files import atomic_path, make_folder, write_json

SIZES = (32, 64, 96, 128, 160, 192, 224, 256)
# Networks with latencies published by ncnn that are not candidates (torchvision's names).
ANCHORS = ("squeezenet1_1", "googlenet", "vgg16")
ANCHOR_PX = 224
TRANSFORMER_ANCHOR = ("vit_base_patch32_384", 384)
CLASSES = 10


def network(name: str, img_size: int) -> nn.Module:
    """Build a deployed candidate with one Linear, or a network of torchvision; random weights, eval mode."""
    if name in ANCHORS:
        options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
        return torchvision.models.get_model(name, weights=None, **options).eval()
    backbone = deployable(build_student(name, img_size, "random", seed=0))
    return nn.Sequential(backbone, nn.Linear(feature_dim(backbone, img_size), CLASSES)).eval()


def export(name: str, img_size: int, folder: Path) -> Path:
    """Export the network as ONNX with a batch of 1, unless the file exists; return its path."""
    path = folder / f"{name}-{img_size}.onnx"
    if path.exists():
        return path
    image = torch.zeros(1, 3, img_size, img_size)
    # The TorchScript exporter takes a tenth of the time. After onnxruntime's optimization the graphs are equal.
    with atomic_path(path) as draft, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = network(name, img_size)
        torch.onnx.export(model, (image,), str(draft), dynamo=False, opset_version=17, input_names=["image"])
    return path


def table(operators: Iterable[Operator]) -> str:
    """Format the features of one graph in the order of FEATURES."""
    features = cost_features(operators)
    return " ".join(f"{features.get(name, 0.0):.6g}" for name in FEATURES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    torch.set_num_threads(1)
    make_folder(args.work_dir)
    wanted = [(name, size) for name in CANDIDATES for size in SIZES]
    wanted += [(name, ANCHOR_PX) for name in ANCHORS] + [TRANSFORMER_ANCHOR]
    networks: dict[str, dict[str, str]] = {}
    for name, size in wanted:
        graph = export(name, size, args.work_dir)
        networks.setdefault(name, {})[str(size)] = table(executed_operators(graph, size))
        print(f"{name} {size} px", flush=True)
    source = f"onnxruntime {ort.__version__}, operators as executed on x86 with AVX-512, batch 1, fp32"
    write_json(
        args.out, {"schema_version": TABLES_VERSION, "source": source, "features": FEATURES, "networks": networks}
    )
    print(f"{len(networks)} networks -> {args.out}")


if __name__ == "__main__":
    main()
