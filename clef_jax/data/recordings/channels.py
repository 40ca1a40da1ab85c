"""Which channels of a recording are ECGs, and the millivolts of their units."""

import re
from collections.abc import Sequence

from clef_jax.data.signals.leads import has_eeg, is_chest_electrode, is_ecg, is_eeg, name_leads

# Far above what any recorder writes, and few enough to be looked at one by one.
MOST_CHANNELS = 1024
# Millivolts of a digital unit, or of the range of all: beyond these it is damage.
_PLAUSIBLE_MV = (1e-12, 1e12)
MV_PER_UNIT = {
    "mv": 1.0,
    "millivolt": 1.0,
    "millivolts": 1.0,
    "uv": 1e-3,
    "µv": 1e-3,  # micro sign
    "μv": 1e-3,  # Greek mu
    "microvolt": 1e-3,
    "microvolts": 1e-3,
    "nv": 1e-6,
    "v": 1e3,
    "volt": 1e3,
    "volts": 1e3,
}

_OTHER_SIGNAL = re.compile(
    r"(?<![a-z])(?:eog|loc|roc|emg|chin|[lr]?leg|ppg|pleth|plethysmogram|abp|art|[in]?i?bp|cvp|pap"
    r"|icp|pcg|scg|bcg|gsr|eda|resp|rsp|respiration|impedance|airflow|flow|effort|snore|snoring"
    r"|s[pa]o2|(?:et)?co2|acc|accel|gyro|temp|temperature|pulse|hr|marker|trigger|status)"
    r"(?![a-z])",
    re.IGNORECASE,
)


def is_plausible_mv(size: float) -> bool:
    """Tells whether a digital unit, or the range of all of them, may be of so many millivolts."""
    return _PLAUSIBLE_MV[0] <= abs(size) <= _PLAUSIBLE_MV[1]


def labelled_ecg(labels: Sequence[str]) -> list[bool]:
    """Tells for each channel of a recording whether it is an ECG by the labels of all."""
    # A chest lead C1 tells by its name, the copy "II (2)" of a lead by its label.
    names = name_leads(labels)
    return [is_ecg(label) or is_ecg(name) for label, name in zip(labels, names, strict=True)]


def why_no_ecg(labels: Sequence[str], units: Sequence[str]) -> list[str | None]:
    """Returns for each channel of a recording why it is no ECG, None where it is one.

    An ECG is in volts, and its label names no other signal. Of C1 to C6 `name_leads` tells which
    are chest leads; the others are electrodes of an EEG where the recording holds one.

    Args:
        labels: The labels of all channels.
        units: Their units.
    """
    eeg = has_eeg(labels)
    reasons: list[str | None] = []
    for label, labelled, unit in zip(labels, labelled_ecg(labels), units, strict=True):
        if unit.strip().lower() not in MV_PER_UNIT:
            found = f"unit {unit.strip()!r}" if unit.strip() else "no unit"
            reasons.append(f"{found}, expected mV, uV, µV, nV or V")
        elif labelled:
            reasons.append(None)
        elif is_eeg(label) or _OTHER_SIGNAL.search(label) or (eeg and is_chest_electrode(label)):
            reasons.append("by its label no ECG")
        else:
            reasons.append(None)
    return reasons
