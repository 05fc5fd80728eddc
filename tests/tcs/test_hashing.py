"""Tests of the hashing: packing against numpy, balance of the bits, and locality."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from tcs_edge.tcs.hashing import fit_hashing, pack, packed_bits, unpack


@given(rows=st.integers(1, 9), bits=st.integers(1, 70), seed=st.integers(0, 99))
def test_packing_equals_numpy_and_unpacking_inverts_it(rows, bits, seed):
    flags = np.random.default_rng(seed).random((rows, bits)) > 0.5
    packed = pack(torch.from_numpy(flags))
    np.testing.assert_array_equal(packed.numpy(), np.packbits(flags, axis=1, bitorder="little"))
    np.testing.assert_array_equal(unpack(packed, bits).numpy(), flags.astype(np.float32))


def test_every_bit_is_one_for_half_of_the_training_set():
    coordinates = torch.randn(1001, 16, generator=torch.Generator().manual_seed(0)) + 3
    hashing = fit_hashing(coordinates, 300, torch.Generator().manual_seed(1))
    bits = unpack(packed_bits(hashing, coordinates), 300)
    assert bits.shape == (1001, 300)
    assert ((bits.mean(dim=0) - 0.5).abs() < 0.01).all()


def test_bits_agree_more_for_neighbors_than_for_other_images():
    generator = torch.Generator().manual_seed(2)
    coordinates = torch.randn(200, 16, generator=generator)
    hashing = fit_hashing(coordinates, 512, torch.Generator().manual_seed(1))
    bits = unpack(packed_bits(hashing, coordinates), 512)
    near = unpack(packed_bits(hashing, coordinates + 0.05 * torch.randn(200, 16, generator=generator)), 512)
    assert (bits == near).float().mean() > 0.95
    assert (bits == bits.roll(1, dims=0)).float().mean() < 0.6


def test_the_same_seed_gives_the_same_hashing():
    coordinates = torch.randn(50, 4)
    first, second = (fit_hashing(coordinates, 64, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first.directions, second.directions)
    assert torch.equal(first.bias, second.bias)
