"""Distill from your own teacher: any timm backbone with your weights, saved as safetensors.

python examples/custom_teacher.py PHOTOS --teacher vit_small_patch14_dinov2 --target raspberrypi4

The training here is minimal (one epoch, cross-entropy). Replace it by your own.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from timm.data import create_transform, resolve_data_config
from torch import nn
from torchvision.datasets import ImageFolder

from tcs_edge import compress, load


def adapt(name: str, photos: Path, img_size: int, pretrained: bool) -> dict[str, torch.Tensor]:
    """Fine-tune `name` on the training photos; return the weights of the backbone without classifier."""
    sized = {"img_size": img_size} if name.startswith(("vit", "test_vit")) else {}
    backbone = timm.create_model(name, pretrained=pretrained, num_classes=0, **sized)
    config = resolve_data_config({"input_size": (3, img_size, img_size)}, model=backbone)
    images = ImageFolder(photos / "train", create_transform(**config))
    classifier = nn.Linear(backbone.num_features, len(images.classes))
    optimizer = torch.optim.AdamW([*backbone.parameters(), *classifier.parameters()], lr=1e-5)
    for pixels, labels in torch.utils.data.DataLoader(images, batch_size=16, shuffle=True):
        loss = nn.functional.cross_entropy(classifier(backbone(pixels)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return backbone.state_dict()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--teacher", default="vit_small_patch14_dinov2", help="a timm name")
    parser.add_argument("--img-size", type=int, default=224, help="pixels of the teacher's input")
    parser.add_argument("--from-scratch", action="store_true", help="start from random weights")
    parser.add_argument("--target", default="raspberrypi4")
    parser.add_argument("--config", type=Path, help="TOML file with more options of compress")
    given = parser.parse_args()

    torch.manual_seed(0)
    weights = Path("my-teacher.safetensors")
    save_file(adapt(given.teacher, given.photos, given.img_size, not given.from_scratch), weights)
    run = compress(
        given.photos,
        target=given.target,
        teacher=f"timm/{given.teacher}",
        teacher_weights=weights,
        teacher_img_size=given.img_size,
        config=given.config,
        out="runs/custom-teacher",
    )
    photo = next((given.photos / "test").rglob("*.*"))
    answer = load(run).predict(photo)[0]
    print(f"{photo}: {answer.label} ({answer.probability:.0%})")


if __name__ == "__main__":
    main()
