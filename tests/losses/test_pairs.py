"""Pairs whose columns are not the rows: other embeddings, more of them, with ids of their own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from clef_jax import hosts
from clef_jax.losses import info_nce, pairs, simclr_loss, tiles
from tests.oracles import losses as oracle

ROWS, QUEUE, DIM = 8, 13, 6
TEMPERATURE = 0.2


@pytest.fixture
def arrays():
    """Queries of two views of each subject, a key of each, and a queue, of whom some are these."""
    rng = np.random.default_rng(0)
    ids = rng.permutation(50)[:ROWS]
    return {
        "rows": rng.normal(size=(2, ROWS, DIM)),
        "keys": rng.normal(size=(ROWS, DIM)),
        "ids": ids,
        "queue": rng.normal(size=(QUEUE, DIM)),
        "queue_ids": np.r_[ids[:3], ids[1], 100 + np.arange(QUEUE - 4)],
    }


def contrast(rows, keys, ids, queue, queue_ids, axis_name=None):
    """MoCo's loss: the key of the row's subject against everyone's keys and a queue."""
    columns = jnp.concatenate([pairs.gather(keys, axis_name), queue])[None]
    column_ids = jnp.concatenate([pairs.gather(ids, axis_name), queue_ids])
    partners = jnp.broadcast_to(keys[None], rows.shape)
    found = pairs.make_pairs(rows, partners, columns, ids, column_ids, axis_name=axis_name)
    return info_nce(found, temperature=TEMPERATURE)


def expected_loss(rows, keys, ids, queue, queue_ids):
    columns, column_ids = np.concatenate([keys, queue]), np.r_[ids, queue_ids]
    return np.mean([
        oracle.info_nce(view, keys, columns, ids, column_ids, TEMPERATURE) for view in rows
    ])  # fmt: skip


def test_info_nce_of_rows_against_keys_and_a_queue_and_its_gradient(arrays, x64):
    function = jax.jit(jax.value_and_grad(contrast, has_aux=True))
    (actual, parts), gradient = function(*arrays.values())
    np.testing.assert_allclose(actual, expected_loss(**arrays), rtol=1e-12)
    expected = oracle.finite_differences(
        lambda rows: expected_loss(**arrays | {"rows": rows}), arrays["rows"]
    )
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-7)
    distances = [oracle.squared_distance(view, arrays["keys"]) for view in arrays["rows"]]
    np.testing.assert_allclose(parts["alignment"], np.mean(distances), rtol=1e-12)


@pytest.mark.parametrize("rows_of_a_tile", [pytest.param(100, marks=pytest.mark.slow), 1])
def test_four_devices_equal_one_whatever_the_tiles(arrays, x64, monkeypatch, rows_of_a_tile):
    gradients = jax.jit(jax.value_and_grad(contrast, argnums=(0, 1, 3), has_aux=True))
    expected = gradients(*arrays.values())
    monkeypatch.setattr(tiles, "_PAIRS_PER_TILE", rows_of_a_tile * (ROWS + QUEUE))
    sharded = jax.shard_map(
        functools.partial(contrast, axis_name="data"),
        mesh=hosts.data_mesh(jax.devices()[:4]),
        in_specs=(P(None, "data"), P("data"), P("data"), P(), P()),
        out_specs=P(),
    )
    actual = jax.jit(jax.value_and_grad(sharded, argnums=(0, 1, 3), has_aux=True))(*arrays.values())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), expected, actual)


def test_a_queue_alone_has_its_gradient_summed_over_devices(x64):
    rng = np.random.default_rng(3)
    rows, keys, queue = (rng.normal(size=(1, n, DIM)) for n in (ROWS, ROWS, QUEUE))

    def loss(rows, keys, queue, axis_name=None):
        own, others = jnp.arange(rows.shape[1]), jnp.full(QUEUE, -1)
        found = pairs.make_pairs(rows, keys, queue, own, others, axis_name=axis_name)
        return info_nce(found, temperature=TEMPERATURE)[0]

    sharded = jax.shard_map(
        functools.partial(loss, axis_name="data"),
        mesh=hosts.data_mesh(jax.devices()[:4]),
        in_specs=(P(None, "data"), P(None, "data"), P()),
        out_specs=P(),
    )
    expected, actual = (
        jax.jit(jax.value_and_grad(f, argnums=(0, 1, 2)))(rows, keys, queue)
        for f in (loss, sharded)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), expected, actual)


def test_simclr_is_info_nce_of_a_batchs_views_with_each_other(x64):
    z = np.random.default_rng(1).normal(size=(2 * ROWS, DIM))
    rows = z.reshape(ROWS, 2, DIM).swapaxes(0, 1)
    ids = np.arange(ROWS)
    found = pairs.make_pairs(rows, rows[::-1], rows, ids, ids)
    expected, _ = simclr_loss(z, temperature=TEMPERATURE)
    np.testing.assert_allclose(info_nce(found, temperature=TEMPERATURE)[0], expected, rtol=1e-12)


def test_a_row_without_negatives_costs_nothing_and_keeps_a_finite_gradient():
    z = np.random.default_rng(2).normal(size=(1, 4, DIM)).astype(np.float32)

    def loss(rows):
        same = np.zeros(4, int)
        return info_nce(pairs.make_pairs(rows, z, z, same, same), temperature=0.1)[0]

    value, gradient = jax.jit(jax.value_and_grad(loss))(z[:, ::-1])
    assert value == 0 and np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"partners": np.ones((2, 3, 5))}, r"partners must be \[2, 4, 5\].*found \[2, 3, 5\]"),
        ({"columns": np.ones((1, 9, 6))}, r"columns must be \[1, 9, 5\].*found \[1, 9, 6\]"),
        ({"row_ids": np.arange(9)}, r"row_ids must be \[4\].*found \[9\]"),
        ({"column_ids": np.arange(4)}, r"column_ids must be \[9\].*found \[4\]"),
    ],
)
def test_shapes_that_disagree_are_refused(changed, message):
    given = {
        "rows": np.ones((2, 4, 5)),
        "partners": np.ones((2, 4, 5)),
        "columns": np.ones((1, 9, 5)),
        "row_ids": np.arange(4),
        "column_ids": np.arange(9),
    }
    pairs.make_pairs(**given)
    with pytest.raises(ValueError, match=message):
        pairs.make_pairs(**given | changed)
