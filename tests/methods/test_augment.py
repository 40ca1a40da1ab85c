"""Augmentation: each effect by itself, and that a row's draw depends on seed, step and row only."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clef_jax.methods import augment, row_keys

SAMPLES, VIEWS = 1000, 4000
KINDS, LEADS = 4, 15


SIGNAL_CYCLES, SIGNAL_MV, LEAD = 200, 0.5, 3
NOISE_CYCLES = 5 + np.arange(KINDS * LEADS).reshape(KINDS, LEADS)


@pytest.fixture(scope="module")
def views():
    """Many views of one sine; each kind of noise, in each lead, is a sine of its own frequency."""
    time = 2 * np.pi * np.arange(3 * SAMPLES) / SAMPLES
    noise = 40 * np.sin(NOISE_CYCLES[:, :, None] * time) + 7
    x_mv = SIGNAL_MV * np.sin(SIGNAL_CYCLES * time[:SAMPLES])
    keys = jax.random.split(jax.random.key(0), VIEWS)
    over_keys = jax.jit(jax.vmap(augment.augment_view, in_axes=(0, None, None, None)))
    return np.asarray(
        over_keys(keys, x_mv.astype(np.float32), jnp.int32(LEAD), noise.astype(np.float32))
    )


def constant_run(view):
    """Length of the longest run of one repeated value."""
    edges = np.flatnonzero(np.diff(view) != 0)
    return np.diff(np.r_[-1, edges, view.size - 1]).max()


@pytest.fixture(scope="module")
def unmasked_spectra(views):
    whole = views[[constant_run(view) < 20 for view in views]]
    return np.abs(np.fft.rfft(whole, axis=1))


def test_views_are_z_scored(views):
    np.testing.assert_allclose(views.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(views.std(axis=1), 1, atol=1e-4)


def test_a_fifth_has_a_zeroed_run_of_10_to_30_percent(views):
    lengths = np.array([constant_run(view) for view in views])
    masked = lengths[lengths > 20]
    assert abs(masked.size / VIEWS - 0.2) < 0.02
    assert 0.1 * SAMPLES <= masked.min() < 0.11 * SAMPLES
    assert 0.29 * SAMPLES < masked.max() <= 0.3 * SAMPLES + 2


def test_each_kind_of_noise_and_none_are_equally_likely_and_of_the_views_own_lead(unmasked_spectra):
    lines = unmasked_spectra[:, NOISE_CYCLES[:, LEAD]]
    present = lines > 0.01 * unmasked_spectra[:, [SIGNAL_CYCLES]]
    assert (present.sum(axis=1) <= 1).all()
    np.testing.assert_allclose(present.mean(axis=0), 0.2, atol=0.025)
    elsewhere = np.delete(unmasked_spectra, [0, SIGNAL_CYCLES, *NOISE_CYCLES[:, LEAD]], axis=1)
    assert elsewhere.max() < 1e-3 * unmasked_spectra[:, SIGNAL_CYCLES].min()


def test_noise_has_a_standard_deviation_of_a_tenth_of_a_millivolt(unmasked_spectra):
    loudest = unmasked_spectra[:, NOISE_CYCLES[:, LEAD]].max(axis=1)
    ratio = loudest / unmasked_spectra[:, SIGNAL_CYCLES]
    noisy = ratio[ratio > 0.01]
    np.testing.assert_allclose(noisy, 0.1 * 2**0.5 / SIGNAL_MV, rtol=1e-3)


def test_a_rows_draw_depends_on_seed_step_and_row_alone():
    rng = np.random.default_rng(0)
    batch = {
        "ecg": rng.integers(-3000, 3000, (8, 2, 500)).astype(np.int16),
        "scale_mv": np.full((8, 2), 1e-3, np.float32),
        "lead": rng.integers(0, 12, (8, 2)).astype(np.int32),
    }
    noise = rng.normal(size=(4, 15, 2000)).astype(np.float32)

    def views(seed, step, rows):
        part = {name: jnp.asarray(a[np.asarray(rows)]) for name, a in batch.items()}
        keys = row_keys(seed, jnp.int32(step), jnp.asarray(rows))
        x = jax.jit(augment.augment_batch)(keys, part, noise)
        return np.asarray(x).reshape(len(rows), 2, 500)

    whole = views(1, 5, np.arange(8))
    others = np.asarray([7, 5, 0, 5, 2, 1, 6, 4])  # In another place, beside other rows, twice.
    np.testing.assert_allclose(whole[others], views(1, 5, others), atol=1e-5)
    for other in (views(2, 5, np.arange(8)), views(1, 6, np.arange(8))):
        assert not np.allclose(whole, other, atol=0.1)


def test_a_flat_lead_stays_finite():
    flat = jnp.zeros(SAMPLES)
    noise = jnp.zeros((KINDS, LEADS, SAMPLES))
    view = jax.jit(augment.augment_view)
    for seed in range(8):
        assert np.isfinite(view(jax.random.key(seed), flat, jnp.int32(0), noise)).all()
