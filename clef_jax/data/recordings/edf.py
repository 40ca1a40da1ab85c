"""EDF and BDF files as recordings: which channels are ECGs, whose they are, at which rate."""

import datetime
import re

import numpy as np

from clef_jax.data.recordings import edf_file
from clef_jax.data.recordings.channels import (
    MV_PER_UNIT,
    is_plausible_mv,
    labelled_ecg,
    why_no_ecg,
)
from clef_jax.data.recordings.demographics import parse_sex
from clef_jax.data.recordings.edf_file import EdfFile
from clef_jax.data.recordings.opened import OpenRecording, at_one_rate, ecg_positions, make_header
from clef_jax.data.recordings.recording import Hints, RecordingError
from clef_jax.data.signals.leads import name_leads

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


def _why_left_out(file: EdfFile) -> list[str | None]:
    """Returns why each channel is not embedded; beside `why_no_ecg`, what an EDF may lack."""
    labels = [channel.label for channel in file.channels]
    reasons = why_no_ecg(labels, [channel.unit for channel in file.channels])
    named = labelled_ecg(labels)
    for i, channel in enumerate(file.channels):
        low, high = channel.physical
        if any(named) and not named[i]:
            reasons[i] = reasons[i] or "by its label no ECG, unlike others"
        elif named[i] and not channel.unit:
            reasons[i] = (
                f"no unit for values from {low:g} to {high:g}; write it into the file, if it is uV "
                f"by: printf '%-8s' uV | dd of='{file.path}' bs=1 seek={channel.unit_at} "
                "conv=notrunc"
            )
        elif not is_plausible_mv(high - low) or channel.digital[0] >= channel.digital[1]:
            reasons[i] = reasons[i] or (
                f"not calibrated: {low:g} to {high:g} for digital {channel.digital[0]} to "
                f"{channel.digital[1]}"
            )
        elif channel.samples == 0:
            reasons[i] = reasons[i] or "no samples"
    return reasons


def _parse_date(text: str) -> datetime.date | None:
    """Returns the date of "02-MAR-2010"; by hand, because strptime asks the locale for months."""
    match = re.fullmatch(r"(\d{1,2})-([A-Z]{3})-(\d{4})", text.upper())
    if match is None:
        return None
    try:
        day, month, year = match.groups()
        return datetime.date(int(year), _MONTHS.index(month) + 1, int(day))
    except ValueError:
        return None


def _about_patient(file: EdfFile) -> dict:
    """Returns what EDF+ and BDF+ say in fixed places; plain files hold free text, often a name."""
    if not file.kind:
        return {}
    # "X" stands for unknown; fields that lack altogether are left off by some recorders.
    code, sex, born, *_ = [*file.patient.split(), "X", "X", "X"]
    started, birth = _parse_date((file.recording.split() + ["", ""])[1]), _parse_date(born)
    age = (started - birth).days / 365.25 if started and birth else -1.0
    return {
        "patient": None if code == "X" else code,
        "sex": parse_sex(sex),
        "age": age if 0 <= age <= 120 else None,
    }


def open_edf(path: str, hints: Hints) -> OpenRecording:
    """Opens an EDF, EDF+, BDF or BDF+ file, continuous or not.

    Its leads are the channels labelled as ECG or, where none is, all channels in volts that are not
    labelled as something else. Gaps of a discontinuous file are NaN. Leads of other rates are
    brought to the highest. The file says all that is needed: `hints` do not matter.

    Raises:
        RecordingError: The file is damaged or truncated, or no channel is an ECG in a known unit.
    """
    file = edf_file.read_edf_header(path)
    labels = [channel.label for channel in file.channels]
    positions, left_out = ecg_positions(path, labels, _why_left_out(file))
    if file.records < 1 or not file.record_s > 0:
        raise RecordingError(
            f"{path}: {file.records} data records of {file.record_s:g} s; expected at least one of "
            "a positive duration; the file is empty or damaged"
        )
    channels = [file.channels[i] for i in positions]
    rates = [channel.samples / file.record_s for channel in channels]
    onsets = edf_file.read_onsets(file)
    begins = [np.rint(onsets * rate).astype(np.int64) for rate in rates]
    lengths = [int(b[-1]) + c.samples for b, c in zip(begins, channels, strict=True)]

    def fetch_native(rows, start, stop):
        signal_mv = np.empty((len(rows), stop - start))
        for row, i in zip(signal_mv, rows, strict=True):
            row[:] = edf_file.read_channel(file, channels[i], begins[i], start, stop)
            row *= MV_PER_UNIT[channels[i].unit.lower()]
        return signal_mv

    fetch, fs, samples = at_one_rate(fetch_native, rates, lengths)
    names = name_leads(labels)
    header = make_header(path, fs, [names[i] for i in positions], samples, **_about_patient(file))
    return OpenRecording(header, fetch, left_out)
