"""Harnesses of what people write: targets, profiles, project files, and plain JSON and TOML."""

from __future__ import annotations

import json
from pathlib import Path

from mutate import SPLIT
from readers import Read, Reader

from tcs_edge.specs.locate import shipped_files

EXTENDED = b'name = "mine"\ntitle = "Mine"\nextends = "other.toml"\nthreads = 2\n[limits]\nmax_latency_ms = 30\n'
OTHER = b'extends = "raspberrypi5"\nprofile = "profile.json"\n[cpu]\ncores = 4\n'
PROJECT = b"""target = "raspberrypi4"
data = "photos"
epochs = 3
precision = ["fp32", "int8"]
[train]
mixup = 0.2
[tcs]
soft_share = 0.5
[gate]
max_size_mb = { fail = 5.0, warn = 4.5 }
min_accuracy = 0.9
baseline = "git:origin/main:gate.json"
[gate.change]
size_mb = "5 %"
accuracy = 0.01
"""
PYPROJECT = b"""[project]
name = "x"
[tool.tcs-edge.gate]
max_size_mb = 5
[tool.tcs-edge.gate.change]
size_mb = { fail = "5 %", warn = 0.1 }
"""


def _json(_: Path) -> Read:
    from tcs_edge.utils.reading import parse_json

    return lambda content: parse_json(content, "a.json")


def _targets(folder: Path) -> Read:
    from tcs_edge.specs.profile import load_profile
    from tcs_edge.specs.target import int8_outlook, load_target

    def read(content: bytes) -> None:
        first, _, second = content.partition(SPLIT)
        (folder / "mine.toml").write_bytes(first)
        (folder / "other.toml").write_bytes(second)
        target = load_target(folder / "mine.toml")
        int8_outlook(target)
        if target.profile:
            load_profile(target.profile)

    return read


def _profile(folder: Path) -> Read:
    from tcs_edge.latency.plausibility import require_plausible
    from tcs_edge.profiling.merge import merge_profiles, read_results
    from tcs_edge.specs.profile import save_profile
    from tcs_edge.specs.target import load_target

    path = folder / "profile.json"
    target = load_target("raspberrypi4")

    def read(content: bytes) -> None:
        path.write_bytes(content)
        profile = read_results(str(path), "raspberrypi4")
        merged = merge_profiles([profile, profile], ["a", "b"])
        save_profile(merged, folder / "merged.json")
        require_plausible(profile, target, "a")

    return read


def _project(folder: Path) -> Read:
    from tcs_edge.project.read import find_limits, read_options
    from tcs_edge.specs.config import config_toml
    from tcs_edge.specs.defaults import with_data_defaults

    def read(content: bytes) -> None:
        first, _, second = content.partition(SPLIT)
        (folder / "tcs-edge.toml").write_bytes(first)
        (folder / "pyproject.toml").write_bytes(second)
        options = read_options({}, folder / "tcs-edge.toml", None)
        config_toml(options)
        config_toml(with_data_defaults(options, 64))
        find_limits(folder, {"max_size_mb": 3.0, "change": {"size_mb": "5 %"}})

    return read


def _shipped(kind: str, smallest: int) -> list[bytes]:
    found = sorted((path.read_bytes() for path in shipped_files(kind).values()), key=len)
    return found[:smallest]


def _small_profiles(_: Path) -> list[bytes]:
    kept = []
    for content in _shipped("profiles", 3):
        document = json.loads(content)
        document["rows"] = document["rows"][:3]
        document["citations"] = {row["citation"]: "c" for row in document["rows"]}
        kept.append(json.dumps(document).encode())
    row = {"model": "a", "img_size": 32, "runtime": "openvino", "threads": 1, "precision": "fp32", "p50_ms": 1.0,
           "p90_ms": 2.0}  # fmt: skip
    check = {"verdict": "pass", "target": "raspberrypi4", "measured": "2026-01-02T03:04:05",
             "machine": {"device": "d", "architecture": "aarch64"}, "rows": [row]}  # fmt: skip
    return [*kept, json.dumps(check).encode()]


def _texts(_: Path) -> list[bytes]:
    return [b'{"a": [1, 2.5, null, true, "x"], "b": {"c": "\\u00e9"}}', b"[]", b'"x"', b"-1.5e3", *_small_profiles(_)]


READERS = (
    Reader("json", "json", _texts, _json, share=12),
    Reader("target", "toml", lambda _: [c + SPLIT for c in _shipped("targets", 4)] + [EXTENDED + SPLIT + OTHER],
           _targets, share=3),
    Reader("profile", "json", _small_profiles, _profile, share=4),
    Reader("project", "toml", lambda _: [PROJECT + SPLIT, b'target = "raspberrypi4"' + SPLIT + PYPROJECT], _project,
           share=3),
)  # fmt: skip
