"""Registry of the candidate students: small timm image classifiers and facts about them.

The script tools/candidate_facts.py computes the facts from the models, and a test compares both. File sizes are
of exported files where tools/sweep_candidates.py measured them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from tcs_edge.specs.artifacts import Precision
from tcs_edge.utils.reading import read_json

BYTES_PER_WEIGHT: dict[Precision, int] = {"fp32": 4, "fp16": 2, "int8": 1}
GRAPH_BYTES_PER_MODEL = 250_000
OPENVINO_GRAPH_BYTES_PER_MODEL = 400_000
EXPORTED_FILE = Path(__file__).parent / "exported_bytes.json"
EXPORTED_VERSION, MEASURED_CLASSES = 1, 10

Kind = Literal["cnn", "hybrid", "transformer", "unknown"]


@dataclass(frozen=True)
class Candidate:
    """A student backbone.

    `params_m` (millions) and `macs_m` (10^6 multiply-accumulates for one 224 x 224 image) describe the deployed
    backbone, without classifier and with parallel training branches folded. `tag` is timm's name of the pretrained
    weights. `top1` is their published ImageNet-1k accuracy in percent at `top1_img_size` pixels, and `license` their
    license. These four fields are None without known pretrained weights.
    """

    name: str
    kind: Kind
    params_m: float
    feature_dim: int
    macs_m: float
    tag: str | None = None
    top1: float | None = None
    top1_img_size: int | None = None
    license: str | None = None

    @property
    def architecture(self) -> str:
        """Name without a tag of weights: the key of latencies and sizes."""
        return self.name.partition(".")[0]

    @property
    def weights(self) -> str | None:
        """Full timm name of the pretrained weights."""
        return f"{self.architecture}.{self.tag}" if self.tag else None

    def total_params_m(self, num_classes: int) -> float:
        """Millions of parameters with the final Linear(feature_dim, num_classes)."""
        return self.params_m + (self.feature_dim + 1) * num_classes / 1e6

    def size_mb(self, num_classes: int, precision: Precision = "fp32") -> float:
        """Size of the ONNX file in 10^6 bytes, with head and graph.

        The size is from the measured exported file, corrected for the number of classes. Without a measured file it
        is computed from the parameters.
        """
        measured = exported_bytes().get(self.architecture)
        if measured:
            more = (self.feature_dim + 1) * (num_classes - MEASURED_CLASSES) * BYTES_PER_WEIGHT[precision]
            return (measured[precision] + more) / 1e6
        weights = self.total_params_m(num_classes) * BYTES_PER_WEIGHT[precision]
        return weights + GRAPH_BYTES_PER_MODEL / 1e6

    def largest_mb(self, num_classes: int, precision: Precision = "fp32") -> float:
        """Size of the largest model file in 10^6 bytes: of the ONNX file and the OpenVINO .xml and .bin.

        Every run exports both. OpenVINO's file is measured or computed like that of ONNX. In another precision than
        fp32, its graph adds the same amount.
        """
        if precision != "fp32":
            graph_mb = self.largest_mb(num_classes) - self.size_mb(num_classes)
            return self.size_mb(num_classes, precision) + graph_mb
        measured = exported_openvino_bytes().get(self.architecture)
        if measured:
            more = (self.feature_dim + 1) * (num_classes - MEASURED_CLASSES) * BYTES_PER_WEIGHT["fp32"]
            openvino_mb = (measured + more) / 1e6
        else:
            weights = self.total_params_m(num_classes) * BYTES_PER_WEIGHT["fp32"]
            openvino_mb = weights + OPENVINO_GRAPH_BYTES_PER_MODEL / 1e6
        return max(self.size_mb(num_classes), openvino_mb)

    @property
    def size_source(self) -> Literal["measured", "computed"]:
        """Source of `size_mb`."""
        return "measured" if self.architecture in exported_bytes() else "computed"


@cache
def exported_openvino_bytes() -> Mapping[str, int]:
    """Read the bytes of the exported .xml and .bin in fp32 with ten classes, by candidate."""
    return read_json(EXPORTED_FILE, EXPORTED_VERSION)["openvino_bytes"] if EXPORTED_FILE.is_file() else {}


@cache
def exported_bytes() -> Mapping[str, Mapping[Precision, int]]:
    """Read the bytes of the exported ONNX files with ten classes, by candidate and precision; int8 in every layer."""
    return read_json(EXPORTED_FILE, EXPORTED_VERSION)["bytes"] if EXPORTED_FILE.is_file() else {}


class SizedCandidate(NamedTuple):
    """A candidate at one side of its square input, in pixels."""

    candidate: Candidate
    img_size: int


# fmt: off
CANDIDATES: dict[str, Candidate] = {
    "lcnet_050": Candidate(
        "lcnet_050", "cnn", 0.599856, 1280, 43.5,
        "ra2_in1k", 63.138, 224, "apache-2.0"),
    "lcnet_075": Candidate(
        "lcnet_075", "cnn", 1.077288, 1280, 93.5,
        "ra2_in1k", 68.786, 224, "apache-2.0"),
    "lcnet_100": Candidate(
        "lcnet_100", "cnn", 1.672800, 1280, 154.4,
        "ra2_in1k", 72.13, 224, "apache-2.0"),
    "mobilenetv3_small_050": Candidate(
        "mobilenetv3_small_050", "cnn", 0.568224, 1024, 23.2,
        "lamb_in1k", 57.918, 224, "apache-2.0"),
    "mobilenetv3_small_075": Candidate(
        "mobilenetv3_small_075", "cnn", 1.016872, 1024, 42.4,
        "lamb_in1k", 65.284, 224, "apache-2.0"),
    "mobilenetv3_small_100": Candidate(
        "mobilenetv3_small_100", "cnn", 1.517856, 1024, 55.5,
        "lamb_in1k", 67.636, 224, "apache-2.0"),
    "mobilenetv3_large_100": Candidate(
        "mobilenetv3_large_100", "cnn", 4.202032, 1280, 215.3,
        "ra4_e3600_r224_in1k", 76.31, 224, "apache-2.0"),
    "mobilenetv4_conv_small_050": Candidate(
        "mobilenetv4_conv_small_050", "cnn", 0.957952, 1280, 63.5,
        "e3000_r224_in1k", 64.778, 224, "apache-2.0"),
    "mobilenetv4_conv_small": Candidate(
        "mobilenetv4_conv_small", "cnn", 2.493024, 1280, 184.7,
        "e2400_r224_in1k", 73.756, 224, "apache-2.0"),
    "mobilenetv4_conv_medium": Candidate(
        "mobilenetv4_conv_medium", "cnn", 8.434512, 1280, 826.4,
        "e500_r224_in1k", 79.092, 224, "apache-2.0"),
    "mobilenetv2_050": Candidate(
        "mobilenetv2_050", "cnn", 0.687680, 1280, 95.9,
        "lamb_in1k", 65.928, 224, "apache-2.0"),
    "mobilenetv2_100": Candidate(
        "mobilenetv2_100", "cnn", 2.223872, 1280, 299.5,
        "ra_in1k", 72.91, 224, "apache-2.0"),
    "mnasnet_small": Candidate(
        "mnasnet_small", "cnn", 0.749264, 1280, 67.1,
        "lamb_in1k", 66.204, 224, "apache-2.0"),
    "mnasnet_100": Candidate(
        "mnasnet_100", "cnn", 3.102312, 1280, 313.1,
        "rmsp_in1k", 74.672, 224, "apache-2.0"),
    "tf_efficientnet_lite0": Candidate(
        "tf_efficientnet_lite0", "cnn", 3.371008, 1280, 383.9,
        "in1k", 74.846, 224, "apache-2.0"),
    "efficientnet_b0": Candidate(
        "efficientnet_b0", "cnn", 4.007548, 1280, 384.5,
        "ra4_e3600_r224_in1k", 78.568, 224, "apache-2.0"),
    "tf_efficientnetv2_b0": Candidate(
        "tf_efficientnetv2_b0", "cnn", 5.858704, 1280, 716.8,
        "in1k", 78.386, 224, "apache-2.0"),
    "ghostnet_100": Candidate(
        "ghostnet_100", "cnn", 3.901508, 1280, 139.9,
        "in1k", 73.958, 224, "apache-2.0"),
    "repghostnet_100": Candidate(
        "repghostnet_100", "cnn", 2.777772, 1280, 141.1,
        "in1k", 74.208, 224, "mit"),
    "regnety_002": Candidate(
        "regnety_002", "cnn", 2.793996, 368, 199.1,
        "pycls_in1k", 70.288, 224, "mit"),
    "regnety_004": Candidate(
        "regnety_004", "cnn", 3.903144, 440, 401.4,
        "tv2_in1k", 75.594, 224, "bsd-3-clause"),
    "resnet10t": Candidate(
        "resnet10t", "cnn", 4.922488, 512, 1096.7,
        "c3_in1k", 68.354, 224, "apache-2.0"),
    "resnet18": Candidate(
        "resnet18", "cnn", 11.176512, 512, 1813.6,
        "a1_in1k", 71.504, 224, "apache-2.0"),
    "resnet34": Candidate(
        "resnet34", "cnn", 21.284672, 512, 3663.2,
        "ra4_e3600_r224_in1k", 77.492, 224, "apache-2.0"),
    "resnet50": Candidate(
        "resnet50", "cnn", 23.508032, 2048, 4087.1,
        "a1_in1k", 80.382, 224, "apache-2.0"),
    "repvit_m0_9": Candidate(
        "repvit_m0_9", "cnn", 4.682056, 384, 815.2,
        "dist_300e_in1k", 78.652, 224, "apache-2.0"),
    "tinynet_e": Candidate(
        "tinynet_e", "cnn", 0.761972, 1280, 87.1,
        "in1k", 59.874, 106, "apache-2.0"),
    "mobilenetv1_100": Candidate(
        "mobilenetv1_100", "cnn", 3.206976, 1024, 567.7,
        "ra4_e3600_r224_in1k", 75.388, 224, "apache-2.0"),
    "semnasnet_100": Candidate(
        "semnasnet_100", "cnn", 2.606038, 1280, 310.3,
        "rmsp_in1k", 75.452, 224, "apache-2.0"),
    "starnet_s1": Candidate(
        "starnet_s1", "cnn", 2.676168, 192, 421.7,
        "in1k", 73.532, 224, "apache-2.0"),
    "mobileone_s0": Candidate(
        "mobileone_s0", "cnn", 1.053504, 1024, 274.1,
        "apple_in1k", 71.398, 224, "mobileone-license"),
    "repvgg_a0": Candidate(
        "repvgg_a0", "cnn", 7.028384, 1280, 1360.2,
        "rvgg_in1k", 72.426, 224, "mit"),
    "hgnetv2_b0": Candidate(
        "hgnetv2_b0", "cnn", 3.947550, 2048, 319.3,
        "ssld_stage2_ft_in1k", 77.362, 224, "apache-2.0"),
    "convnext_atto": Candidate(
        "convnext_atto", "cnn", 3.374520, 320, 547.0,
        "d2_in1k", 75.672, 224, "apache-2.0"),
    "regnetx_002": Candidate(
        "regnetx_002", "cnn", 2.315792, 368, 198.7,
        "pycls_in1k", 68.758, 224, "mit"),
    "fasternet_t0": Candidate(
        "fasternet_t0", "cnn", 2.624500, 1280, 334.1,
        "in1k", 71.732, 224, "apache-2.0"),
    "test_resnet": Candidate(
        "test_resnet", "cnn", 0.372688, 96, 200.8,
        "r160_in1k", 41.602, 160, "apache-2.0"),
    "dla60x_c": Candidate(
        "dla60x_c", "cnn", 1.062832, 256, 581.0,
        "in1k", 67.928, 224, "bsd-3-clause"),
    "efficientformerv2_s0": Candidate(
        "efficientformerv2_s0", "hybrid", 3.246256, 176, 395.5,
        "snap_dist_in1k", 76.102, 224, "apache-2.0"),
    "edgenext_xx_small": Candidate(
        "edgenext_xx_small", "hybrid", 1.158216, 168, 197.3,
        "in1k", 71.132, 256, "mit"),
    "mobilevit_xxs": Candidate(
        "mobilevit_xxs", "hybrid", 0.951024, 320, 301.2,
        "cvnets_in1k", 68.936, 256, "cvnets-license"),
    "mobilevitv2_050": Candidate(
        "mobilevitv2_050", "hybrid", 1.113593, 256, 361.7,
        "cvnets_in1k", 70.156, 256, "cvnets-license"),
    "fastvit_t8": Candidate(
        "fastvit_t8", "hybrid", 3.227040, 768, 524.0,
        "apple_in1k", 76.184, 256, "fastvit-license"),
    "levit_128s": Candidate(
        "levit_128s", "hybrid", 6.986466, 384, 303.9,
        "fb_dist_in1k", 76.52, 224, "apache-2.0"),
    "efficientvit_b0": Candidate(
        "efficientvit_b0", "hybrid", 2.129008, 1280, 99.0,
        "r224_in1k", 71.408, 224, "apache-2.0"),
    "mobilevitv2_075": Candidate(
        "mobilevitv2_075", "hybrid", 2.481009, 384, 800.6,
        "cvnets_in1k", 75.612, 256, "cvnets-license"),
    "edgenext_x_small": Candidate(
        "edgenext_x_small", "hybrid", 2.143804, 192, 408.1,
        "in1k", 74.874, 256, "mit"),
    "swiftformer_xs": Candidate(
        "swiftformer_xs", "hybrid", 3.033360, 220, 602.0,
        "dist_in1k", 75.6, 224, "apache-2.0"),
    "deit_tiny_patch16_224": Candidate(
        "deit_tiny_patch16_224", "transformer", 5.524416, 192, 1253.5,
        "fb_in1k", 72.19, 224, "apache-2.0"),
    "vit_tiny_patch16_224": Candidate(
        "vit_tiny_patch16_224", "transformer", 5.524416, 192, 1253.5,
        "augreg_in21k_ft_in1k", 75.452, 224, "apache-2.0"),
    "deit_small_patch16_224": Candidate(
        "deit_small_patch16_224", "transformer", 21.665664, 384, 4598.5,
        "fb_in1k", 79.856, 224, "apache-2.0"),
    "pvt_v2_b0": Candidate(
        "pvt_v2_b0", "transformer", 3.409760, 256, 565.8,
        "in1k", 70.654, 224, "apache-2.0"),
    "xcit_nano_12_p16_224": Candidate(
        "xcit_nano_12_p16_224", "transformer", 2.924224, 128, 550.8,
        "fb_dist_in1k", 72.318, 224, "apache-2.0"),
}
# fmt: on


def listed_candidate(name: str) -> Candidate | None:
    """Return the candidate NAME or NAME.TAG; None for a network that is not listed.

    A tag selects other pretrained weights of the same network. Their accuracy and license are unknown.
    """
    architecture, _, tag = name.partition(".")
    known = CANDIDATES.get(architecture)
    if known is None or not tag:
        return known
    if tag == known.tag:
        return replace(known, name=name)
    return replace(known, name=name, tag=tag, top1=None, top1_img_size=None, license=None)


# Small timm models that are not candidates, with the reason (tools/sweep_candidates.py).
LEFT_OUT: dict[str, str] = {
    "crossvit_9_240": "takes 240 px alone: the patches of its two branches do not line up at other sizes",
    "efficientformer_l1": "takes 224 px alone: its attention biases are a table for that size",
}
