"""Packed groups: the blocks of their kernels, and how many are packed."""

import numpy as np
import pytest

from clef_jax.ops.grouped_conv.packing import pack_kernel, pack_size, unpack_kernel


@pytest.mark.parametrize(
    ("channels", "groups", "expected"),
    [
        (4, 4, 4), (4, 8, 8), (4, 16, 16), (4, 32, 16), (16, 4, 4), (16, 10, 5), (16, 25, 5),
        (16, 64, 4), (48, 4, 2), (48, 64, 2), (64, 3, 1), (200, 2, 1), (1, 1, 1), (4, 37, 1),
    ],
)  # fmt: skip
def test_groups_are_packed_to_64_to_128_channels_where_they_divide(channels, groups, expected):
    assert pack_size(channels, groups) == expected


@pytest.mark.parametrize(("groups", "packed"), [(6, 6), (6, 3), (6, 2), (6, 1)])
def test_a_packed_kernel_has_its_groups_kernels_on_its_diagonal(groups, packed):
    taps, channels, width = 3, 2, 5
    kernel = np.random.default_rng(0).normal(size=(taps, channels, groups * width))
    kernel = kernel.astype(np.float32)
    size = groups // packed
    expected = np.zeros((taps, size * channels, groups * width), np.float32)
    for group in range(groups):
        rows = slice(group % size * channels, (group % size + 1) * channels)
        columns = slice(group * width, (group + 1) * width)
        expected[:, rows, columns] = kernel[:, :, columns]
    found = pack_kernel(kernel, groups, packed)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(unpack_kernel(found, groups, packed), kernel)
    # What lies beside the blocks is no part of the kernel's gradient.
    beside = np.where(expected == 0, 7, expected).astype(np.float32)
    np.testing.assert_array_equal(unpack_kernel(beside, groups, packed), kernel)
