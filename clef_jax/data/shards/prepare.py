"""One recording: read, check, preprocess, quantise; or the reason to leave it out."""

import dataclasses
import os

import numpy as np

from clef_jax.data.recordings.channels import MV_PER_UNIT
from clef_jax.data.recordings.recording import Header
from clef_jax.data.recordings.wfdb import files_of, read_signal
from clef_jax.data.recordings.wfdb_header import read_header
from clef_jax.data.shards.format import quantise
from clef_jax.data.signals.leads import NOISE_LEADS, STANDARD_LEADS
from clef_jax.data.signals.preprocessing import native_samples, preprocess
from clef_jax.data.signals.quality import QUALITY, QualityLimits, filtered_fault, lead_faults
from clef_jax.data.signals.rates import rate_fault
from clef_jax.data.signals.spec import PREPROCESSING
from clef_jax.data.signals.spikes import remove_spikes
from clef_jax.errors import ClefError

# III - (II - I) against the largest of the three, as standard deviations. Rounding leaves up to
# 0.006 in PTB-XL and the 2021 Challenge; LUDB's headers, whose gains differ by lead, 0.06 to 0.9.
_EINTHOVEN_RESIDUAL = 0.05


class Rejection(ClefError):
    """Why a recording is left out; the text up to the first colon names the kind of fault."""


@dataclasses.dataclass(frozen=True)
class PreparedRecord:
    """A recording ready for its shard.

    Attributes:
        header: What the recording says of itself.
        leads: Names of the good leads, in the order of `NOISE_LEADS`.
        steps: int16 [leads, samples].
        scale_mv: float32 [leads], mV per step.
        contradicts_einthoven: Whether lead III is far from II - I.
        spiky: Whether `remove_spikes` found any in these leads.
    """

    header: Header
    leads: tuple[str, ...]
    steps: np.ndarray
    scale_mv: np.ndarray
    contradicts_einthoven: bool
    spiky: bool


def _refuse_escape(header: Header, folder: str) -> None:
    root = os.path.realpath(folder)
    for file in files_of(header, native_samples(header.fs)):
        if os.path.commonpath([root, os.path.realpath(file)]) != root:
            raise Rejection(f"outside the records folder: {file} is a link to elsewhere; refused")


def _known_leads(header: Header) -> list[str]:
    """Returns its leads in the order of `NOISE_LEADS`; X, Y and Z may be an accelerometer's."""
    units = {lead: c.units.lower() for lead, c in zip(header.leads, header.channels, strict=True)}
    known = [lead for lead in NOISE_LEADS if lead in units]
    return [lead for lead in known if lead in STANDARD_LEADS or units[lead] in MV_PER_UNIT]


def _usable_leads(faults: dict[str, str | None], min_leads: int) -> list[str]:
    good = [lead for lead, fault in faults.items() if fault is None]
    if sum(lead in STANDARD_LEADS for lead in good) >= min_leads:
        return good
    bad = "; ".join(f"{lead} {fault}" for lead, fault in faults.items() if fault)
    missing = ", ".join(lead for lead in STANDARD_LEADS if lead not in faults)
    if not bad:
        raise Rejection(f"missing leads: {missing}")
    raise Rejection(f"bad leads: {bad}" + (f"; missing: {missing}" if missing else ""))


def _contradicts_einthoven(x: np.ndarray, leads: list[str]) -> bool:
    if leads[:3] != ["I", "II", "III"]:
        return False
    residual = np.std(x[2] - (x[1] - x[0]))
    return bool(residual > _EINTHOVEN_RESIDUAL * np.std(x[:3], axis=1).max())


def prepare_record(
    path: str,
    *,
    confine_to: str | None = None,
    min_leads: int = len(STANDARD_LEADS),
    adu_per_mv: float | None = None,
    quality: QualityLimits = QUALITY,
) -> PreparedRecord:
    """Reads, checks and preprocesses one recording.

    Args:
        path: The WFDB record.
        confine_to: Folder that its files must lie in, symbolic links followed; anywhere when None.
        min_leads: Good standard leads it needs; leads with faults are dropped.
        adu_per_mv: See `read_recording`.
        quality: Thresholds.

    Raises:
        Rejection: The recording is not good enough.
        RecordingError: It cannot be read; `RecordingUnavailable` where it may be, later.
    """
    header = read_header(path)
    if confine_to is not None:
        _refuse_escape(header, confine_to)
    if fault := rate_fault(header.fs):
        raise Rejection(fault)
    needed = native_samples(header.fs)
    if header.samples < needed:
        raise Rejection(
            f"too short: {header.samples} samples at {header.fs:g} Hz, needs "
            f"{PREPROCESSING.seconds:g} s"
        )
    present = _known_leads(header)
    if not present:
        raise Rejection(f"missing leads: none of the 12, only {', '.join(header.leads)}")
    signal_mv = read_signal(header, leads=present, stop=needed, adu_per_mv=adu_per_mv).signal_mv
    signal_mv, spiky = remove_spikes(signal_mv, header.fs, quality)
    faults = dict(zip(present, lead_faults(signal_mv, header.fs, quality), strict=True))
    sound = _usable_leads(faults, min_leads)
    x = preprocess(signal_mv[[present.index(lead) for lead in sound]], header.fs)
    for lead, filtered in zip(sound, x, strict=True):
        fault = filtered_fault(filtered, quality)
        faults[lead] = fault and f"{fault} after filtering"
    good = _usable_leads(faults, min_leads)
    x = x[[sound.index(lead) for lead in good]]
    steps, scale_mv = quantise(x)
    return PreparedRecord(
        header=header,
        leads=tuple(good),
        steps=steps,
        scale_mv=scale_mv,
        contradicts_einthoven=_contradicts_einthoven(x, good),
        spiky=any(spiky[present.index(lead)] for lead in good),
    )
