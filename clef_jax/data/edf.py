"""EDF and BDF files."""

import datetime
import re

import numpy as np

from clef_jax.data import readers
from clef_jax.data.channels import MV_PER_UNIT
from clef_jax.data.leads import NOISE_LEADS, canonical_lead
from clef_jax.data.opened import OpenRecording, make_header, missing_package
from clef_jax.data.readers import RecordingError

_ECG_LABEL = re.compile(r"\b(ecg|ekg|ml\s?i{1,3})\b", re.IGNORECASE)


def open_edf(path: str) -> OpenRecording:
    """Opens an EDF, continuous EDF+ or BDF file.

    Its leads are the channels labelled as ECG or, where none is, all channels in volts.
    """
    try:
        import pyedflib
    except ImportError as error:
        raise missing_package(path, "pyedflib") from error

    def opened():
        try:
            return pyedflib.EdfReader(path)
        except OSError as error:
            raise RecordingError(
                f"{path}: not a readable EDF file ({error}); copy or export it again, as EDF or "
                "continuous EDF+"
            ) from error

    with opened() as edf:
        labels = [label.strip() for label in edf.getSignalLabels()]
        units = [edf.getPhysicalDimension(i).strip().lower() for i in range(len(labels))]
        rates, lengths = edf.getSampleFrequencies(), edf.getNSamples()
        start, birth = edf.getStartdatetime(), edf.getBirthdate(string=False)
        patient, sex = edf.getPatientCode(), readers.parse_sex(edf.getSex())
    voltages = [i for i, unit in enumerate(units) if unit in MV_PER_UNIT]
    ecg = [
        i
        for i in voltages
        if canonical_lead(labels[i]) in NOISE_LEADS or _ECG_LABEL.search(labels[i])
    ]
    columns = ecg or voltages
    if not columns:
        raise RecordingError(
            f"{path}: no channel in V, mV, uV or nV; found "
            f"{', '.join(f'{a} [{b}]' for a, b in zip(labels, units, strict=True))}; correct the "
            "physical dimensions in the file's header"
        )
    if len({(rates[i], lengths[i]) for i in columns}) > 1:
        raise RecordingError(
            f"{path}: ECG channels of different rates: "
            f"{', '.join(f'{labels[i]} {rates[i]:g} Hz' for i in columns)}; export them at one rate"
        )

    def fetch(positions, start, stop):
        with opened() as edf:
            rows = []
            for channel in (columns[i] for i in positions):
                row = edf.readSignal(channel, start, stop - start)
                if len(row) < stop - start:
                    raise RecordingError(
                        f"{path}: {labels[channel]} ends at sample {start + len(row)}, expected "
                        f"{stop}; the file is truncated, copy it again"
                    )
                rows.append(row * MV_PER_UNIT[units[channel]])
        return np.stack(rows)

    # EDF writes an unknown birth date as none at all, or as one after the recording.
    age = (start - birth).days / 365.25 if isinstance(birth, datetime.datetime) else -1.0
    header = make_header(
        path,
        rates[columns[0]],
        [canonical_lead(labels[i]) for i in columns],
        lengths[columns[0]],
        patient=patient or None,
        age=age if 0 <= age <= 120 else None,
        sex=sex,
    )
    return OpenRecording(header, fetch)
