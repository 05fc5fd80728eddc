"""Tests of the precision on each device, and of several precisions in one process."""

import os

import pytest
import torch

from tcs_edge.errors import UsageError
from tcs_edge.training import accelerator as module
from tcs_edge.training.accelerator import make_accelerator, settled_amp

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_auto_is_full_precision_on_a_cpu_and_bf16_or_fp16_on_a_gpu(monkeypatch):
    assert settled_amp("auto", CPU) == "no"
    for has, amp in ((True, "bf16"), (False, "fp16")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True, has=has: has)
        assert settled_amp("auto", CUDA) == amp


def test_unsupported_precisions_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
    with pytest.raises(UsageError, match=r"--amp fp16 does not work on a CPU\. Pass --amp bf16 or --amp no"):
        make_accelerator("cpu", "fp16")
    with pytest.raises(UsageError, match=r"no bfloat16\. Pass --amp fp16"):
        settled_amp("bf16", CUDA)


@pytest.mark.parametrize("amps", [("no", "bf16", "no"), ("bf16", "no", "bf16")])
def test_runs_of_one_process_can_differ_in_precision(amps):
    assert [make_accelerator("cpu", amp).mixed_precision for amp in amps] == list(amps)


def test_cards_without_direct_links_exchange_gradients_through_the_host(monkeypatch):
    """accelerate refuses several GeForce RTX 40 with an old driver, also in one process."""
    made, names = module.Accelerator, ("NCCL_P2P_DISABLE", "NCCL_IB_DISABLE")
    for name in names:
        monkeypatch.setenv(name, "0")

    def of_old_driver(**options):
        if os.environ[names[0]] != "1":
            raise NotImplementedError("Using RTX 4000 series doesn't support faster communication broadband via P2P")
        return made(**options)

    monkeypatch.setattr(module, "Accelerator", of_old_driver)
    assert make_accelerator("cpu", "bf16").mixed_precision == "bf16"
    assert [os.environ[name] for name in names] == ["1", "1"]


def test_autocast_uses_the_requested_precision():
    for amp, dtype in (("bf16", torch.bfloat16), ("no", torch.float32)):
        with make_accelerator("cpu", amp).autocast():
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is dtype
