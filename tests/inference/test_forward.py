"""An encoder on several devices: the work is shared, no row is lost, changed or out of place."""

import functools

import jax
import numpy as np
import pytest

from clef_jax import hosts
from clef_jax.inference.forward import (
    Forward,
    apply,
    apply_shared,
    batch_sizes,
    concatenate,
    default_rows_per_device,
    split_batches,
)
from clef_jax.models import ResNeXt1D
from tests.parameters import drawn

SAMPLES = 300
# All kinds of block, few of each: it compiles in seconds.
MODEL = ResNeXt1D(
    stem_width=8, ratio=0.5, stage_widths=(8, 16, 32), stage_blocks=(2, 1, 1), group_width=4
)
ROWS = np.random.default_rng(0).normal(size=(100, SAMPLES, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def params():
    return drawn(MODEL, ROWS[:1])


@pytest.fixture(scope="module")
def expected(params):
    """The model's own embeddings and stages of all rows, computed at once on one device."""
    embedding, state = jax.jit(functools.partial(MODEL.apply, mutable=["intermediates"]))(
        {"params": params}, ROWS
    )
    return embedding, {name: found[0] for name, found in state["intermediates"].items()}


def assert_close(found, expected, among=None):
    largest = np.abs(expected if among is None else among).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * largest)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3, 4, 31, 33, 70])
def test_any_number_of_rows_gives_the_models_embeddings_and_layers(params, expected, count):
    found = Forward(MODEL, params)(ROWS[:count], ("stage2", "stage0"))
    assert isinstance(found.embedding, np.ndarray) and found.embedding.flags.writeable
    assert_close(found.embedding, expected[0][:count])
    assert set(found.layers) == {"stage0", "stage2"}
    for name, layer in found.layers.items():
        assert_close(layer, expected[1][name][:count])


def test_no_rows_give_outputs_of_no_rows(params):
    found = Forward(MODEL, params)(ROWS[:0], ("stage0",))
    assert found.embedding.shape == (0, 32) and found.layers["stage0"].shape == (0, 75, 8)
    assert found.embedding.dtype == np.float32


def compiled(devices, params, x):
    mesh = hosts.data_mesh(jax.devices()[:devices])

    def placed(tree, sharding):
        return jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), tree
        )

    shapes = placed(params, hosts.replicated(mesh)), placed(x, hosts.split_rows(mesh))
    return apply_shared.lower(MODEL, (), mesh, *shapes).compile()


def test_each_of_four_devices_does_a_quarter_of_the_work(params):
    alone, four = compiled(1, params, ROWS[:32]), compiled(4, params, ROWS[:32])
    assert 0.24 < four.cost_analysis()["flops"] / alone.cost_analysis()["flops"] <= 0.27
    for collective in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
        assert collective not in four.as_text()


@pytest.mark.slow
def test_a_stream_gives_each_input_its_rows_in_order(params, expected):
    parts = [(9, 10), (9, 9), (10, 50), None, (98, 100), None, None, (0, 100), (50, 57), None]
    inputs = [part and ROWS[slice(*part)] for part in parts]
    found = list(Forward(MODEL, params).stream(inputs))
    assert len(found) == len(parts)
    for part, outputs in zip(parts, found, strict=True):
        if part is None:
            assert outputs is None
        else:
            assert_close(outputs.embedding, expected[0][slice(*part)], expected[0])


def test_a_stream_waits_for_no_more_inputs_than_it_needs(params):
    """Of full batches, two more than the one that is finished; for what needs none, nothing."""
    taken = []

    def inputs():
        for x in (None, *[ROWS[: 4 * default_rows_per_device()]] * 9):
            taken.append(x)
            yield x

    stream = Forward(MODEL, params).stream(inputs())
    assert next(stream) is None and len(taken) == 1
    assert len(next(stream).embedding) == 32 and len(taken) == 4


def test_batches_fill_up_across_inputs(params):
    """Inputs of one row: eight full batches, and the last row in one more of the same shape."""
    before = apply_shared._cache_size()
    forward = Forward(MODEL, params)
    found = list(forward.stream(np.split(ROWS[:65], 65), rows_per_device=2))
    assert len(found) == 65 and apply_shared._cache_size() - before <= 1


@pytest.mark.parametrize("cut", [1, 7, 63, 64, 65, 99])
def test_a_stream_after_another_gives_what_one_of_all_rows_gives(params, cut):
    """Bit for bit, though few rows are left for a batch, and they come in other portions."""
    forward = Forward(MODEL, params)
    (whole,) = forward.stream([ROWS], rows_per_device=16, after=0)
    rest = [ROWS[cut : cut + 1], ROWS[cut + 1 :], ROWS[:0]]
    found = list(forward.stream(rest, rows_per_device=16, after=cut))
    assert [len(outputs.embedding) for outputs in found] == [1, 99 - cut, 0]
    np.testing.assert_array_equal(concatenate(found).embedding, whole.embedding[cut:])


def addresses(tree):
    """Where in memory each device's whole copy of each array lies."""
    return [
        [shard.data.unsafe_buffer_pointer() for shard in leaf.addressable_shards]
        for leaf in jax.tree.leaves(tree)
    ]


def test_parameters_that_lie_on_the_devices_are_not_copied(params):
    """296 million of them would be 1.2 GB more on each."""
    mesh = hosts.data_mesh()
    # Computed there: devices of the CPU would share an array of NumPy that is put on them.
    double = functools.partial(jax.tree.map, lambda leaf: 2 * leaf)
    placed = jax.jit(double, out_shardings=hosts.replicated(mesh))(params)
    assert all(len(set(devices)) == 4 for devices in addresses(placed))
    assert addresses(hosts.replicate_here(placed, mesh)) == addresses(placed)


@pytest.mark.slow
def test_apply_is_the_same_within_a_callers_program(params, expected):
    """By itself, within jit and gradient, and shared among devices by the caller."""
    x = ROWS[:8]
    assert_close(apply(MODEL, (), params, x).embedding, expected[0][:8])

    def total(x, apply):
        return apply(params, x).embedding.sum()

    alone = functools.partial(total, apply=functools.partial(apply, MODEL, ()))
    shared = functools.partial(
        total, apply=functools.partial(apply_shared, MODEL, (), hosts.data_mesh())
    )
    slopes = jax.jit(jax.grad(alone))(x)
    assert np.abs(slopes).max() > 0
    assert_close(jax.jit(jax.grad(shared))(x), slopes)


@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize("largest", [1, 3, 64, 100])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 9, 33, 64, 65, 200])
def test_batches_cover_all_rows_once(count, largest, devices):
    sizes = batch_sizes(largest, devices)
    assert sizes[0] == largest * devices and sizes[-1] == devices
    assert all(size % devices == 0 for size in sizes)
    batches = list(split_batches(count, sizes))
    assert sum(real for real, _ in batches) == count
    assert all(0 < real <= size and size in sizes for real, size in batches)
    assert all(2 * real >= size for real, size in batches if size > sizes[-1])
