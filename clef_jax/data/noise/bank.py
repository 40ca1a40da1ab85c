"""The noise bank: kinds of noise by leads by time, ready for the accelerator."""

import dataclasses
import hashlib

import numpy as np
from absl import logging

from clef_jax.data.noise.dower import twelve_leads
from clef_jax.data.signals.leads import NOISE_LEADS, unmodified_lead
from clef_jax.data.signals.montage import ECG, Montage
from clef_jax.errors import ClefError

KINDS = ("motion", "electrode", "baseline_wander", "mixture")

_SHORTEST_SECONDS = 10.0
# Whose noise a lead takes that has none and resembles none.
_ANY_LEAD = "I"


class NoiseBankError(ClefError):
    """A noise recording that cannot be used; the message names the file, fault and remedy."""


@dataclasses.dataclass(frozen=True, eq=False)
class NoiseBank:
    """Noise to add to ECGs, ready for the accelerator.

    Attributes:
        signal: float32 [4, 15, samples], uncalibrated mV: kinds by leads by time.
        fs: Its sampling rate, Hz.
        source: Where it came from, in words.
        kinds: Names of the first axis.
        leads: Names of the second axis.
    """

    signal: np.ndarray
    fs: float
    source: str
    kinds: tuple[str, ...] = KINDS
    leads: tuple[str, ...] = NOISE_LEADS

    def fingerprint(self) -> str:
        """SHA-256 of samples, names and source: equal banks have equal fingerprints."""
        digest = hashlib.sha256(repr((self.source, self.kinds, self.leads)).encode())
        digest.update(repr((self.signal.shape, self.fs)).encode())
        digest.update(np.ascontiguousarray(self.signal, dtype="<f4").data)
        return digest.hexdigest()

    def on_leads(self, montage: Montage) -> np.ndarray:
        """Returns the noise float32 [4, leads of the montage, samples], by their ids.

        A modified lead takes the noise of the lead that it stands for, such as MLII that of II; any
        other that the bank lacks, that of lead I, which is warned about.
        """
        if montage.leads == self.leads:
            return self.signal
        known = [ECG.find(unmodified_lead(lead)) for lead in montage.leads]
        lacking = [lead for lead, found in zip(montage.leads, known, strict=True) if found is None]
        if lacking:
            logging.log_first_n(
                logging.WARNING,
                "the noise bank has no noise of %s; they take that of lead %s",
                1,
                ", ".join(lacking),
                _ANY_LEAD,
            )
        return self.signal[:, [self.leads.index(found or _ANY_LEAD) for found in known]]


def _bank_of_orthogonal(orthogonal, fs, source, where):
    shape = (len(KINDS), len(NOISE_LEADS), orthogonal["motion"].shape[-1])
    signal = np.zeros(shape, np.float32)
    for row, kind in enumerate(KINDS[:-1]):
        signal[row, :12] = twelve_leads(orthogonal[kind])
        signal[row, 12:] = orthogonal[kind]
    np.sum(signal[:-1], axis=0, out=signal[-1])
    return _checked(NoiseBank(signal, fs, source), where)


def _checked(bank, where):
    seconds = bank.signal.shape[-1] / bank.fs
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
