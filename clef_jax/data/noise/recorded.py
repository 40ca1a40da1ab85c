"""The noise bank: real electrode and muscle noise on 12 leads and X, Y, Z.

The MIT-BIH Noise Stress Test Database (Moody, Muldrow & Mark, Computers in Cardiology 11:381, 1984;
doi 10.13026/C2HS3T) holds three two-channel noise recordings. As ECG simulators do (Petrenas et
al., doi 10.1088/1361-6579/aa9153), its channels stand for the orthogonal leads X and Y, lead Z is
formed from their squares, and the 12 leads are projections of X, Y, Z.
"""

import os
import pathlib
import zlib

import numpy as np
import scipy.io
import scipy.signal
from absl import logging

from clef_jax.data.noise.bank import (
    KINDS,
    NoiseBank,
    NoiseBankError,
    _bank_of_orthogonal,
    _checked,
)
from clef_jax.data.recordings import read_recording
from clef_jax.data.signals import resample
from clef_jax.data.signals.leads import NOISE_LEADS

# The simulators' "motion artefacts" are the record ma, which its authors call muscle artefact.
_NSTDB_RECORDS = {"motion": "ma", "electrode": "em", "baseline_wander": "bw"}
MAT_KEYS = {
    "motion": "motion_artefacts",
    "electrode": "electrode_movement",
    "baseline_wander": "baseline_wander",
    "mixture": "mixture_of_noises",
}
_NSTDB_SECONDS = 650_000 / 360
_SIMULATOR_FS = 1000.0


def noise_bank_from_nstdb(
    folder: str | os.PathLike, bank_fs: float, *, max_seconds: float | None = None
) -> NoiseBank:
    """Builds the bank from the MIT-BIH noise records bw, em and ma, two channels each.

    Args:
        folder: Where bw.hea, em.hea, ma.hea and their .dat files lie.
        bank_fs: The bank's sampling rate, Hz.
        max_seconds: Read no more than this.

    Raises:
        NoiseBankError: A record is absent, has other than two channels, or has gaps.
        RecordingError: A record is truncated or damaged.
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
        channels[kind] = resample(xy, recording.fs, bank_fs)
    shortest = min(xy.shape[-1] for xy in channels.values())
    orthogonal = {kind: _with_z(xy[:, :shortest]) for kind, xy in channels.items()}
    source = "MIT-BIH noise stress test records ma, em, bw"
    return _bank_of_orthogonal(orthogonal, bank_fs, source, folder)


def noise_bank_from_mat(
    path: str | os.PathLike,
    bank_fs: float,
    *,
    fs: float | None = None,
    max_seconds: float | None = None,
) -> NoiseBank:
    """Builds the bank from the `DATA_noises_real.mat` of ECG simulators, one array at a time.

    The file does not state its sampling rate. Made from the whole noise records, which last
    1805.6 s, it holds 1,805,556 samples a lead at 1000 Hz.

    Args:
        path: MATLAB file of version 5 to 7 with motion_artefacts, electrode_movement,
            baseline_wander and mixture_of_noises, each [15, samples].
        bank_fs: The bank's sampling rate, Hz.
        fs: Its sampling rate, Hz; inferred from the length when not given, and 1000 Hz, the
            simulators' rate, with a warning, where the length does not tell.
        max_seconds: Keep no more than this.

    Raises:
        NoiseBankError: Not such a file, or an array is missing or of another shape.
    """
    path = pathlib.Path(path)
    samples = _samples_in_mat(path)
    fs = fs or _inferred_fs(path, samples)
    kept = samples if max_seconds is None else min(samples, round(max_seconds * fs))
    size = resample(np.zeros(kept), fs, bank_fs).size
    signal = np.empty((len(KINDS), len(NOISE_LEADS), size), np.float32)
    for row, key in enumerate(MAT_KEYS.values()):
        noise = _read_mat(scipy.io.loadmat, path, variable_names=[key])[key][:, :kept]
        for lead in range(len(NOISE_LEADS)):
            signal[row, lead] = resample(noise[lead], fs, bank_fs)
    source = f"{', '.join(MAT_KEYS.values())} at {fs:g} Hz"
    return _checked(NoiseBank(signal, bank_fs, source), path)


def _with_z(xy):
    """Adds Z, the root of the sum of squares: in mV like X and Y, which the sum itself is not."""
    return np.vstack([xy, np.hypot(xy[0], xy[1])])


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
    absent = [key for key in MAT_KEYS.values() if key not in shapes]
    if absent:
        raise NoiseBankError(
            f"{path} lacks {', '.join(absent)}. Found: {', '.join(shapes) or 'nothing'}."
        )
    for key in MAT_KEYS.values():
        if len(shapes[key]) != 2 or shapes[key][0] != len(NOISE_LEADS):
            raise NoiseBankError(
                f"{path}: {key} has shape {shapes[key]}, expected (15, samples): 12 leads, X, Y, Z."
            )
    return min(shapes[key][1] for key in MAT_KEYS.values())


def _inferred_fs(path, samples):
    for fs in (_SIMULATOR_FS, 500.0, 360.0):
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
