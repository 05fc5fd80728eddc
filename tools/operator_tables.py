"""Count the operators of every candidate at several image sizes, for the cost model.

    python tools/operator_tables.py --work-dir DIR --out tcs_edge/latency/operator_tables.json

Each network is exported with random weights into DIR, unless its graph exists, and run under onnxruntime's profiler,
which lists every executed operator with its shapes. Run it on a machine with AVX-512, because onnxruntime pads channels
to the width of the registers. The networks of ncnn's and MLPerf's published latencies are included as anchors for the
boards. Pass --only-missing to keep the networks of an earlier file.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterable
from pathlib import Path

import onnxruntime as ort
import timm
import torch
import torchvision
from timm.models.efficientnet import _gen_mobilenet_v1, _gen_mobilenet_v2
from torch import nn

from tcs_edge.latency.cost_model import TABLES_VERSION
from tcs_edge.latency.operators import FEATURES, Operator, cost_features
from tcs_edge.models.candidates import CANDIDATES
from tcs_edge.profiling.operators import executed_operators
from tcs_edge.students.build import build_student, deployable, feature_dim
from tcs_edge.utils.files import atomic_path, make_folder, write_json
from tcs_edge.utils.reading import read_json

SIZES = (32, 64, 96, 128, 160, 192, 224, 256)
# Networks with latencies published by ncnn that are not candidates (torchvision's names).
ANCHORS = ("squeezenet1_1", "googlenet", "vgg16")
ANCHOR_PX = 224
TRANSFORMER_ANCHOR = ("vit_base_patch32_384", 384)
# Networks of MLPerf's rows for boards that are not candidates, with their published input sizes.
MLPERF_ANCHORS = {
    **{f"mobilenetv1_{width}": (128, 160, 192, 224) for width in ("025", "050", "075")},
    **{f"mobilenetv2_{width}": (96, 128, 160, 192, 224) for width in ("035", "075")},
    **{f"mobilenetv2_{width}": (224,) for width in ("130", "140")},
    **{f"efficientnet_lite{number}": (size,) for number, size in ((1, 240), (2, 260), (3, 280), (4, 300))},
    **{f"tf_mobilenetv3_{kind}": (224,) for kind in ("large_minimal_100", "large_075", "small_minimal_100")},
}
# Candidates in published tables, and the inputs of the final layer of the other networks there.
PUBLISHED_CANDIDATES = (
    "mobilenetv1_100", "mobilenetv2_100", "mobilenetv2_050", "mobilenetv3_large_100", "mobilenetv3_small_100",
    "mobilenetv3_small_075", "mnasnet_100", "efficientnet_b0", "tf_efficientnetv2_b0", "regnety_004", "resnet18",
    "resnet50", "tf_efficientnet_lite0",
)  # fmt: skip
OTHER_DIMS = {
    "squeezenet1_1": 0, "googlenet": 1024, "vgg16": 4096, "vit_base_patch32_384": 768, "mobilenetv1_025": 256,
    "mobilenetv1_050": 512, "mobilenetv1_075": 768, "mobilenetv2_035": 1280, "mobilenetv2_075": 1280,
    "mobilenetv2_130": 1664, "mobilenetv2_140": 1792, "efficientnet_lite1": 1280, "efficientnet_lite2": 1280,
    "efficientnet_lite3": 1280, "efficientnet_lite4": 1280, "tf_mobilenetv3_large_minimal_100": 1280,
    "tf_mobilenetv3_large_075": 1280, "tf_mobilenetv3_small_minimal_100": 1024,
}  # fmt: skip
# Families that timm builds for any width, by the start of the name; the rest of the name is the width in percent.
WIDTHS = {"mobilenetv1_": _gen_mobilenet_v1, "mobilenetv2_": _gen_mobilenet_v2}
CLASSES = 10


def network(name: str, img_size: int) -> nn.Module:
    """Build a deployed candidate with one Linear, or a network of torchvision; random weights, eval mode."""
    if name in ANCHORS:
        options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
        return torchvision.models.get_model(name, weights=None, **options).eval()
    if name in MLPERF_ANCHORS:
        return _mlperf_network(name).eval()
    backbone = deployable(build_student(name, img_size, "random", seed=0))
    return nn.Sequential(backbone, nn.Linear(feature_dim(backbone, img_size), CLASSES)).eval()


def _mlperf_network(name: str) -> nn.Module:
    family = next((start for start in WIDTHS if name.startswith(start)), None)
    if family is None:
        return timm.create_model(name, num_classes=CLASSES)
    width = int(name.removeprefix(family)) / 100
    return WIDTHS[family](f"{family}100", channel_multiplier=width, num_classes=CLASSES)


def feature_dims() -> dict[str, int]:
    """Return the inputs of the final layer of every network in a published table; 0 for a network without one."""
    names = {*ANCHORS, *MLPERF_ANCHORS, TRANSFORMER_ANCHOR[0], *PUBLISHED_CANDIDATES}
    return {name: CANDIDATES[name].feature_dim if name in CANDIDATES else OTHER_DIMS[name] for name in names}


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
    parser.add_argument("--only-missing", action="store_true", help="Keep the networks of an earlier --out.")
    args = parser.parse_args()

    torch.set_num_threads(1)
    make_folder(args.work_dir)
    wanted = [(name, size) for name in CANDIDATES for size in SIZES]
    wanted += [(name, ANCHOR_PX) for name in ANCHORS] + [TRANSFORMER_ANCHOR]
    wanted += [(name, size) for name, sizes in MLPERF_ANCHORS.items() for size in sizes]
    networks: dict[str, dict[str, str]] = {}
    source = f"onnxruntime {ort.__version__}, operators as executed on x86 with AVX-512, batch 1, fp32"
    if args.only_missing:
        earlier = read_json(args.out, TABLES_VERSION)
        networks = earlier["networks"]
        source = f"{earlier['source']}; networks added later: onnxruntime {ort.__version__}"
    for name, size in wanted:
        if str(size) in networks.get(name, {}):
            continue
        graph = export(name, size, args.work_dir)
        networks.setdefault(name, {})[str(size)] = table(executed_operators(graph, size))
        print(f"{name} {size} px", flush=True)
    document = {"schema_version": TABLES_VERSION, "source": source, "features": FEATURES}
    write_json(args.out, document | {"feature_dims": dict(sorted(feature_dims().items())), "networks": networks})
    print(f"{len(networks)} networks -> {args.out}")


if __name__ == "__main__":
    main()
