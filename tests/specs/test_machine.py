"""Architectures by their names on several systems, and the machine that a document recorded."""

from __future__ import annotations

import platform

import pytest

from tcs_edge.profiling.device.machine import describe_machine
from tcs_edge.specs.machine import (
    RecordedMachine,
    architecture,
    architecture_of_isa,
    latency_origin,
    not_of_target,
    other_architecture,
    recorded_machine,
)
from tcs_edge.specs.target import list_targets, load_target

ARM64 = ("aarch64", "arm64", "ARM64", "arm64-v8a", "armv8l", " AArch64 ")
ARM32 = ("armv7l", "armv6l", "armhf", "arm")
X86_64 = ("x86_64", "AMD64", "amd64", "x86-64", "x64")


@pytest.mark.parametrize(("names", "expected"), [(ARM64, "64-bit Arm"), (ARM32, "32-bit Arm"), (X86_64, "x86-64")])
def test_systems_name_one_architecture_differently(names, expected):
    assert {architecture(name) for name in names} == {expected}


@pytest.mark.parametrize("name", ["i686", "i386", "x86"])
def test_32_bit_x86_is_not_x86_64(name):
    assert architecture(name) == "32-bit x86"


@pytest.mark.parametrize("name", [*ARM32, *X86_64, "i686", "riscv64", "ppc64le", "aarch64_be", "an aarch64", "", "?"])
def test_only_64_bit_arm_counts_for_an_arm_target(name):
    machine = RecordedMachine("a board", name)
    assert other_architecture(machine, "armv8.2-a") == "64-bit Arm"
    assert "a board" in not_of_target(machine, "armv8.2-a")


@pytest.mark.parametrize("name", ARM64)
def test_64_bit_arm_counts_for_an_arm_target_only(name):
    machine = RecordedMachine("a board", name)
    assert not_of_target(machine, "armv8.0-a") == ""
    assert other_architecture(machine, "x86-64-v3") == "x86-64"


def test_every_shipped_target_has_a_known_architecture():
    assert {architecture_of_isa(load_target(name).cpu.isa) for name in list_targets()} == {"64-bit Arm", "x86-64"}


@pytest.mark.parametrize(
    ("facts", "device", "name"),
    [
        ({"device": "Raspberry Pi 5", "architecture": "aarch64", "system": "Linux-6.6-x86_64-with-glibc2.36"},
         "Raspberry Pi 5", "aarch64"),
        ({"cpu": "Apple M2", "system": "Darwin arm64"}, "Apple M2", "arm64"),
        ({"cpu": "AMD Ryzen", "system": "Windows AMD64"}, "AMD Ryzen", "AMD64"),
        ({"device": "Raspberry Pi 5", "system": "Linux-6.6.31-aarch64-with-glibc2.36"}, "Raspberry Pi 5", None),
        ({"device": "Raspberry Pi 5"}, "Raspberry Pi 5", None),
        ({"architecture": ""}, None, None),
        ({"architecture": ["aarch64"], "device": 5}, None, None),
        ({}, None, None),
    ],
)  # fmt: skip
def test_the_recorded_machine(facts, device, name):
    assert recorded_machine(facts) == RecordedMachine(device, name)


def test_the_architecture_of_this_machine_is_recorded():
    assert recorded_machine(describe_machine(())).architecture == platform.machine()


def test_a_long_name_is_cut():
    assert len(str(recorded_machine({"device": "x" * 10_000, "architecture": "y" * 10_000}))) < 250


@pytest.mark.parametrize(
    ("machine", "isa"), [(RecordedMachine("a board"), "armv8.0-a"), (RecordedMachine("a board", "aarch64"), None)]
)
def test_without_a_recorded_architecture_a_latency_does_not_count(machine, isa):
    assert "without a recorded architecture" in not_of_target(machine, isa)


def test_a_measurement_has_its_machine_behind_the_source():
    machine = RecordedMachine("Raspberry Pi 4 Model B", "aarch64")
    assert latency_origin("measured", machine) == "measured on Raspberry Pi 4 Model B (aarch64)"
    assert latency_origin("estimated", RecordedMachine()) == "estimated"
