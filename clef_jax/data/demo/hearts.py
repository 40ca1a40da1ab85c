"""Simulated 12-lead ECGs whose shape follows age, sex and cardiovascular risk factors.

Each wave (P, Q, R, S, T and the ST segment) is a Gaussian bump in time and a vector in space;
Dower's transform projects the vectors to the leads. Age, sex and risk factors act in the direction
known from population studies, and on what a single z-scored lead still shows: intervals, axes, the
waves' sizes beside each other, rhythm, ectopy, blocks, old infarcts. They act through what most
patients have a little of and through what a few have altogether, among so much variation between
patients (anatomy) and between a patient's visits (rate, posture, electrodes, noise) that the
effects can be learned but not read off. The spreads are about those of lead II in PTB-XL.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import scipy.signal

from clef_jax.data.noise.dower import DOWER, add_derived_leads
from clef_jax.data.signals.leads import STANDARD_LEADS

FS = 500
SECONDS = 10

_DOWER = np.array(list(DOWER.values()))
# Widest bump considered, either side of its centre.
_REACH = round(0.3 * FS)
# Rows of a heart's waves; the P waves come first.
_WAVES = ("right P", "left P", "Q", "R", "S", "end of QRS", "notch", "ST", "T")
_P_WAVES, _T = slice(0, 2), 8
# Directions (left, feet, back) of the muscle that old infarcts have killed.
_SITES = {"inferior": (0.0, 1.0, 0.0), "anterior": (0.25, 0.0, -0.97)}


@dataclasses.dataclass(frozen=True)
class Heart:
    """What stays the same between a patient's recordings. Times in s, rates in 1/min.

    Attributes:
        rate: Heart rate at rest.
        breathing_rate: Breaths per minute.
        breathing_arrhythmia: Relative change of the RR interval with the breath.
        fibrillates: Whether the atria do: no P waves, no regular rhythm.
        atrial_ectopy: Premature atrial beats per minute.
        ventricular_ectopy: Premature ventricular beats per minute.
        pr: From the onset of P to the onset of QRS.
        qrs: Duration of QRS.
        qtc: QT interval at 60 beats a minute.
        p: Duration of P.
        electrode_waves: mV [8, 9], in V1-V6, I and II, of each wave: right and left atrial P, Q, R,
            S, end of QRS, notch, ST, T.
        premature_waves: mV [8, 2], QRS and T of a ventricular premature beat.
        notch: Place of the notch in QRS, from the R peak, in durations of QRS.
    """

    rate: float
    breathing_rate: float
    breathing_arrhythmia: float
    fibrillates: bool
    atrial_ectopy: float
    ventricular_ectopy: float
    pr: float
    qrs: float
    qtc: float
    p: float
    electrode_waves: np.ndarray
    premature_waves: np.ndarray
    notch: float


def draw_heart(patient: Mapping[str, float], rng: np.random.Generator) -> Heart:
    """Draws the heart of a patient.

    Args:
        patient: Age (years), male, smoker, diabetes (0 or 1), sbp_mmhg, total_chol_mmol_l,
            hdl_mmol_l, all known.
        rng: Source of what the risk factors leave open.
    """
    decades = (patient["age"] - 55) / 10
    pressure = (patient["sbp_mmhg"] - 130) / 20
    lipids = (patient["total_chol_mmol_l"] - 5.3) - 1.5 * (patient["hdl_mmol_l"] - 1.35)
    male, smoker, diabetes = (patient[name] for name in ("male", "smoker", "diabetes"))

    def vary(spread):
        return rng.normal(0, spread)

    def has(log_odds):
        return bool(rng.random() < 1 / (1 + np.exp(-log_odds)))

    vessels = 0.6 * smoker + 0.35 * lipids + 0.6 * diabetes + 0.25 * pressure
    infarct = has(-3.3 + 0.35 * decades + 0.5 * male + vessels)
    right_block = has(-3.6 + 0.6 * decades + 0.4 * male)
    left_block = has(-5 + 0.7 * decades + 0.3 * pressure)
    axis = 42 - 8 * decades - 5 * pressure + 5 * smoker + vary(22)
    axis -= 50 * has(-3.6 + 0.55 * decades + 0.3 * pressure)  # left anterior hemiblock
    vectors = _vectors(patient, np.radians(axis), decades, pressure, lipids, vary)
    # Always drawn, so that hearts of one seed differ by the risk factors alone.
    site = rng.choice(list(_SITES))
    if infarct:
        _scar(vectors, _SITES[site])
    if right_block or left_block:
        _delay(vectors, left_block)
    torso = _DOWER * (1 + rng.normal(0, 0.12, _DOWER.shape)) + rng.normal(0, 0.03, _DOWER.shape)
    origin = rng.normal(0, 1, 3)
    origin *= 1.8 / np.linalg.norm(origin)
    rate = 66 + 5 * smoker + 4 * diabetes + 2 * pressure - 3 * male + vary(10)
    wide = 0.05 if left_block else 0.04 if right_block else 0
    return Heart(
        rate=float(np.clip(rate, 44, 120)),
        breathing_rate=float(np.clip(15 + vary(2.5), 9, 22)),
        breathing_arrhythmia=0.03 * np.exp(-0.22 * decades - 0.3 * diabetes + vary(0.5)),
        fibrillates=has(-4.8 + 0.8 * decades + 0.3 * pressure),
        atrial_ectopy=np.exp(-1.6 + 0.45 * decades + vary(1.2)),
        ventricular_ectopy=np.exp(-2 + 0.35 * decades + 0.2 * pressure + infarct + vary(1.3)),
        pr=float(np.clip(0.158 + 0.006 * decades + vary(0.018), 0.115, 0.26)),
        qrs=float(np.clip(0.089 + 0.006 * male + 0.003 * pressure + vary(0.007), 0.07, 0.13))
        + wide,
        qtc=0.402 + 0.011 * (1 - male) + 0.005 * decades + 0.006 * diabetes + vary(0.015),
        p=float(np.clip(0.1 + 0.005 * decades + vary(0.009), 0.075, 0.14)),
        electrode_waves=torso @ vectors.T,
        premature_waves=torso @ np.stack([origin, -0.35 * origin]).T,
        notch=rng.uniform(-0.3, 0.4),
    )


def simulate_ecg(heart: Heart, rng: np.random.Generator) -> np.ndarray:
    """Records 10 s of a heart at 500 Hz.

    Args:
        heart: Of the patient, the same for all recordings.
        rng: For what differs between recordings: rate, phase, posture, electrode positions, noise.

    Returns:
        float64 [12, 5000], mV, in the order of `STANDARD_LEADS`; III and the augmented leads obey
        Einthoven's and Goldberger's relations.
    """
    heart = _on_the_day(heart, rng)
    beats, rr, breath_phase, ventricular = _beats(heart, rng)
    filling = 1 + 0.04 * np.sin(breath_phase) + rng.normal(0, 0.02, beats.size)
    usual, premature = np.flatnonzero(~ventricular), np.flatnonzero(ventricular)
    waves = _sum_of_bumps(*_timing(heart, beats[usual], rr[usual]), filling[usual])
    electrodes = heart.electrode_waves @ waves
    if premature.size:
        bumps = _sum_of_bumps(*_premature_timing(beats[premature]), filling[premature])
        electrodes += heart.premature_waves @ bumps
    if heart.fibrillates:
        electrodes += _fibrillation(rng)
    electrodes += _disturbance(heart, rng)
    leads = add_derived_leads(dict(zip(DOWER, electrodes, strict=True)))
    return np.stack([leads[name] for name in STANDARD_LEADS])


def _vectors(patient, axis, decades, pressure, lipids, vary):
    """The waves [9, 3] as vectors to the left, the feet and the back, mV, of a heart unharmed."""
    male, smoker, diabetes = (patient[name] for name in ("male", "smoker", "diabetes"))
    voltage = np.exp(0.13 * pressure - 0.05 * decades + 0.08 * male + vary(0.2))
    strain = 0.14 * pressure + 0.16 * lipids + 0.25 * diabetes + 0.2 * smoker + 0.14 * decades
    p_axis = np.radians(58 + 8 * smoker + vary(15))
    p_left = 0.06 + 0.012 * decades + vary(0.022)
    t_axis = np.radians(40 + 3 * decades + vary(16))
    t_size = 0.36 * (1 + 0.12 * male - 0.11 * decades - 0.1 * strain) + vary(0.1)
    st_level = 0.02 + 0.015 * male - 0.03 * strain + vary(0.02)
    r = 1.3 * voltage
    return np.array(
        [
            _frontal(0.07 + vary(0.02), p_axis, -0.03 + vary(0.02)),
            _frontal(p_left, p_axis - 0.3, 0.02 + 0.012 * decades + vary(0.02)),
            (-0.12 * voltage, -0.08 - vary(0.06), -0.25 - vary(0.08)),
            _frontal(r, axis, 0.18 * r + vary(0.1)),
            (0.12 + vary(0.06), -0.12 - vary(0.12), 0.62 * voltage + vary(0.12)),
            (-0.16 - vary(0.08), -0.08 - vary(0.08), 0.12 + vary(0.05)),
            (vary(0.1), vary(0.1), vary(0.1)),
            (0.8 * st_level, 0.6 * st_level, -0.5 * st_level),
            _frontal(max(t_size, -0.15), t_axis, -0.25 + 0.05 * decades + vary(0.08)),
        ]
    )


def _frontal(size, angle, back):
    """A vector of that size in the frontal plane (0 left, a quarter turn to the feet)."""
    return size * np.cos(angle), size * np.sin(angle), back


def _scar(vectors, towards):
    """Turns Q away from dead muscle, shrinks R towards it, and inverts T over it, in place."""
    for wave, size in (("Q", 0.4), ("R", 0.3), ("T", 0.45)):
        vectors[_WAVES.index(wave)] -= size * np.array(towards)


def _delay(vectors, left):
    """Adds the late forces of a bundle branch block, and a T wave against them, in place."""
    r, end, notch, t = (_WAVES.index(wave) for wave in ("R", "end of QRS", "notch", "T"))
    if left:
        vectors[r] *= (1.1, 0.8, 1.5)
        vectors[notch] += 0.5 * vectors[r]
        vectors[t] -= 0.45 * vectors[r]
    else:
        vectors[end] += (-0.45, -0.05, -0.35)
        vectors[t] += (0.1, 0.0, 0.12)


def _on_the_day(heart, rng):
    """The heart as one recording finds it: rested or not, lying so, with electrodes placed so."""
    shape = heart.electrode_waves.shape
    waves = heart.electrode_waves * (1 + rng.normal(0, 0.06, shape)) + rng.normal(0, 0.015, shape)
    waves[:, _P_WAVES] *= np.exp(rng.normal(0, 0.15))
    waves[:, _T] *= np.exp(rng.normal(0, 0.15))
    if heart.fibrillates:
        waves[:, _P_WAVES] = 0
    return dataclasses.replace(
        heart,
        rate=heart.rate * np.exp(rng.normal(0.15 * heart.fibrillates, 0.09)),
        breathing_rate=heart.breathing_rate * np.exp(rng.normal(0, 0.1)),
        breathing_arrhythmia=heart.breathing_arrhythmia * np.exp(rng.normal(0, 0.3)),
        pr=heart.pr + rng.normal(0, 0.006),
        qtc=heart.qtc + rng.normal(0, 0.008),
        electrode_waves=waves,
    )


def _beats(heart, rng):
    """Beats from a second before to a second after the recording.

    Returns:
        Times of the R peaks, the RR interval before each, the breath's phase, and whether the beat
        is a ventricular premature one.
    """
    mean = 60 / heart.rate
    count = int((SECONDS + 4) / mean) + 8
    nominal = mean * np.arange(count)
    breath_phase = 2 * np.pi * heart.breathing_rate / 60 * nominal + rng.uniform(0, 2 * np.pi)
    pressure_wave = np.sin(2 * np.pi * 0.1 * nominal + rng.uniform(0, 2 * np.pi))
    change = heart.breathing_arrhythmia * (np.sin(breath_phase) + 0.6 * pressure_wave)
    rr = mean * (1 + change + rng.normal(0, 0.004, count))
    if heart.fibrillates:
        rr = np.maximum(mean * np.exp(rng.normal(0, 0.2, count)), 0.35)
    atrial = rng.random(count) < heart.atrial_ectopy * mean / 60
    ventricular = rng.random(count) < np.minimum(heart.ventricular_ectopy * mean / 60, 0.3)
    ventricular[1:] &= ~ventricular[:-1]
    rr[atrial | ventricular] *= rng.uniform(0.6, 0.75)
    # The sinus node keeps its time: after a ventricular beat comes a pause that makes up for it.
    rr[1:][ventricular[:-1]] *= 1.35
    times = np.cumsum(rr) - rr[0] - 1 - rng.uniform(0, mean)
    return times, rr, breath_phase, ventricular


def _timing(heart, beats, rr) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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


def _premature_timing(beats) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres and widths [2, beats] of the broad QRS and the T of ventricular beats, s."""
    centres = np.stack([beats, beats + 0.32])
    widths = np.broadcast_to(np.array([[0.035], [0.06]]), centres.shape)
    return centres, widths, widths


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


def _fibrillation(rng):
    """Fibrillatory waves of the 8 measured leads, mV: 4 to 9 Hz, strongest in V1."""
    t = np.arange(FS * SECONDS) / FS
    phase = np.cumsum(rng.normal(0, 0.08, t.size)) + 2 * np.pi * rng.uniform(4, 9) * t
    sizes = rng.normal(0.04, 0.015, (len(_DOWER), 1))
    sizes[0] *= 2
    return sizes * np.sin(phase)


def _disturbance(heart, rng):
    """Muscle noise, electrode motion, mains hum and baseline wander of the 8 measured leads, mV."""
    t = np.arange(FS * SECONDS) / FS
    measured = len(_DOWER)
    restlessness = rng.normal(0, 0.5)
    muscle = 0.014 * np.exp(restlessness + rng.normal(0, 0.4))
    motion = 0.019 * np.exp(restlessness + rng.normal(0, 0.5))
    wander = 0.08 * np.exp(rng.normal(0, 0.6))
    noise = muscle * rng.standard_normal((measured, t.size))
    # A random walk that forgets within a quarter of a second, of standard deviation 1.
    keep = np.exp(-1 / (0.25 * FS))
    steps = rng.standard_normal((measured, t.size)) * np.sqrt(1 - keep**2)
    noise += motion * scipy.signal.lfilter([1.0], [1.0, -keep], steps)
    hum = rng.exponential(0.003) * np.sin(2 * np.pi * 50 * t + rng.uniform(0, 2 * np.pi))
    frequencies = np.array([0.06, 0.15, heart.breathing_rate / 60])
    phases = rng.uniform(0, 2 * np.pi, (measured, 3))
    sizes = wander * rng.normal(0, 1, (measured, 3))
    angle = 2 * np.pi * frequencies[:, None] * t
    # sin(angle + phase), expanded so that the sines of the three angles are computed once.
    noise += (sizes * np.cos(phases)) @ np.sin(angle) + (sizes * np.sin(phases)) @ np.cos(angle)
    return noise + rng.normal(1, 0.3, (measured, 1)) * hum
