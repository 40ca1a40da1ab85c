"""Simulated 12-lead ECGs whose shape follows age, sex and cardiovascular risk factors.

Each wave (P, Q, R, S, T and the ST segment) is a Gaussian bump in time and a vector in space;
Dower's transform projects the vectors to the leads. Age, sex and risk factors act in the direction
known from population studies (blood pressure raises voltages and turns the axis left, age prolongs
PR and QT and calms the breathing arrhythmia, diabetes and cholesterol depress ST and T), among so
much variation between patients that the effects can be learned but not read off.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from clef_jax.data.leads import STANDARD_LEADS
from clef_jax.data.noise import DOWER, add_derived_leads

FS = 500
SECONDS = 10

_DOWER = np.array(list(DOWER.values()))
# Widest bump considered, either side of its centre.
_REACH = round(0.3 * FS)


@dataclasses.dataclass(frozen=True)
class Heart:
    """What stays the same between a patient's recordings. Times in s, rates in 1/min.

    Attributes:
        rate: heart rate at rest.
        breathing_rate: breaths per minute.
        breathing_arrhythmia: relative change of the RR interval with the breath.
        pr: from the onset of P to the onset of QRS.
        qrs: duration of QRS.
        qtc: QT interval at 60 beats a minute.
        p: duration of P.
        electrode_waves: mV [8, 9], in V1-V6, I and II, of each wave: right and left atrial P, Q, R,
            S, end of QRS, notch, ST, T.
        notch: place of the notch in QRS, from the R peak, in durations of QRS.
        noise_mv: standard deviation of muscle noise.
        wander_mv: size of the baseline wander.
    """

    rate: float
    breathing_rate: float
    breathing_arrhythmia: float
    pr: float
    qrs: float
    qtc: float
    p: float
    electrode_waves: np.ndarray
    notch: float
    noise_mv: float
    wander_mv: float


def draw_heart(patient: Mapping[str, float], rng: np.random.Generator) -> Heart:
    """Draws the heart of a patient.

    Args:
        patient: age (years), male, smoker, diabetes (0 or 1), sbp_mmhg, total_chol_mmol_l,
            hdl_mmol_l, all known.
        rng: source of what the risk factors leave open.
    """
    decades = (patient["age"] - 55) / 10
    pressure = (patient["sbp_mmhg"] - 130) / 20
    lipids = (patient["total_chol_mmol_l"] - 5.3) - 1.5 * (patient["hdl_mmol_l"] - 1.35)
    male, smoker, diabetes = (patient[name] for name in ("male", "smoker", "diabetes"))

    def vary(spread):
        return rng.normal(0, spread)

    axis = np.radians(42 - 8 * decades - 5 * pressure + 5 * smoker + vary(13))
    voltage = np.exp(0.13 * pressure - 0.05 * decades + 0.08 * male + vary(0.15))
    strain = 0.14 * pressure + 0.16 * lipids + 0.25 * diabetes + 0.2 * smoker + 0.14 * decades
    p_axis = np.radians(58 + 8 * smoker + vary(12))
    p_left = 0.06 + 0.012 * decades + vary(0.018)
    t_axis = np.radians(40 + 3 * decades + vary(12))
    t_size = 0.36 * (1 + 0.12 * male - 0.11 * decades - 0.1 * strain) + vary(0.075)
    st_level = 0.02 + 0.015 * male - 0.03 * strain + vary(0.015)

    r = 1.3 * voltage
    vectors = np.array(
        [
            _frontal(0.07 + vary(0.015), p_axis, -0.03 + vary(0.02)),
            _frontal(p_left, p_axis - 0.3, 0.02 + 0.012 * decades + vary(0.02)),
            (-0.12 * voltage, -0.08, -0.25 - vary(0.06)),
            _frontal(r, axis, 0.18 * r + vary(0.08)),
            (0.12, -0.12 - vary(0.08), 0.62 * voltage + vary(0.1)),
            (-0.16 - vary(0.06), -0.08 - vary(0.05), 0.12),
            (vary(0.07), vary(0.07), vary(0.07)),
            (0.8 * st_level, 0.6 * st_level, -0.5 * st_level),
            _frontal(max(t_size, -0.1), t_axis, -0.25 + 0.05 * decades + vary(0.06)),
        ]
    )
    torso = _DOWER * (1 + rng.normal(0, 0.08, _DOWER.shape)) + rng.normal(0, 0.02, _DOWER.shape)
    rate = 66 + 5 * smoker + 4 * diabetes + 2 * pressure - 3 * male + vary(8)
    return Heart(
        rate=float(np.clip(rate, 44, 110)),
        breathing_rate=float(np.clip(15 + vary(2.5), 9, 22)),
        breathing_arrhythmia=0.03 * np.exp(-0.22 * decades - 0.3 * diabetes + vary(0.4)),
        pr=float(np.clip(0.158 + 0.006 * decades + vary(0.015), 0.115, 0.24)),
        qrs=float(np.clip(0.089 + 0.006 * male + 0.003 * pressure + vary(0.006), 0.07, 0.13)),
        qtc=0.402 + 0.011 * (1 - male) + 0.005 * decades + 0.006 * diabetes + vary(0.012),
        p=float(np.clip(0.1 + 0.005 * decades + vary(0.008), 0.075, 0.14)),
        electrode_waves=torso @ vectors.T,
        notch=rng.uniform(-0.3, 0.4),
        noise_mv=0.006 * np.exp(vary(0.4)),
        wander_mv=0.04 * np.exp(vary(0.6)),
    )


def simulate_ecg(heart: Heart, rng: np.random.Generator) -> np.ndarray:
    """Records 10 s of a heart at 500 Hz.

    Args:
        heart: of the patient, the same for all recordings.
        rng: for what differs between recordings: rate, phase, electrode positions, noise.

    Returns:
        float64 [12, 5000], mV, in the order of `STANDARD_LEADS`; III and the augmented leads obey
        Einthoven's and Goldberger's relations.
    """
    beats, rr, breath_phase = _beats(heart, rng)
    centres, left, right = _timing(heart, beats, rr)
    filling = 1 + 0.04 * np.sin(breath_phase) + rng.normal(0, 0.01, beats.size)
    waves = _sum_of_bumps(centres, left, right, filling)
    placement = 1 + rng.normal(0, 0.03, heart.electrode_waves.shape)
    electrodes = (heart.electrode_waves * placement) @ waves + _disturbance(heart, rng)
    leads = add_derived_leads(dict(zip(DOWER, electrodes, strict=True)))
    return np.stack([leads[name] for name in STANDARD_LEADS])


def _frontal(size, angle, back):
    """A vector of that size in the frontal plane (0 left, a quarter turn to the feet)."""
    return size * np.cos(angle), size * np.sin(angle), back


def _beats(heart, rng):
    """Times of the R peaks from a second before to a second after, RR intervals, breath's phase."""
    mean = 60 / (heart.rate * np.exp(rng.normal(0, 0.04)))
    count = int((SECONDS + 4) / mean) + 4
    nominal = mean * np.arange(count)
    breath_phase = 2 * np.pi * heart.breathing_rate / 60 * nominal + rng.uniform(0, 2 * np.pi)
    vessels = np.sin(2 * np.pi * 0.1 * nominal + rng.uniform(0, 2 * np.pi))
    change = heart.breathing_arrhythmia * (np.sin(breath_phase) + 0.6 * vessels)
    rr = mean * (1 + change + rng.normal(0, 0.004, count))
    return np.cumsum(rr) - rr[0] - 1 - rng.uniform(0, mean), rr, breath_phase


def _timing(heart, beats, rr):
    """Centres and widths [waves, beats] of the bumps, s, in the order of `Heart`'s waves."""
    onset = beats - 0.45 * heart.qrs
    p_onset = onset - heart.pr
    # Framingham: QT follows the RR interval by 0.154 s per s.
    qt = heart.qtc + 0.154 * (rr - 1)
    t_peak = onset + qt - 0.085
    q = heart.qrs
    centres = np.stack(
        [
            p_onset + 0.38 * heart.p,
            p_onset + 0.62 * heart.p,
            beats - 0.26 * q,
            beats,
            beats + 0.2 * q,
            beats + 0.4 * q,
            beats + heart.notch * q,
            (onset + q + t_peak) / 2 - 0.02,
            t_peak,
        ]
    )
    even = np.array([0.17 * heart.p, 0.17 * heart.p, 0.09 * q, 0.12 * q, 0.12 * q, 0.09 * q])
    narrow = np.concatenate([even, [0.05 * q, 0.045]])
    widths = np.broadcast_to(narrow[:, None], (8, beats.size))
    # T rises slowly and falls fast.
    return (
        centres,
        np.vstack([widths, 0.155 * qt]),
        np.vstack([widths, 0.1 * qt]),
    )


def _sum_of_bumps(centres, left, right, height):
    """Adds asymmetric Gaussians [waves, beats] up to [waves, samples]."""
    waves, samples = len(centres), FS * SECONDS
    reach = np.arange(-_REACH, _REACH + 1)
    place = np.rint(centres * FS).astype(int)[..., None] + reach
    distance = place / FS - centres[..., None]
    width = np.where(distance < 0, left[..., None], right[..., None])
    bump = height[:, None] * np.exp(-0.5 * (distance / width) ** 2)
    inside = (place >= 0) & (place < samples)
    flat = (place + samples * np.arange(waves)[:, None, None])[inside]
    return np.bincount(flat, bump[inside], waves * samples).reshape(waves, samples)


def _disturbance(heart, rng):
    """Muscle noise, mains hum and baseline wander of the 8 measured leads, mV."""
    t = np.arange(FS * SECONDS) / FS
    measured = len(_DOWER)
    muscle = heart.noise_mv * rng.standard_normal((measured, t.size))
    hum = rng.exponential(0.003) * np.sin(2 * np.pi * 50 * t + rng.uniform(0, 2 * np.pi))
    frequencies = np.array([0.06, 0.15, heart.breathing_rate / 60])
    phases = rng.uniform(0, 2 * np.pi, (measured, 3))
    sizes = heart.wander_mv * rng.normal(0, 1, (measured, 3))
    angle = 2 * np.pi * frequencies[:, None] * t
    # sin(angle + phase), expanded so that the sines of the three angles are computed once.
    wander = (sizes * np.cos(phases)) @ np.sin(angle) + (sizes * np.sin(phases)) @ np.cos(angle)
    return muscle + rng.normal(1, 0.3, (measured, 1)) * hum + wander
