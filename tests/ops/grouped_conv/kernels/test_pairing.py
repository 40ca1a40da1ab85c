"""The pairs of inputs and outputs, counted one by one."""

import collections

import pytest

from clef_jax.ops.grouped_conv.kernels.pairing import SPAN, STEP, Pairing

SHAPES = [
    (samples, taps, stride)
    for samples in (1, 7, 8, 9, 40, 157, 313)
    for taps in (1, 5, 16, 33)
    for stride in (1, 2, 4)
    if stride <= taps
]


def pairing_of(samples, taps, stride):
    outputs = -(-samples // stride)
    return Pairing(samples, taps, stride, max(0, (outputs - 1) * stride + taps - samples) // 2)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_input_meets_every_output_that_sees_it_once(shape):
    pairing = pairing_of(*shape)
    found = collections.Counter()
    for block in range(pairing.steps * STEP):
        for row in range(pairing.rows):
            for column in range(SPAN):
                tap = pairing.tap(row) + column
                source, target = block * SPAN + column, pairing.first_row(block) + row
                inside = 0 <= target < pairing.outputs and source < pairing.samples
                if inside and 0 <= tap < pairing.taps:
                    found[source, target, tap] += 1
    expected = {
        (target * pairing.stride + tap - pairing.padding, target, tap)
        for target in range(pairing.outputs)
        for tap in range(pairing.taps)
    }
    assert found == collections.Counter(p for p in expected if 0 <= p[0] < pairing.samples)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rows_left_out_of_a_product_see_none_of_its_columns(shape):
    pairing = pairing_of(*shape)
    for start in range(SPAN):
        for stop in range(start + 1, SPAN + 1):
            seeing = {
                row
                for row in range(pairing.rows)
                for column in range(start, stop)
                if 0 <= pairing.tap(row) + column < pairing.taps
            }
            assert seeing <= set(pairing.rows_seeing(start, stop))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_steps_inside_meet_no_padding_and_all_others_do(shape):
    pairing = pairing_of(*shape)
    for step in range(pairing.steps):
        blocks = range(step * STEP, (step + 1) * STEP)
        rows = [pairing.first_row(b) + row for b in blocks for row in range(pairing.rows)]
        whole = min(rows) >= 0 and max(rows) < pairing.outputs
        whole = whole and (step + 1) * STEP * SPAN <= pairing.samples
        assert (step in pairing.inside()) == whole
