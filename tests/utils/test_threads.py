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
    ("group", "files", "expected"),
    [
        ("0::/a.slice/b c", {"a.slice/b c/cpu.max": "max 100000", "a.slice/cpu.max": "300000 100000"}, 3),
        ("0::/a.slice/b c", {"a.slice/b c/cpu.max": "200000 100000", "a.slice/cpu.max": "300000 100000"}, 2),
        ("4:cpu,cpuacct:/docker/1", {"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"}, 2),
        (
            "4:cpu:/job\n3:memory:/m",
            {"cpu/job/cpu.cfs_quota_us": "100000", "cpu/job/cpu.cfs_period_us": "50000", "m/cpu.max": "1 1"},
            2,
        ),
        ("4:cpu:/job", {"cpu/job/cpu.cfs_quota_us": "-1", "cpu/job/cpu.cfs_period_us": "100000"}, 8),
        ("0::/../..", {}, 8),
    ],
)
def test_quotas_of_both_versions_and_of_groups_around_count(monkeypatch, tmp_path, group, files, expected):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{content}\n")
    (tmp_path / "own").write_text(f"{group}\n")
    monkeypatch.setattr(threads, "CGROUPS", tmp_path)
    monkeypatch.setattr(threads, "OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)
    assert usable_cores() == expected


def test_affinity_counts_where_only_psutil_has_it(monkeypatch):
    class Process:
        def cpu_affinity(self):
            return [0, 1, 2]

    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(psutil, "Process", Process)
    monkeypatch.setattr(threads, "_cgroup_cores", lambda: iter(()))
    assert usable_cores() == 3


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
