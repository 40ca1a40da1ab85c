"""The losses of heads against PyTorch's own, with labels that are not known, whole and split."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.sharding import PartitionSpec as P
from torch.nn import functional

from clef_jax import hosts
from clef_jax.losses import supervised

ROWS, LABELS = 12, 3


@pytest.fixture
def drawn():
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(ROWS, LABELS)).astype(np.float32) * 3
    targets = rng.integers(0, 2, (ROWS, LABELS)).astype(np.float32)
    values = rng.normal(size=(ROWS, LABELS)).astype(np.float32)
    classes = rng.integers(0, LABELS, ROWS).astype(np.float32)
    unknown = rng.random((ROWS, LABELS)) < 0.3
    return logits, targets, values, classes, unknown


def with_gradient(loss, logits):
    value, gradient = jax.value_and_grad(loss)(jnp.asarray(logits))
    return float(value), np.asarray(gradient)


def torch_gradient(loss, logits):
    variable = torch.tensor(logits, requires_grad=True)
    value = loss(variable)
    value.backward()
    return float(value.detach()), variable.grad.numpy()


def assert_same(found, expected):
    assert found[0] == pytest.approx(expected[0], rel=1e-6)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("weight", [None, [1.0, 4.0, 0.5]])
def test_binary_cross_entropy_of_known_labels_equals_torchs(drawn, weight):
    logits, targets, _, _, unknown = drawn
    known = torch.tensor(~unknown)
    pos_weight = None if weight is None else torch.tensor(weight)

    def expected(z):
        values = functional.binary_cross_entropy_with_logits(
            z, torch.tensor(targets), pos_weight=pos_weight, reduction="none"
        )
        return values[known].mean()

    masked = np.where(unknown, np.nan, targets)
    found = functools.partial(
        supervised.binary_cross_entropy, targets=jnp.asarray(masked), positive_weight=weight
    )
    assert_same(with_gradient(found, logits), torch_gradient(expected, logits))


@pytest.mark.parametrize("weight", [None, [1.0, 4.0, 0.5]])
def test_cross_entropy_of_known_classes_equals_torchs(drawn, weight):
    logits, _, _, classes, unknown = drawn
    known = ~unknown[:, 0]

    def expected(z):
        return functional.cross_entropy(
            z[torch.tensor(known)],
            torch.tensor(classes[known]).long(),
            weight=None if weight is None else torch.tensor(weight),
        )

    masked = jnp.asarray(np.where(known, classes, np.nan))
    found = functools.partial(supervised.cross_entropy, targets=masked, class_weight=weight)
    assert_same(with_gradient(found, logits), torch_gradient(expected, logits))


def test_regression_losses_of_known_targets_equal_torchs(drawn):
    found, _, values, _, unknown = drawn
    masked, known = jnp.asarray(np.where(unknown, np.nan, values)), torch.tensor(~unknown)
    target = torch.tensor(values)
    log_variance = np.linspace(-2, 2, LABELS, dtype=np.float32)[None].repeat(ROWS, axis=0)

    def gaussian(z):
        variance = torch.tensor(log_variance).exp()
        values = functional.gaussian_nll_loss(z, target, variance, reduction="none")
        return values[known].mean()

    pairs = [
        (supervised.absolute_error, lambda z: (z - target).abs()[known].mean()),
        (supervised.huber, lambda z: functional.huber_loss(z[known], target[known])),
        (
            lambda z, t: supervised.gaussian(z, jnp.asarray(log_variance), t),
            gaussian,
        ),
    ]
    for ours, theirs in pairs:
        of = functools.partial(lambda z, ours: ours(z, masked), ours=ours)
        assert_same(with_gradient(of, found), torch_gradient(theirs, found))


def test_focus_counts_by_the_squared_error_of_the_probability(drawn):
    logits, targets, _, classes, _ = drawn
    probability = 1 / (1 + np.exp(-logits.astype(float)))
    right = np.where(targets == 1, probability, 1 - probability)
    expected = np.mean((1 - right) ** 2 * -np.log(right))
    found = supervised.binary_cross_entropy(jnp.asarray(logits), jnp.asarray(targets), focus=2.0)
    assert float(found) == pytest.approx(expected, rel=1e-5)
    shares = np.exp(logits.astype(float))
    right = (shares / shares.sum(1, keepdims=True))[np.arange(ROWS), classes.astype(int)]
    expected = np.mean((1 - right) ** 2 * -np.log(right))
    found = supervised.cross_entropy(jnp.asarray(logits), jnp.asarray(classes), focus=2.0)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_nothing_known_is_no_loss_and_no_gradient(drawn):
    logits = drawn[0]
    nothing = jnp.full((ROWS, LABELS), jnp.nan)
    value, gradient = with_gradient(
        lambda z: supervised.binary_cross_entropy(z, nothing, focus=2.0), logits
    )
    assert value == 0 and not gradient.any()


def test_the_mean_is_the_global_batchs_however_the_known_lie(drawn):
    """On four devices, one of which knows nothing: no mean of means."""
    logits, targets, _, _, unknown = drawn
    unknown[: ROWS // 4] = True
    masked = jnp.asarray(np.where(unknown, np.nan, targets))
    mesh = hosts.data_mesh(jax.devices()[:4])
    split = jax.shard_map(
        functools.partial(supervised.binary_cross_entropy, axis_name=hosts.DATA_AXIS),
        mesh=mesh,
        in_specs=(P(hosts.DATA_AXIS), P(hosts.DATA_AXIS)),
        out_specs=P(),
    )
    whole = supervised.binary_cross_entropy(jnp.asarray(logits), masked)
    assert float(jax.jit(split)(jnp.asarray(logits), masked)) == pytest.approx(
        float(whole), rel=1e-6
    )
