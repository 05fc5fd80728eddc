"""The texts of a bundle: requirements.txt, LICENSES.md, README.md."""

from __future__ import annotations

import PIL

from tcs_edge.runs.licenses import licenses_of
from tcs_edge.runs.schema import Manifest
from tcs_edge.specs.target import RuntimeName

# Run on x86-64 and on aarch64 with Python 3.11; it and all pinned runtimes have wheels for 3.11 to 3.13.
NUMPY = "2.2.6"


def pinned_packages(manifest: Manifest, runtime: RuntimeName) -> dict[str, str]:
    """Name and version of every package to install on the device.

    The runtime's version is the one that the target pins, for others may crash there; without a pin it is the
    one that the run was proven with. Pillow's is the one at hand, which made the golden inputs: since 13.0 it
    resizes tall pictures in another order, and rounds them differently.
    """
    pinned = manifest.target.get("runtimes", {}).get(runtime, {}).get("pin")
    return {"numpy": NUMPY, "pillow": PIL.__version__, runtime: pinned or manifest.versions[runtime]}


def requirements_text(packages: dict[str, str]) -> str:
    """requirements.txt: one pinned package per line."""
    return "".join(f"{name}=={version}\n" for name, version in packages.items())


def license_notes(manifest: Manifest) -> str:
    """LICENSES.md: what bears on the model, and what the scripts may be used for."""
    lines = [f"- {license}" for license in licenses_of(manifest)]
    return "\n".join(
        (
            "# Licenses",
            "",
            "The model was made from these; whoever passes it on keeps to them:",
            "",
            *lines,
            "",
            '"unknown" means that nobody stated one, not that there is none. Some teachers forbid commercial use.',
            "",
            "`predict.py` and `selfcheck.py`: Apache-2.0, as tcs-edge.",
            "",
        )
    )


def readme_text(manifest: Manifest, runtime: RuntimeName, packages: dict[str, str]) -> str:
    """README.md: how to install, check and use the bundle on its device."""
    pins = ", ".join(f"{name} {version}" for name, version in packages.items())
    title = manifest.target.get("title", "this device")
    return f"""# {manifest.student.name} for {title}

Copy this folder to the device. It needs Python 3.11 to 3.13 with {pins}, and nothing else.

```
python3 -m venv .venv && .venv/bin/pip install -r requirements.txt
.venv/bin/python selfcheck.py
.venv/bin/python predict.py photo.jpg --top 3
```

`selfcheck.py` verifies every file's sha256, prepares the golden pictures, compares the model's answers with the proven
ones, and measures the latency here. It exits with 0 if all holds, and writes `selfcheck.json`; on the machine that made
this bundle, `tcs-edge gate RUN --selfcheck selfcheck.json` holds the measured latency against the limits.

| file | what |
|---|---|
| the model, `labels.txt`, `preprocess.json` | for {runtime}; one class name per line; how pictures are prepared |
| `predict.py`, `selfcheck.py` | plain Python scripts; `predict.Classifier` is for your own program |
| `golden.npz` | test pictures with the inputs and logits that belong to them |
| `bundle.json`, `SHA256SUMS` | what this is; the hash of every file (`sha256sum -c SHA256SUMS`) |
| `MODEL_CARD.md`, `bom.cdx.json`, `LICENSES.md` | results and limits; bill of materials (CycloneDX); licenses |
"""
