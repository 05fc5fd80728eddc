"""Convert the untrained student into the formats on request, and compare the results, so that a student that they
cannot hold fails before training.
"""

from __future__ import annotations

import copy
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn

from tcs_edge.data.loader import image_batches
from tcs_edge.errors import ParityFailed, RequirementMissed, UsageError
from tcs_edge.export.onnx import choose_opset, export_onnx
from tcs_edge.models.candidates import CANDIDATES
from tcs_edge.runtimes.base import Runner, Runtime
from tcs_edge.runtimes.programs import instead_of
from tcs_edge.runtimes.registry import RUNTIMES, runtimes_for
from tcs_edge.runtimes.torch import TorchRunner
from tcs_edge.specs.artifacts import onnx_file
from tcs_edge.stages.prepare import Prepared
from tcs_edge.students.build import deployable, feature_dim
from tcs_edge.students.untrained import make_sensitive
from tcs_edge.utils.progress import busy
from tcs_edge.utils.quiet import quiet
from tcs_edge.validation.checks import difference_checks, tolerance_for
from tcs_edge.validation.parity import compare
from tcs_edge.validation.validate import OWN_ROUNDING, own_rounding

IMAGES = 8
NAMED = 3  # students in a message


def require_convertible(ready: Prepared, backbone: nn.Module) -> None:
    """Check that every format on request can hold the student of `ready`; without such a format, do nothing.

    The converted student must compute the logits of `backbone` on a few training images. The limits are those of the
    validation after training. `backbone` does not change.

    Raises:
        UsageError: a converter cannot convert the student, or its runtime lacks one of the layers.
        ParityFailed: the converted student computes other logits.
        RequirementMissed: the runtime does not run the converted student.
    """
    asked = [runtime for runtime in runtimes_for(ready.options.format) if runtime.on_request and runtime.own_format]
    if not asked:
        return
    with TemporaryDirectory() as folder, busy("trying the formats"), quiet("timm"), torch.random.fork_rng(devices=[]):
        torch.manual_seed(ready.options.seed)
        images = _some_images(ready)
        untrained = _with_head(ready, backbone, images)
        source = Path(folder) / onnx_file("fp32")
        export_onnx(
            untrained, source, ready.preprocess.img_size,
            labels=ready.images.classes, preprocess=ready.preprocess.to_json(),
            opset=choose_opset(ready.target.max_opset, ready.options.opset),
        )  # fmt: skip
        for runtime in asked:
            try:
                _require_equal(ready, runtime, source, untrained, images)
            except (UsageError, RequirementMissed) as error:
                if not str(error).endswith(instead_of(runtime.name)):
                    raise
                raise type(error)(" ".join((str(error), *_alternatives(ready, runtime)))) from error


def _some_images(ready: Prepared) -> np.ndarray:
    """Return preprocessed training images, float32 (N, 3, S, S)."""
    train = ready.images.train
    rows = np.unique(np.linspace(0, len(train) - 1, IMAGES).astype(int))
    return next(image_batches(train.subset(rows), ready.preprocess, IMAGES))[0]


def _with_head(ready: Prepared, backbone: nn.Module, images: np.ndarray) -> nn.Module:
    """Return a deployed copy of `backbone` with an untrained classifier."""
    body = copy.deepcopy(backbone)
    if ready.init == "random":
        make_sensitive(body, torch.from_numpy(images))
    body = deployable(body)
    head = nn.Linear(feature_dim(body, ready.preprocess.img_size), len(ready.images.classes))
    return nn.Sequential(body, head).eval()


def _require_equal(ready: Prepared, runtime: Runtime, source: Path, untrained: nn.Module, images: np.ndarray) -> None:
    """Convert `untrained` beside its ONNX file `source`, and compare the logits."""
    assert runtime.own_format
    path = source.parent / runtime.file("fp32")
    runtime.own_format.write(source, path, "fp32", untrained)
    with runtime.open(path, ready.options.threads) as runner:
        if problem := _difference(TorchRunner(untrained), runner, images):
            name = ready.student.name
            raise ParityFailed(f"{runtime.name} computes {name} wrongly: {problem}. {instead_of(runtime.name)}")


def _difference(reference: Runner, runner: Runner, images: np.ndarray) -> str:
    """Return how far the logits of `runner` are beyond the limits; empty if they equal the reference's.

    An untrained network may amplify rounding, as trained ones do on noise. Such a difference proves nothing.
    """
    expected = reference.run(images)
    parity = compare(expected, runner.run(images))
    wrong = [check for check in difference_checks("", parity, tolerance_for(runner.precision)) if not check.passed]
    if not wrong or not np.isfinite(expected).all():
        return ""
    if wrong[0].value is None or wrong[0].limit is None:
        return "a logit is NaN or Inf"
    if parity.max_rel_diff <= OWN_ROUNDING * own_rounding(reference, images, expected):
        return ""
    return f"{wrong[0].name.strip(': ')} {wrong[0].value:.2g} {wrong[0].unit}, limit {wrong[0].limit:g}"


def _alternatives(ready: Prepared, runtime: Runtime) -> list[str]:
    """Return sentences about students that `runtime` holds, and other formats on request that hold this one."""
    name = ready.student.architecture
    others = [
        other.name
        for other in RUNTIMES.values()
        if other.on_request and other.own_format and other.name != runtime.name
        if name in CANDIDATES and name not in other.own_format.lacking
    ]
    held = ", ".join(_held(ready, runtime))
    return [f"{runtime.name} holds {held}."] * bool(held) + [f"{other} holds {name}." for other in others]


def _held(ready: Prepared, runtime: Runtime) -> list[str]:
    """Return students that `runtime` holds: the next best that fit, or for a named student those of similar cost."""
    assert runtime.own_format
    own = ready.student
    if ready.choice.named:
        ordered = sorted(CANDIDATES.values(), key=lambda other: abs(other.macs_m - own.macs_m))
    else:
        ordered = [found.candidate for found in ready.choice.accepted]
    names = dict.fromkeys(other.architecture for other in ordered)
    return [name for name in names if name not in {own.architecture, *runtime.own_format.lacking}][:NAMED]
