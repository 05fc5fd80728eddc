"""Write the folder of `tcs-edge bundle-profiler`, which measures students on a device without torch."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from pathlib import Path

from tcs_edge.errors import UsageError
from tcs_edge.profiling import device
from tcs_edge.profiling.device.graphs import Key
from tcs_edge.profiling.device.main import BUNDLE_FILE, MODELS
from tcs_edge.profiling.graphs import export_graphs
from tcs_edge.specs.target import RuntimeName, TargetSpec, list_targets
from tcs_edge.utils.files import sha256_file, write_bytes, write_json, write_text

logger = logging.getLogger(__name__)

RUNTIME: RuntimeName = "onnxruntime"
SCRIPT, RESULT = "profile_device.py", "result.json"

STARTER = '''"""Measure the models of this bundle on this device: python profile_device.py --help."""

import sys
from pathlib import Path

try:
    from device.main import main
except ImportError as error:
    print(f"error: {error}. Install the packages of requirements.txt.", file=sys.stderr)
    sys.exit(2)

sys.exit(main(Path(__file__).resolve().parent))
'''

README = """# Latency of {count} models on {title}

This folder measures latencies on the device. It needs Python 3.9 or newer, NumPy and onnxruntime. The models have
random weights, because latency does not depend on them.

    python3 -m venv .venv && .venv/bin/pip install -r requirements.txt
    .venv/bin/python profile_device.py --out result.json

Close other programs, and let the device warm up as in normal use. After Ctrl-C, run the same command to continue.
Noisy latencies are measured again. If they stay noisy, they are left out and the exit code is 1.

Copy result.json to the computer with tcs-edge, and merge it there:

    {merge}
"""


def bundle_profiler(
    target: TargetSpec,
    models: Sequence[str],
    img_sizes: Sequence[int],
    precisions: Sequence[str],
    out: Path,
    threads: Sequence[int] = (),
) -> tuple[Path, ...]:
    """Write the bundle into the new or empty folder `out`; return its model files.

    A model that cannot be exported is left out, with a warning.

    Args:
        threads: thread counts to measure with; empty for 1 and the target's own.

    Raises:
        UsageError: `out` is not empty, or no model can be exported.
        MissingError: the disk is full, or the folder is not writable.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} already exists. Choose a new or empty folder for --out.")
    keys = [
        Key(model, size, RUNTIME, target.threads, precision)
        for model in models
        for size in img_sizes
        for precision in precisions
    ]
    failed = export_graphs(keys, out / MODELS)
    for name, why in failed.items():
        logger.warning(f"left out: {name}: {why}")
    bundled = [key for key in keys if key.graph_name not in failed]
    if not bundled:
        raise UsageError("no model could be exported. Choose another --model or --img-size.")
    _write_program(out)
    _write_texts(out, target, bundled, threads or (1, target.threads))
    return tuple(out / MODELS / key.graph_name for key in bundled)


def _write_program(out: Path) -> None:
    """Copy the measuring code, which `tcs-edge profile` runs as well."""
    write_text(out / SCRIPT, STARTER)
    for source in sorted(Path(device.__path__[0]).glob("*.py")):
        write_bytes(out / "device" / source.name, source.read_bytes())


def _write_texts(out: Path, target: TargetSpec, keys: Sequence[Key], threads: Sequence[int]) -> None:
    spec = target.runtimes.get(RUNTIME)
    write_text(out / "requirements.txt", f"{RUNTIME}{f'=={spec.pin}' if spec else ''}\nnumpy\n")
    merge = merge_command(target)
    write_text(out / "README.md", README.format(count=len(keys), title=target.title, merge=merge))
    graphs = [
        {
            "model": key.model,
            "img_size": key.img_size,
            "precision": key.precision,
            "file": key.graph_name,
            "sha256": sha256_file(out / MODELS / key.graph_name),
        }
        for key in keys
    ]
    document = {
        "schema_version": 1,
        "target": target.name,
        "merge": merge,
        "threads": sorted({*threads}),
        "graphs": graphs,
        "float_precision": {"openvino": "fp16"} if target.cpu.openvino_in_float16 else {},
    }
    write_json(out / BUNDLE_FILE, document)


def merge_command(target: TargetSpec) -> str:
    """Return the command that merges the result with the profile of the target."""
    words = ["tcs-edge", "profile", "merge", *([Path(target.profile).name] if target.profile else []), RESULT]
    if target.name not in list_targets():
        words += ["--target", f"{target.name}.toml"]
    return shlex.join([*words, "--out", "mine.json"])
