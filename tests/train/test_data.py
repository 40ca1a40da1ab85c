"""Advice on the batch, whose views fill the lanes of TPUs."""

import re

import pytest

from clef_jax.train.data import advise_batch_size


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_only_tpus_have_lanes_to_fill(platform):
    assert all(advise_batch_size(batch, 1, platform) is None for batch in range(1, 300))


@pytest.mark.parametrize("devices", [1, 4, 16])
def test_a_batch_that_leaves_lanes_empty_is_told_what_costs_the_same(devices):
    for records in range(1, 300):
        advice = advise_batch_size(records * devices, devices, "tpu")
        lanes = 2 * records
        while lanes % 128:
            lanes += 2
        if lanes == 2 * records:
            assert advice is None
        else:
            batch, same, _, _, _, multiple = map(int, re.findall(r"\d+", advice))
            assert batch == records * devices and same == lanes // 2 * devices
            assert multiple == 64 * devices


def test_the_sentence():
    assert advise_batch_size(48, 1, "tpu") == (
        "config.batch_size 48 takes no less time a step than 64 on 1 TPU device, whose lanes hold "
        "128 views, 64 records, each; use a multiple of 64"
    )
