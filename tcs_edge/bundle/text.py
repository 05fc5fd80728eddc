"""Write the texts of a bundle: requirements.txt, LICENSES.md and README.md."""

from __future__ import annotations

import PIL

from tcs_edge.runs.licenses import licenses_of
from tcs_edge.runs.schema import Manifest
from tcs_edge.runtimes.registry import RUNTIMES

# Tested on x86-64 and aarch64 with Python 3.11. This version and all pinned runtimes have wheels for 3.11 to 3.13.
NUMPY = "2.2.6"
# Serves HTTP for serve.py: pure Python, without dependencies.
WAITRESS = "3.0.2"


def pinned_packages(manifest: Manifest, runtime: str) -> dict[str, str]:
    """Return the versions of the packages to install on the device, by name.

    The runtime has the version that the target pins, because others may crash there. Without a pin it has the
    version of the validation. Pillow has the installed version, which made the golden inputs: Pillow 13.0
    changed the order of resizing for tall images, and thus the rounding.
    """
    pinned = manifest.target.get("runtimes", {}).get(runtime, {}).get("pin")
    package = RUNTIMES[runtime].package or runtime
    versions = {"numpy": NUMPY, "pillow": PIL.__version__, package: pinned or manifest.versions[package]}
    return versions | {"waitress": WAITRESS}


def requirements_text(packages: dict[str, str]) -> str:
    """Format requirements.txt: one pinned package per line."""
    return "".join(f"{name}=={version}\n" for name, version in packages.items())


def license_notes(manifest: Manifest) -> str:
    """Format LICENSES.md: the licenses of the model's inputs and of the scripts."""
    lines = [f"- {license}" for license in licenses_of(manifest)]
    return "\n".join(
        (
            "# Licenses",
            "",
            "These licenses apply to the model. Follow them if you distribute it:",
            "",
            *lines,
            "",
            '"unknown" means that no license was declared. Some teachers forbid commercial use.',
            "",
            "The programs (`*.py`, `classifier.service`): Apache-2.0, like tcs-edge.",
            "",
        )
    )


def readme_text(manifest: Manifest, runtime: str, packages: dict[str, str]) -> str:
    """Format README.md: installation, self-check and use on the device."""
    pins = ", ".join(f"{name} {version}" for name, version in packages.items())
    title = manifest.target.get("title", "this device")
    known = "| `known_classes.npz` | embeddings of the model's own classes |\n" if manifest.student.embedding else ""
    return f"""# {manifest.student.name} for {title}

Copy this folder to the device, such as to `/opt/classifier`. It needs Python 3.11 to 3.13. One command installs {pins}
into a virtual environment of its own, and checks the model:

```
python3 -I install.py
.venv/bin/python -I classify.py ../photo.jpg --top 3
.venv/bin/python -I classify.py --watch ../inbox --csv --out ../answers.csv
.venv/bin/python -I serve.py --port 8080
```

`install.py --camera` also installs what `classify.py --camera 0` needs. `sudo python3 -I install.py --service` also
writes a systemd unit, which starts `serve.py` with the device. Every program explains its options with `--help`.

{_embedding_text(manifest)}Keep your own files out of this folder.
`selfcheck.py` verifies every file's sha256 and refuses other files. Then it
preprocesses the golden images, compares the model's outputs with the validated ones, and measures the latency.
It exits with 0 if all checks pass, otherwise with 1. It writes `selfcheck.json`. Copy this file to the
machine that made the bundle, to check the measured latency against the limits:
`tcs-edge gate RUN --selfcheck selfcheck.json`.

| file | content |
|---|---|
| the model, `labels.txt` | for {runtime}; one class name per line |
| `preprocess.json`, `confidence.json` | the preprocessing; the threshold for unknown images |
| `classify.py`, `serve.py` | classify files, folders, a watched folder or a camera; answer HTTP requests |
| `install.py`, `selfcheck.py` | install the packages; check files, model and latency |
| `edge_*.py` | parts of the programs; import `Classifier` from `edge_model.py` into your own program |
| `classifier.service` | systemd unit of `serve.py` |
| `similar.py`, `add_class.py` | find like images; add a class from photos (both for a model with an embedding) |
| `golden.npz` | test images with their inputs and outputs |
{known}| `bundle.json`, `SHA256SUMS` | description of the bundle; the hash of every file (`sha256sum -c SHA256SUMS`) |
| `MODEL_CARD.md`, `bom.cdx.json`, `LICENSES.md` | results and limits; bill of materials (CycloneDX); licenses |
"""


def _embedding_text(manifest: Manifest) -> str:
    """Format the programs of a model with an embedding; empty for others."""
    if manifest.student.embedding is None:
        return ""
    return """Find like images, or add a class from five photos or more:

```
.venv/bin/python -I similar.py --index ../photos.npz --make ../photos
.venv/bin/python -I similar.py --index ../photos.npz ../photo.jpg
.venv/bin/python -I add_class.py NAME ../photos-of-it
```

`add_class.py` writes `classes.json`, which `classify.py` and `serve.py` read when they start. The model stays as it is.
Delete `classes.json` to return to the model's own classes.

"""
