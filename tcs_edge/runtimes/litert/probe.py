"""Load a LiteRT model and run it once, in a process of its own: python -P probe.py MODEL.tflite.

Prints the number of logits. Exits with 3 and the reason on stderr if LiteRT refuses the model.
"""

from __future__ import annotations

import sys
from pathlib import Path

REFUSED = 3


def main(path: str) -> int:
    """Return the exit code."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    try:
        loaded = Interpreter(model_content=Path(path).read_bytes(), num_threads=1)
        loaded.allocate_tensors()
        (image,), (logits,) = loaded.get_input_details(), loaded.get_output_details()
        loaded.set_tensor(image["index"], np.zeros(image["shape"], dtype=image["dtype"]))
        loaded.invoke()
        count = loaded.get_tensor(logits["index"]).size
    except (RuntimeError, ValueError) as error:
        sys.stderr.write(f"\n{' '.join(str(error).split())}\n")
        return REFUSED
    sys.stdout.write(f"{count}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
