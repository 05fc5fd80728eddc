"""Print the registry of tcs_edge/models/candidates.py as code, from the timm models.

    python tools/candidate_facts.py --latency-dir DIR

Parameters, feature width and multiply-accumulates come from the instantiated models, the license from
timm's records of weights, the ImageNet top-1 from DIR/timm_imagenet_top1.csv.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import timm

from tcs_edge.students.build import candidate_from_model

# One pretrained tag per architecture: the best published top-1 at 224 px with ImageNet-1k weights.
WEIGHTS = {
    "lcnet_050.ra2_in1k": "cnn",
    "lcnet_075.ra2_in1k": "cnn",
    "lcnet_100.ra2_in1k": "cnn",
    "mobilenetv3_small_050.lamb_in1k": "cnn",
    "mobilenetv3_small_075.lamb_in1k": "cnn",
    "mobilenetv3_small_100.lamb_in1k": "cnn",
    "mobilenetv3_large_100.ra4_e3600_r224_in1k": "cnn",
    "mobilenetv4_conv_small_050.e3000_r224_in1k": "cnn",
    "mobilenetv4_conv_small.e2400_r224_in1k": "cnn",
    "mobilenetv4_conv_medium.e500_r224_in1k": "cnn",
    "mobilenetv2_050.lamb_in1k": "cnn",
    "mobilenetv2_100.ra_in1k": "cnn",
    "mnasnet_small.lamb_in1k": "cnn",
    "mnasnet_100.rmsp_in1k": "cnn",
    "tf_efficientnet_lite0.in1k": "cnn",
    "efficientnet_b0.ra4_e3600_r224_in1k": "cnn",
    "tf_efficientnetv2_b0.in1k": "cnn",
    "ghostnet_100.in1k": "cnn",
    "repghostnet_100.in1k": "cnn",
    "regnety_002.pycls_in1k": "cnn",
    "regnety_004.tv2_in1k": "cnn",
    "resnet10t.c3_in1k": "cnn",
    "resnet18.a1_in1k": "cnn",
    "resnet34.ra4_e3600_r224_in1k": "cnn",
    "resnet50.a1_in1k": "cnn",
    "repvit_m0_9.dist_300e_in1k": "cnn",
    "tinynet_e.in1k": "cnn",
    "mobilenetv1_100.ra4_e3600_r224_in1k": "cnn",
    "semnasnet_100.rmsp_in1k": "cnn",
    "starnet_s1.in1k": "cnn",
    "mobileone_s0.apple_in1k": "cnn",
    "repvgg_a0.rvgg_in1k": "cnn",
    "hgnetv2_b0.ssld_stage2_ft_in1k": "cnn",
    "convnext_atto.d2_in1k": "cnn",
    "regnetx_002.pycls_in1k": "cnn",
    "fasternet_t0.in1k": "cnn",
    "test_resnet.r160_in1k": "cnn",
    "dla60x_c.in1k": "cnn",
    "efficientformerv2_s0.snap_dist_in1k": "hybrid",
    "edgenext_xx_small.in1k": "hybrid",
    "mobilevit_xxs.cvnets_in1k": "hybrid",
    "mobilevitv2_050.cvnets_in1k": "hybrid",
    "fastvit_t8.apple_in1k": "hybrid",
    "levit_128s.fb_dist_in1k": "hybrid",
    "efficientvit_b0.r224_in1k": "hybrid",
    "mobilevitv2_075.cvnets_in1k": "hybrid",
    "edgenext_x_small.in1k": "hybrid",
    "swiftformer_xs.dist_in1k": "hybrid",
    "deit_tiny_patch16_224.fb_in1k": "transformer",
    "vit_tiny_patch16_224.augreg_in21k_ft_in1k": "transformer",
    "deit_small_patch16_224.fb_in1k": "transformer",
    "pvt_v2_b0.in1k": "transformer",
    "xcit_nano_12_p16_224.fb_dist_in1k": "transformer",
}


def published_top1(table: Path, weights: str) -> tuple[float, int]:
    """Return (top-1 in percent, image size) of the row with the size nearest to 224 px."""
    with table.open(encoding="utf-8") as handle:
        rows = [row for row in csv.DictReader(handle) if row["model"] == weights]
    best = min(rows, key=lambda row: abs(int(row["img_size"]) - 224))
    return float(best["top1"]), int(best["img_size"])


def entry(table: Path, weights: str, kind: str) -> str:
    """Format one entry of the registry."""
    name, tag = weights.split(".")
    facts = candidate_from_model(name)
    top1, top1_img_size = published_top1(table, weights)
    license = timm.get_pretrained_cfg(weights).license
    return (
        f'    "{name}": Candidate(\n        "{name}", "{kind}", {facts.params_m:.6f}, {facts.feature_dim}, '
        f'{facts.macs_m:.1f},\n        "{tag}", {top1}, {top1_img_size}, "{license}"),'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency-dir", type=Path, required=True)
    table = parser.parse_args().latency_dir / "timm_imagenet_top1.csv"
    for weights, kind in WEIGHTS.items():
        print(entry(table, weights, kind))


if __name__ == "__main__":
    main()
