"""Write ONNX models as one valid file each, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import EncodeError

from tcs_edge.errors import RequirementMissed, reason_of
from tcs_edge.utils.files import atomic_path

MAX_BYTES = 2**31 - 1  # protobuf's own limit: a larger model needs external data


def save_onnx(model: onnx.ModelProto, path: Path) -> Path:
    """Write `model` as one file and check it; return `path`.

    Raises:
        RequirementMissed: the model is not valid, or too large for one file.
    """
    require_one_file(path.name, model.ByteSize())
    with atomic_path(path) as draft:
        try:
            onnx.save(model, draft)
            onnx.checker.check_model(draft, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, EncodeError, ValueError) as error:
            raise RequirementMissed(f"the exported {path.name} is not valid: {reason_of(error)}") from error
    return path


def require_one_file(name: str, size_bytes: int) -> None:
    """Check before writing that one ONNX file can hold `size_bytes`.

    Raises:
        RequirementMissed: the model is larger than 2 GiB.
    """
    if size_bytes > MAX_BYTES:
        raise RequirementMissed(
            f"{name} would be {size_bytes / 1e9:.1f} GB, above the 2.1 GB of an ONNX file. Pass a smaller --student."
        )
