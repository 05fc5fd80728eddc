"""Builds a student backbone: a timm model that ends in pooled features, with the weights asked for."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from timm.utils.model import reparameterize_model
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tcs_edge.errors import DataError, MissingError, UnknownName, UsageError
from tcs_edge.students.candidates import CANDIDATES, Candidate

Init = Literal["pretrained", "random"] | Path

HUB_FILE = "model.safetensors"
PICKLE_SUFFIXES = {".pth", ".pt", ".bin", ".ckpt", ".pkl", ".tar"}
SHOWN_KEYS = 3


def build_student(name: str, img_size: int, init: Init, seed: int) -> nn.Module:
    """A student backbone in training mode: float (B, 3, img_size, img_size) -> features (B, d_s).

    The features are pooled and pre-logits: a hidden layer after pooling (MobileNetV3, LCNet, ...) is kept.

    Args:
        name: a candidate, or any timm model name.
        img_size: side of the square input in pixels.
        init: "pretrained" fetches the weights through the Hugging Face hub (or its cache), "random" draws
            them from `seed`, a path loads a .safetensors file of this architecture. Only "pretrained" may
            use the network.
        seed: of the random weights.

    Raises:
        UnknownName: timm has no such model.
        UsageError: the architecture cannot take this size, has no pretrained weights, or the file is a pickle.
        DataError: the file does not hold this architecture's weights.
        MissingError: the file is missing, or the hub cannot be reached.
    """
    weights = _weights_file(name, init)
    model = _new_model(name, img_size, seed)
    if weights is not None:
        _load(model, name, weights)
    _check_forward(model, name, img_size)
    return model


def feature_dim(model: nn.Module, img_size: int) -> int:
    """Width d_s of the features of a built student."""
    return int(_dummy_features(model, img_size).shape[1])


def deployable(model: nn.Module) -> nn.Module:
    """A copy in eval mode whose parallel training branches (RepVGG style) are folded into single convolutions.

    The same function up to rounding; models without such branches are only copied.
    """
    return reparameterize_model(copy.deepcopy(model).eval())


def student_mean_std(name: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Per-channel (mean, std) of images in [0, 1] that this student's pretrained weights expect."""
    cfg = _pretrained_cfg(name)
    (r, g, b), (sr, sg, sb) = cfg.mean, cfg.std
    return (r, g, b), (sr, sg, sb)


def candidate_from_model(name: str) -> Candidate:
    """The registered candidate's facts, or those of any timm model, computed from the model itself (224 px)."""
    with torch.device("meta"):
        model = deployable(_new_model(name, 224, seed=0))
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            features = model(torch.zeros(1, 3, 224, 224))
    params = sum(parameter.numel() for parameter in model.parameters())
    known = CANDIDATES.get(name)
    return Candidate(
        name,
        known.kind if known else "unknown",
        params / 1e6,
        int(features.shape[1]),
        counter.get_total_flops() / 2e6,
    )
