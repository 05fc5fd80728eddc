"""Tests of the number of threads: one per free core, at least one."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcs_edge.utils import threads
from tcs_edge.utils.threads import free_cores, usable_cores, use_threads


def pretend(monkeypatch: pytest.MonkeyPatch, cores: int, quota: str | None, load: list[float]) -> None:
    def read(self: Path, *_args: object, **_options: object) -> str:
        if quota is None:
            raise FileNotFoundError(str(self))
        return quota

    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(cores)), raising=False)
    monkeypatch.setattr(threads.Path, "read_text", read)
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval, percpu: load)


@pytest.mark.parametrize(
    ("cores", "quota", "expected"),
    [
        (8, None, 8),
        (8, "max 100000\n", 8),
        (8, "200000 100000\n", 2),
        (2, "800000 100000\n", 2),
        (8, "50000 100000\n", 1),
        (4, "nonsense", 4),
        (4, "", 4),
    ],
)
def test_usable_cores_respect_affinity_and_quota(monkeypatch, cores, quota, expected):
    pretend(monkeypatch, cores, quota, [])
    assert usable_cores() == expected


@pytest.mark.parametrize(
    ("cores", "load", "expected"),
    [
        (4, [0, 0, 0, 0], 4),
        (4, [99, 0, 80, 10], 2),
        (4, [100, 100, 100, 100], 1),
        (2, [100, 0, 0, 0, 0, 0, 0, 0], 2),
    ],
)
def test_busy_cores_do_not_count(monkeypatch, cores, load, expected):
    pretend(monkeypatch, cores, None, load)
    assert free_cores() == expected


@given(st.lists(st.floats(0, 100), max_size=64), st.integers(1, 64))
def test_free_cores_are_at_least_one_and_at_most_usable(load, cores):
    with pytest.MonkeyPatch.context() as patch:
        pretend(patch, cores, None, load)
        assert 1 <= free_cores() <= cores


def test_use_threads_sets_torchs_number_of_threads():
    import torch

    before = torch.get_num_threads()
    try:
        use_threads(1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
