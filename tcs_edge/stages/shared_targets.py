"""Targets of rank 0 in every process that trains the student."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tcs_edge.data import Preprocess
from tcs_edge.labels.linear_probe import LinearProbe
from tcs_edge.methods import DistillationTargets
from tcs_edge.specs.config import ResolvedConfig
from tcs_edge.stages.probes import as_linear
from tcs_edge.stages.targets import online_teacher
from tcs_edge.teachers.features import Features
from tcs_edge.utils.ranks import current, shared_json, shared_rows


def shared_targets(
    targets: DistillationTargets | None, features: Features | None, preprocess: Preprocess, options: ResolvedConfig
) -> DistillationTargets | None:
    """Return the targets of rank 0 in every process.

    Args:
        targets: those of rank 0; the others pass None.
        features: of the teacher, for an online teacher in every process; None for a method without a teacher.
    """
    if current().alone:
        return targets
    facts = shared_json(None if targets is None else _facts_of(targets))
    if facts is None:
        return None
    rows = _shared_tensor(targets and targets.rows, facts["rows"], options)
    soft_labels = _shared_tensor(targets and targets.soft_labels, facts["soft_labels"], options)
    weight = _shared_tensor(targets and targets.probe and targets.probe.weight.detach(), facts["probe"], options)
    bias = _shared_tensor(targets and targets.probe and targets.probe.bias.detach(), facts["probe"], options)
    if targets is not None:
        return targets
    probe = None if weight is None or bias is None else as_linear(LinearProbe(weight.numpy(), bias.numpy()))
    online = None
    if facts["online"] and features is not None and probe is not None:
        online = online_teacher(options, features.readout, probe, preprocess)
    return DistillationTargets(
        rows, online, probe, facts["signed"], facts["grid"], soft_labels=soft_labels, soft_share=facts["soft_share"]
    )


def _facts_of(targets: DistillationTargets) -> dict[str, Any]:
    return {
        "signed": targets.signed, "grid": targets.grid, "soft_share": targets.soft_share,
        "rows": targets.rows is not None, "soft_labels": targets.soft_labels is not None,
        "probe": targets.probe is not None, "online": targets.online is not None,
    }  # fmt: skip


def _shared_tensor(values: Tensor | None, exists: bool, options: ResolvedConfig) -> Tensor | None:
    if not exists:
        return None
    return torch.from_numpy(shared_rows(None if values is None else values.numpy(), options.cache_dir))
