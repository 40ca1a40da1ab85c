"""Noise like the recorded kinds, from random numbers."""

import numpy as np
import scipy.io
import scipy.signal

from clef_jax.data.noise.bank import NoiseBank, _bank_of_orthogonal
from clef_jax.data.signals import resample

# Muscle noise reaches 150 Hz, whatever rate is wanted.
_FS = 500.0


def simulate_noise_bank(seed: int, seconds: float, bank_fs: float) -> NoiseBank:
    """Simulates a bank shaped like the three recorded kinds.

    Motion is muscle noise, 20 to 150 Hz, in bursts; electrode is sudden offsets that decay, over
    low-frequency noise; baseline wander lies below 1 Hz with a breathing component. X, Y, Z are
    independent; standard deviations are those of the recorded noise.

    Args:
        seed: Of the random numbers; the bank is a function of seed, seconds and rate.
        seconds: Its length, at least 10.
        bank_fs: Its sampling rate, Hz.
    """
    rng = np.random.default_rng(seed)
    samples = round(seconds * _FS)
    orthogonal = {
        "motion": 0.17 * _muscle_noise(rng, samples),
        "electrode": 0.45 * _electrode_noise(rng, samples),
        "baseline_wander": 0.33 * _baseline_wander(rng, samples),
    }
    orthogonal = {kind: resample(xyz, _FS, bank_fs) for kind, xyz in orthogonal.items()}
    source = f"simulated (seed {seed}, {seconds:g} s)"
    return _bank_of_orthogonal(orthogonal, bank_fs, source, "the bank")


def _unit(noise):
    return noise / noise.std(axis=-1, keepdims=True)


def _coloured(rng, samples, amplitude):
    """Three channels of Gaussian noise with spectrum `amplitude(frequency in Hz)`, SD 1."""
    spectrum = np.fft.rfft(rng.standard_normal((3, samples)))
    frequency = np.fft.rfftfreq(samples, 1 / _FS)
    return _unit(np.fft.irfft(spectrum * amplitude(frequency), samples))


def _muscle_noise(rng, samples):
    tone = _coloured(rng, samples, lambda f: (f > 20) & (f < 150))
    # Contractions last a second or two; between them some tone remains.
    effort = _coloured(rng, samples, lambda f: f < 0.4)
    return _unit(tone * (0.25 + np.exp(effort)))


def _electrode_noise(rng, samples):
    offsets = np.zeros((3, samples))
    for decay_s in (0.2, 1.5):
        jumps = rng.standard_normal((3, samples)) * (rng.random((3, samples)) < 0.5 / _FS)
        decay = np.exp(-1 / (decay_s * _FS))
        offsets += scipy.signal.lfilter([1.0], [1.0, -decay], jumps)
    slow = _coloured(rng, samples, lambda f: (f > 0.05) * (f < 10) / np.maximum(f, 0.5))
    return _unit(_unit(offsets) + 0.7 * slow)


def _baseline_wander(rng, samples):
    drift = _coloured(rng, samples, lambda f: (f > 0.02) * (f < 1) / np.maximum(f, 0.1))
    breathing = _coloured(rng, samples, lambda f: (f > 0.2) & (f < 0.35))
    return _unit(drift + 0.6 * breathing)
