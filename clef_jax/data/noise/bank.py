"""The noise bank: kinds of noise by leads by time, ready for the accelerator."""

import dataclasses
import hashlib

import numpy as np

from clef_jax.data.noise.dower import twelve_leads
from clef_jax.data.signals.leads import NOISE_LEADS
from clef_jax.errors import ClefError

NOISE_FS = 500.0
KINDS = ("motion", "electrode", "baseline_wander", "mixture")

_SHORTEST_SECONDS = 10.0


class NoiseBankError(ClefError):
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
        digest.update(np.ascontiguousarray(self.signal, dtype="<f4").data)
        return digest.hexdigest()


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
