"""Tests of deterministic and compiled training: restored switches and one-line errors."""

import pytest
import torch

from tcs_edge.errors import MissingError, UsageError
from tcs_edge.training.modes import deterministic, require_compiler, tensor_float_32


def switches():
    return torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic


@pytest.mark.parametrize("wanted", [True, False])
def test_the_switches_are_set_only_inside_the_block(wanted):
    before = switches()
    with deterministic(wanted):
        assert switches() == ((True, True) if wanted else before)
    with pytest.raises(ZeroDivisionError), deterministic(wanted):
        _ = 1 / 0
    assert switches() == before


def test_error_names_an_operation_without_deterministic_algorithm():
    before = switches()
    with (
        pytest.raises(UsageError, match=r"--deterministic: put_.*leave --deterministic out") as caught,
        deterministic(True),
    ):
        torch.zeros(3).put_(torch.tensor([1]), torch.ones(1))
    assert "\n" not in str(caught.value)
    assert switches() == before


def test_other_errors_are_raised_unchanged():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), deterministic(True):
        _ = torch.ones(2, 3) @ torch.ones(2, 3)


@pytest.mark.slow
def test_error_of_a_missing_compiler_names_what_to_install():
    from torch._inductor import config

    with config.patch({"cpp.cxx": ("/nowhere/g++",)}), pytest.raises(MissingError, match="--compile") as caught:
        require_compiler(torch.device("cpu"))
    assert "Install a C++ compiler such as g++" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("device", "inside"), [("cuda", "high"), ("cpu", "highest")])
def test_a_gpu_multiplies_as_tf32_inside_the_block_only(device, inside):
    assert torch.get_float32_matmul_precision() == "highest"
    with tensor_float_32(torch.device(device)):
        assert torch.get_float32_matmul_precision() == inside
    with pytest.raises(ZeroDivisionError), tensor_float_32(torch.device(device)):
        _ = 1 / 0
    assert torch.get_float32_matmul_precision() == "highest"
