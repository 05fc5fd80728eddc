"""Export a student of a run as float32 ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from tcs_edge.data import ImageSet, Preprocess
from tcs_edge.export.onnx import choose_opset, export_onnx
from tcs_edge.specs.config import ResolvedConfig
from tcs_edge.specs.target import TargetSpec
from tcs_edge.students.embedding import StudentWithEmbedding


@dataclass(frozen=True)
class StudentExport:
    """A deployed student, with all that its exported files depend on."""

    model: nn.Module
    images: ImageSet
    preprocess: Preprocess
    target: TargetSpec
    options: ResolvedConfig

    def to_onnx(self, path: Path) -> Path:
        """Write the student as one ONNX file with the run's opset and batch; return `path`.

        Raises:
            DataError, RequirementMissed, UsageError: as `export_onnx` and `choose_opset`.
        """
        return export_onnx(
            self.model, path, self.preprocess.img_size,
            labels=self.images.classes, preprocess=self.preprocess.to_json(),
            opset=choose_opset(self.target.max_opset, self.options.opset), dynamic_batch=self.options.dynamic_batch,
            embedding_size=self.model.embedding_size if isinstance(self.model, StudentWithEmbedding) else 0,
        )  # fmt: skip
