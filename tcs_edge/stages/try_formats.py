"""Convert the untrained student into the formats on request, so that a student that they lack fails before training."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from tcs_edge.export.onnx import choose_opset, export_onnx
from tcs_edge.runtimes.registry import runtimes_for
from tcs_edge.specs.artifacts import onnx_file
from tcs_edge.stages.prepare import Prepared
from tcs_edge.students.build import deployable, feature_dim
from tcs_edge.utils.progress import busy
from tcs_edge.utils.quiet import quiet


def require_convertible(ready: Prepared, backbone: nn.Module) -> None:
    """Check that every format on request can hold the student of `ready`; without such a format, do nothing.

    Raises:
        UsageError: a converter cannot convert the student, or its runtime lacks one of the layers.
        RequirementMissed: the runtime does not run the converted student.
    """
    asked = [runtime for runtime in runtimes_for(ready.options.format) if runtime.on_request and runtime.own_format]
    if not asked:
        return
    side, classes = ready.preprocess.img_size, ready.images.classes
    with TemporaryDirectory() as folder, busy("trying the formats"), quiet("timm"), torch.random.fork_rng(devices=[]):
        body = deployable(backbone)
        untrained = nn.Sequential(body, nn.Linear(feature_dim(body, side), len(classes))).eval()
        source = Path(folder) / onnx_file("fp32")
        opset = choose_opset(ready.target.max_opset, ready.options.opset)
        export_onnx(untrained, source, side, labels=classes, preprocess=ready.preprocess.to_json(), opset=opset)
        for runtime in asked:
            if runtime.own_format:
                runtime.own_format.write(source, Path(folder) / runtime.file("fp32"), "fp32", untrained)
