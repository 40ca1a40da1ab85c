"""The noise bank from whatever a path is."""

import os
import pathlib

from absl import logging

from clef_jax.data.noise.bank import NoiseBank, NoiseBankError
from clef_jax.data.noise.recorded import MAT_KEYS, noise_bank_from_mat, noise_bank_from_nstdb
from clef_jax.data.noise.simulated import simulate_noise_bank
from clef_jax.data.signals.spec import PreprocessingSpec


def load_noise_bank(
    path: str | os.PathLike | None,
    spec: PreprocessingSpec,
    *,
    mat_fs: float | None = None,
    max_seconds: float | None = None,
    seed: int = 0,
) -> NoiseBank:
    """Builds the bank from whatever `path` is, at the rate of the ECGs that it is added to.

    Args:
        path: A folder with the records bw, em and ma, a `DATA_noises_real.mat`, or None to
            simulate, which is logged as a warning.
        spec: The ECGs' preprocessing. The bank must last as long as one of its windows.
        mat_fs: Sampling rate of the .mat file, Hz, where its length does not tell.
        max_seconds: Keep no more than this. A bank takes 120 kB a second at 500 Hz, 144 MB for 20
            minutes. A simulated bank has this length, or 10 minutes.
        seed: Of the simulated bank.

    Raises:
        NoiseBankError: `path` is neither, or its content is not as expected.
    """
    bank = _load(path, spec.fs, mat_fs, max_seconds, seed)
    if bank.signal.shape[-1] < spec.samples:
        raise NoiseBankError(
            f"{bank.source}: {bank.signal.shape[-1] / bank.fs:.1f} s of noise; windows of "
            f"{spec.seconds:g} s need as much, so use a longer recording."
        )
    return bank


def _load(path, fs, mat_fs, max_seconds, seed):
    if path is None:
        logging.warning(
            "No noise recording given: augmenting with SIMULATED noise. For real noise, pass the "
            "folder of the MIT-BIH Noise Stress Test Database or a DATA_noises_real.mat."
        )
        return simulate_noise_bank(seed, max_seconds or 600.0, fs)
    path = pathlib.Path(path)
    if path.is_dir():
        return noise_bank_from_nstdb(path, fs, max_seconds=max_seconds)
    if path.is_file() and path.suffix.lower() == ".mat":
        return noise_bank_from_mat(path, fs, fs=mat_fs, max_seconds=max_seconds)
    found = "is neither" if path.exists() else "does not exist"
    raise NoiseBankError(
        f"{path} {found}: expected a folder with the noise records bw, em and ma, or a .mat file "
        f"with {', '.join(MAT_KEYS.values())}."
    )
