"""DICOM waveform objects."""

import re
from collections.abc import Sequence

import numpy as np

from clef_jax.data.recordings.channels import MV_PER_UNIT, is_plausible_mv, why_no_ecg
from clef_jax.data.recordings.demographics import parse_age, parse_sex
from clef_jax.data.recordings.opened import (
    OpenRecording,
    ecg_positions,
    make_header,
    missing_package,
)
from clef_jax.data.recordings.recording import Hints, RecordingError, unreadable
from clef_jax.data.signals.leads import NOISE_LEADS, canonical_lead, name_leads
from clef_jax.files import open_regular

# SCP-ECG (5.6.3-9-N) and MDC (2:N) number the leads alike; used where a channel has no lead name.
_CODED_LEADS = {1: "I", 2: "II", 61: "III", 62: "aVR", 63: "aVL", 64: "aVF"} | {
    i + 2: f"V{i}" for i in range(1, 7)
}


def is_dicom(path: str) -> bool:
    """Tells a DICOM file by its preamble; many carry no suffix."""
    try:
        with open_regular(path) as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _label(channel) -> str:
    source = channel.get("ChannelSourceSequence")
    meaning = str(source[0].get("CodeMeaning", "")) if source else ""
    label = re.sub(r"\(.*?\)", "", meaning) or str(channel.get("ChannelLabel", ""))
    code = str(source[0].get("CodeValue", "")) if source else ""
    coded = re.search(r"(?:5\.6\.3-9-|^2:)(\d+)$", code)
    if coded and canonical_lead(label) not in NOISE_LEADS:
        label = _CODED_LEADS.get(int(coded.group(1)), label)
    return label.strip()


def _unit(channel) -> str:
    units = channel.get("ChannelSensitivityUnitsSequence")
    return str(units[0].CodeValue).strip() if units else ""


def _sensitivity(channel) -> float:
    correction = channel.get("ChannelSensitivityCorrectionFactor")
    return float(channel.ChannelSensitivity) * float(1.0 if correction is None else correction)


def _baseline(channel) -> float:
    return float(channel.get("ChannelBaseline") or 0.0)


def _why_no_ecg(group) -> list[str | None]:
    channels = group.ChannelDefinitionSequence
    reasons = why_no_ecg([_label(c) for c in channels], [_unit(c) for c in channels])
    for i, channel in enumerate(channels):
        if reasons[i] is not None:
            continue
        step, baseline = _sensitivity(channel), _baseline(channel)
        if not (is_plausible_mv(step) and (baseline == 0 or is_plausible_mv(baseline))):
            reasons[i] = f"not calibrated: sensitivity {step:g}, baseline {baseline:g}"
    return reasons


def _millivolts(group, samples: np.ndarray, positions: Sequence[int]) -> np.ndarray:
    """Returns float64 [positions, samples] in mV of one multiplex group's raw samples."""
    signal = samples[:, positions].T.astype(np.float64)
    if "WaveformPaddingValue" in group:
        padding = np.frombuffer(group.WaveformPaddingValue[: samples.itemsize], samples.dtype)[0]
        signal[(samples == padding)[:, positions].T] = np.nan
    for row, i in zip(signal, positions, strict=True):
        channel = group.ChannelDefinitionSequence[i]
        row *= _sensitivity(channel)
        row += _baseline(channel)
        row *= MV_PER_UNIT[_unit(channel).lower()]
    return signal


def open_dicom(path: str, hints: Hints) -> OpenRecording:
    """Opens a DICOM 12-lead or general ECG waveform object.

    The object says all that is needed: `hints` do not matter.

    Raises:
        RecordingError: It is no such object, damaged, or none of its channels is an ECG.
    """
    try:
        import pydicom
        from pydicom.waveforms import multiplex_array
    except ImportError as error:
        raise missing_package(path, "pydicom") from error
    try:
        with open_regular(path) as stream:
            dataset = pydicom.dcmread(stream)
        groups = dataset.get("WaveformSequence")
        if not groups:
            raise RecordingError(
                f"{path}: a DICOM object without a Waveform Sequence "
                f"({dataset.get('Modality', 'unknown modality')}); expected a 12-lead or general "
                "ECG waveform object"
            )
        # Carts store the rhythm strip and, beside it, a derived median beat.
        seconds = [g.NumberOfWaveformSamples / float(g.SamplingFrequency) for g in groups]
        holds_ecg = [None in _why_no_ecg(g) for g in groups]
        chosen = max(range(len(groups)), key=lambda i: (holds_ecg[i], seconds[i], -i))
        group = groups[chosen]
        labels = [_label(channel) for channel in group.ChannelDefinitionSequence]
        positions, left_out = ecg_positions(path, labels, _why_no_ecg(group))
        raw = multiplex_array(dataset, chosen, as_raw=True)
        signal_mv = _millivolts(group, raw, positions)
        names = name_leads(labels)
    except RecordingError:
        raise
    except OSError as error:
        raise unreadable(f"{path}:", error, "export or copy it again") from error
    except Exception as error:  # pydicom raises whatever a damaged file makes it run into
        raise RecordingError(
            f"{path}: not a readable DICOM waveform ({type(error).__name__}: {error}); export or "
            "copy it again"
        ) from error
    header = make_header(
        path,
        float(group.SamplingFrequency),
        [names[i] for i in positions],
        signal_mv.shape[1],
        patient=str(dataset.get("PatientID") or "") or None,
        age=parse_age(str(dataset.get("PatientAge") or "")),
        sex=parse_sex(str(dataset.get("PatientSex") or "")),
    )

    def fetch(rows, start, stop):
        return signal_mv[list(rows), start:stop].copy()

    return OpenRecording(header, fetch, left_out)
