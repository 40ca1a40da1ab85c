"""The noise bank: real electrode and muscle noise on 12 leads and X, Y, Z at 500 Hz.

The MIT-BIH Noise Stress Test Database (Moody, Muldrow & Mark, Computers in Cardiology 11:381, 1984;
doi 10.13026/C2HS3T) holds three two-channel noise recordings. As ECG simulators do (Petrenas et
al., doi 10.1088/1361-6579/aa9153), its channels stand for the orthogonal leads X and Y, lead Z is
formed from their squares, and the 12 leads are projections of X, Y, Z.
"""

import dataclasses
import hashlib
import os
import pathlib
import zlib
from collections.abc import Mapping

import numpy as np
import scipy.io
import scipy.signal
from absl import logging

from clef_jax.data.recordings.wfdb import read_recording
from clef_jax.data.signals.leads import NOISE_LEADS, STANDARD_LEADS
from clef_jax.data.signals.preprocessing import resample

NOISE_FS = 500.0
KINDS = ("motion", "electrode", "baseline_wander", "mixture")

# The simulators' "motion artefacts" are the record ma, which its authors call muscle artefact.
_NSTDB_RECORDS = {"motion": "ma", "electrode": "em", "baseline_wander": "bw"}
_MAT_KEYS = {
    "motion": "motion_artefacts",
    "electrode": "electrode_movement",
    "baseline_wander": "baseline_wander",
    "mixture": "mixture_of_noises",
}
_NSTDB_SECONDS = 650_000 / 360
_SIMULATOR_FS = 1000.0

# Dower's transform (Dower, Machado & Osborne, Clinical Cardiology 3:87, 1980) from the Frank leads
# X (left), Y (feet), Z (back): the rows.
DOWER = {
    "V1": (-0.515, 0.157, -0.917),
    "V2": (0.044, 0.164, -1.387),
    "V3": (0.882, 0.098, -1.277),
    "V4": (1.213, 0.127, -0.601),
    "V5": (1.125, 0.127, -0.086),
    "V6": (0.831, 0.076, 0.230),
    "I": (0.632, -0.235, 0.059),
    "II": (0.235, 1.066, -0.132),
}

_SHORTEST_SECONDS = 10.0


class NoiseBankError(ValueError):
    """A noise recording that cannot be used; the message names the file, fault and remedy."""


@dataclasses.dataclass(frozen=True, eq=False)
class NoiseBank:
    """Noise to add to ECGs, ready for the accelerator.

    Attributes:
        signal: float32 [4, 15, samples] at 500 Hz, uncalibrated mV: kinds by leads by time.
        source: where it came from, in words.
        kinds: names of the first axis.
        leads: names of the second axis.
    """

    signal: np.ndarray
    source: str
    kinds: tuple[str, ...] = KINDS
    leads: tuple[str, ...] = NOISE_LEADS

    def fingerprint(self) -> str:
        """SHA-256 of samples, names and source: equal banks have equal fingerprints."""
        digest = hashlib.sha256(repr((self.source, self.kinds, self.leads)).encode())
        digest.update(repr((self.signal.shape, NOISE_FS)).encode())
        digest.update(np.ascontiguousarray(self.signal, dtype="<f4"))
        return digest.hexdigest()


def load_noise_bank(
    path: str | os.PathLike | None,
    *,
    mat_fs: float | None = None,
    max_seconds: float | None = None,
    seed: int = 0,
) -> NoiseBank:
    """Builds the bank from whatever `path` is.

    Args:
        path: a folder with the records bw, em and ma, a `DATA_noises_real.mat`, or None to
            simulate, which is logged as a warning.
        mat_fs: sampling rate of the .mat file, Hz, where its length does not tell.
        max_seconds: keep no more than this. A bank takes 120 kB a second, 144 MB for 20 minutes.
            A simulated bank has this length, or 10 minutes.
        seed: of the simulated bank.

    Raises:
        NoiseBankError: `path` is neither, or its content is not as expected.
    """
    if path is None:
        logging.warning(
            "No noise recording given: augmenting with SIMULATED noise. For real noise, pass the "
            "folder of the MIT-BIH Noise Stress Test Database or a DATA_noises_real.mat."
        )
        return simulate_noise_bank(seed, max_seconds or 600.0)
    path = pathlib.Path(path)
    if path.is_dir():
        return noise_bank_from_nstdb(path, max_seconds=max_seconds)
    if path.is_file() and path.suffix.lower() == ".mat":
        return noise_bank_from_mat(path, fs=mat_fs, max_seconds=max_seconds)
    found = "is neither" if path.exists() else "does not exist"
    raise NoiseBankError(
        f"{path} {found}: expected a folder with the noise records bw, em and ma, or a .mat file "
        f"with {', '.join(_MAT_KEYS.values())}."
    )


def noise_bank_from_nstdb(
    folder: str | os.PathLike, *, max_seconds: float | None = None
) -> NoiseBank:
    """Builds the bank from the MIT-BIH noise records bw, em and ma, two channels each.

    Args:
        folder: where bw.hea, em.hea, ma.hea and their .dat files lie.
        max_seconds: read no more than this.

    Raises:
        NoiseBankError: a record is absent, has other than two channels, or has gaps.
        RecordingError: a record is truncated or damaged.
    """
    folder = pathlib.Path(folder)
    absent = [
        f"{name}.hea" for name in _NSTDB_RECORDS.values() if not (folder / f"{name}.hea").is_file()
    ]
    if absent:
        raise NoiseBankError(
            f"{folder} lacks {', '.join(absent)}: the noise records bw, em and ma of the MIT-BIH "
            "Noise Stress Test Database are expected there."
        )
    channels = {}
    for kind, name in _NSTDB_RECORDS.items():
        recording = read_recording(folder / name)
        if len(recording.leads) != 2:
            raise NoiseBankError(
                f"{recording.path}: {len(recording.leads)} channels found, 2 expected (noise "
                "recordings, not ECGs with noise)."
            )
        xy = recording.signal_mv
        if max_seconds is not None:
            xy = xy[:, : round(max_seconds * recording.fs)]
        if not np.isfinite(xy).all():
            raise NoiseBankError(f"{recording.path}: missing samples; use an intact copy.")
        channels[kind] = resample(xy, recording.fs, NOISE_FS)
    shortest = min(xy.shape[-1] for xy in channels.values())
    orthogonal = {kind: _with_z(xy[:, :shortest]) for kind, xy in channels.items()}
    return _bank_of_orthogonal(orthogonal, "MIT-BIH noise stress test records ma, em, bw", folder)


def noise_bank_from_mat(
    path: str | os.PathLike, *, fs: float | None = None, max_seconds: float | None = None
) -> NoiseBank:
    """Builds the bank from the `DATA_noises_real.mat` of ECG simulators, one array at a time.

    The file does not state its sampling rate. Made from the whole noise records, which last
    1805.6 s, it holds 1,805,556 samples a lead at 1000 Hz.

    Args:
        path: MATLAB file of version 5 to 7 with motion_artefacts, electrode_movement,
            baseline_wander and mixture_of_noises, each [15, samples].
        fs: its sampling rate, Hz; inferred from the length when not given, and 1000 Hz, the
            simulators' rate, with a warning, where the length does not tell.
        max_seconds: keep no more than this.

    Raises:
        NoiseBankError: not such a file, or an array is missing or of another shape.
    """
    path = pathlib.Path(path)
    samples = _samples_in_mat(path)
    fs = fs or _inferred_fs(path, samples)
    kept = samples if max_seconds is None else min(samples, round(max_seconds * fs))
    signal = None
    for row, key in enumerate(_MAT_KEYS.values()):
        noise = _read_mat(scipy.io.loadmat, path, variable_names=[key])[key][:, :kept]
        for lead in range(len(NOISE_LEADS)):
            resampled = resample(noise[lead], fs, NOISE_FS)
            if signal is None:
                shape = (len(KINDS), len(NOISE_LEADS), resampled.size)
                signal = np.empty(shape, np.float32)
            signal[row, lead] = resampled
    return _checked(NoiseBank(signal, f"{', '.join(_MAT_KEYS.values())} at {fs:g} Hz"), path)


def simulate_noise_bank(seed: int, seconds: float) -> NoiseBank:
    """Simulates a bank shaped like the three recorded kinds.

    Motion is muscle noise, 20 to 150 Hz, in bursts; electrode is sudden offsets that decay, over
    low-frequency noise; baseline wander lies below 1 Hz with a breathing component. X, Y, Z are
    independent; standard deviations are those of the recorded noise.

    Args:
        seed: of the random numbers; the bank is a function of seed and seconds.
        seconds: its length, at least 10.
    """
    rng = np.random.default_rng(seed)
    samples = round(seconds * NOISE_FS)
    orthogonal = {
        "motion": 0.17 * _muscle_noise(rng, samples),
        "electrode": 0.45 * _electrode_noise(rng, samples),
        "baseline_wander": 0.33 * _baseline_wander(rng, samples),
    }
    return _bank_of_orthogonal(orthogonal, f"simulated (seed {seed}, {seconds:g} s)", "the bank")


def twelve_leads(xyz: np.ndarray) -> np.ndarray:
    """Projects X, Y, Z [3, time] to the 12 standard leads [12, time] by Dower's transform.

    V1-V6, I and II are projections; III and the augmented leads follow from I and II, so that
    Einthoven's and Goldberger's relations hold exactly.
    """
    leads = dict(zip(DOWER, np.array(list(DOWER.values())) @ xyz, strict=True))
    leads = add_derived_leads(leads)
    return np.stack([leads[name] for name in STANDARD_LEADS])


def add_derived_leads(leads: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Adds III, aVR, aVL and aVF, computed from I and II."""
    one, two = leads["I"], leads["II"]
    return dict(leads) | {
        "III": two - one,
        "aVR": -(one + two) / 2,
        "aVL": one - two / 2,
        "aVF": two - one / 2,
    }


def _with_z(xy):
    """Adds Z, the root of the sum of squares: in mV like X and Y, which the sum itself is not."""
    return np.vstack([xy, np.hypot(xy[0], xy[1])])


def _bank_of_orthogonal(orthogonal, source, where):
    shape = (len(KINDS), len(NOISE_LEADS), orthogonal["motion"].shape[-1])
    signal = np.zeros(shape, np.float32)
    for row, kind in enumerate(KINDS[:-1]):
        signal[row, :12] = twelve_leads(orthogonal[kind])
        signal[row, 12:] = orthogonal[kind]
    np.sum(signal[:-1], axis=0, out=signal[-1])
    return _checked(NoiseBank(signal, source), where)


def _checked(bank, where):
    seconds = bank.signal.shape[-1] / NOISE_FS
    if seconds < _SHORTEST_SECONDS:
        raise NoiseBankError(
            f"{where}: {seconds:.1f} s of noise, at least {_SHORTEST_SECONDS:g} s are needed."
        )
    for kind, noise in zip(bank.kinds, bank.signal, strict=True):
        for lead, x in zip(bank.leads, noise, strict=True):
            # A constant lead would divide by zero when scaled to a noise level.
            if not np.isfinite(x).all() or np.ptp(x) == 0:
                fault = "is constant" if np.isfinite(x).all() else "has missing samples"
                raise NoiseBankError(
                    f"{where}: lead {lead} of {kind} {fault}; use an intact recording."
                )
    return bank


def _read_mat(read, path, **options):
    try:
        return read(path, **options)
    except (OSError, ValueError, TypeError, NotImplementedError, zlib.error) as error:
        raise NoiseBankError(
            f"{path} cannot be read as a MATLAB file of version 5 to 7 ({error}). Download it "
            "again, or save it in MATLAB with -v7."
        ) from error


def _samples_in_mat(path):
    shapes = {name: shape for name, shape, _ in _read_mat(scipy.io.whosmat, path)}
    absent = [key for key in _MAT_KEYS.values() if key not in shapes]
    if absent:
        raise NoiseBankError(
            f"{path} lacks {', '.join(absent)}. Found: {', '.join(shapes) or 'nothing'}."
        )
    for key in _MAT_KEYS.values():
        if len(shapes[key]) != 2 or shapes[key][0] != len(NOISE_LEADS):
            raise NoiseBankError(
                f"{path}: {key} has shape {shapes[key]}, expected (15, samples): 12 leads, X, Y, Z."
            )
    return min(shapes[key][1] for key in _MAT_KEYS.values())


def _inferred_fs(path, samples):
    for fs in (_SIMULATOR_FS, NOISE_FS, 360.0):
        if abs(samples / fs - _NSTDB_SECONDS) < 0.01 * _NSTDB_SECONDS:
            return fs
    logging.warning(
        "%s: %d samples a lead fit the %.1f s of the noise records at no usual sampling rate; "
        "taking it as %g Hz, the simulators' rate. If that is wrong, give its rate (mat_fs).",
        path,
        samples,
        _NSTDB_SECONDS,
        _SIMULATOR_FS,
    )
    return _SIMULATOR_FS


def _unit(noise):
    return noise / noise.std(axis=-1, keepdims=True)


def _coloured(rng, samples, amplitude):
    """Three channels of Gaussian noise with spectrum `amplitude(frequency in Hz)`, SD 1."""
    spectrum = np.fft.rfft(rng.standard_normal((3, samples)))
    frequency = np.fft.rfftfreq(samples, 1 / NOISE_FS)
    return _unit(np.fft.irfft(spectrum * amplitude(frequency), samples))


def _muscle_noise(rng, samples):
    tone = _coloured(rng, samples, lambda f: (f > 20) & (f < 150))
    # Contractions last a second or two; between them some tone remains.
    effort = _coloured(rng, samples, lambda f: f < 0.4)
    return _unit(tone * (0.25 + np.exp(effort)))


def _electrode_noise(rng, samples):
    offsets = np.zeros((3, samples))
    for decay_s in (0.2, 1.5):
        jumps = rng.standard_normal((3, samples)) * (rng.random((3, samples)) < 0.5 / NOISE_FS)
        decay = np.exp(-1 / (decay_s * NOISE_FS))
        offsets += scipy.signal.lfilter([1.0], [1.0, -decay], jumps)
    slow = _coloured(rng, samples, lambda f: (f > 0.05) * (f < 10) / np.maximum(f, 0.5))
    return _unit(_unit(offsets) + 0.7 * slow)


def _baseline_wander(rng, samples):
    drift = _coloured(rng, samples, lambda f: (f > 0.02) * (f < 1) / np.maximum(f, 0.1))
    breathing = _coloured(rng, samples, lambda f: (f > 0.2) & (f < 0.35))
    return _unit(drift + 0.6 * breathing)
