"""Convert a traced model to LiteRT, in a process of its own: python -P convert.py MODEL.pt2 SIDE PRECISION OUT.tflite.

The converter brings jax and may crash. SIDE is in pixels, PRECISION "fp32" or "fp16". The input of the model is called
"image", (1, 3, SIDE, SIDE), the output "logits". Exits with 3 and the reason on stderr if the converter fails.
"""

from __future__ import annotations

import sys
from typing import Any

import torch

REFUSED = 3


class Student(torch.nn.Module):
    """Name the output of a model."""

    def __init__(self, body: torch.nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the logits (B, classes) of images (B, 3, S, S)."""
        return {"logits": self.body(image)}


def main(program: str, side: int, precision: str, out: str) -> int:
    """Return the exit code."""
    try:
        convert(program, side, out)
        if precision == "fp16":
            halve(out)
    except Exception as error:  # the converter's exceptions share no base class
        lines = str(error).strip().splitlines() or [""]
        sys.stderr.write(f"\n{type(error).__name__}: {lines[0]}\n")
        return REFUSED
    return 0


def convert(program: str, side: int, out: str) -> None:
    """Convert the file of torch.export at `program`, with float32 weights."""
    import litert_torch

    student = Student(torch.export.load(program).module())
    for module in student.modules():  # a traced model refuses eval(), and the converter asks for it
        module.training = False
    litert_torch.convert(student, sample_kwargs={"image": torch.zeros(1, 3, side, side)}).export(out)


def halve(path: str) -> None:
    """Replace the weights of a model by float16 ones, which LiteRT computes in float32."""
    from ai_edge_quantizer import qtyping
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.quantizer import Quantizer
    from ai_edge_quantizer.recipe_manager import RecipeManager

    recipes = RecipeManager()
    weights = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
    config: Any = qtyping.OpQuantizationConfig(
        weight_tensor_config=weights, compute_precision=qtyping.ComputePrecision.FLOAT, explicit_dequantize=True
    )
    recipes.add_quantization_config(
        regex=".*",
        operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
        op_config=config,
        algorithm_key=AlgorithmName.FLOAT_CASTING,
    )
    Quantizer(path, recipes.get_quantization_recipe()).quantize().export_model(path, overwrite=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]))
