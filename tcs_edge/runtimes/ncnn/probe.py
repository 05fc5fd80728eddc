"""Load an ncnn model and run it once, in a process of its own: python probe.py MODEL.param SIDE.

ncnn has few checks, and ends the process on some damaged files. Prints the number of logits. Exits with 3 if ncnn
refuses the model; ncnn itself prints the reason on stderr. A SIDE of 0 loads the model without running it.
"""

from __future__ import annotations

import sys
from pathlib import Path

REFUSED = 3


def main(param: str, side: int) -> int:
    """Return the exit code."""
    import ncnn
    import numpy as np

    net = ncnn.Net()
    net.opt.use_vulkan_compute = False
    net.opt.num_threads = 1
    if net.load_param(param) or net.load_model(str(Path(param).with_suffix(".bin"))):
        return REFUSED
    if not side:
        return 0
    extractor = net.create_extractor()
    image = ncnn.Mat(np.zeros((3, side, side), dtype=np.float32))
    if extractor.input(net.input_names()[0], image):
        return REFUSED
    failed, logits = extractor.extract(net.output_names()[0])
    if failed or logits.empty():
        return REFUSED
    sys.stdout.write(f"{np.array(logits).size}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
