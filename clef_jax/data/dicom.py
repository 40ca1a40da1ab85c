"""DICOM waveform objects."""

import re

import numpy as np

from clef_jax.data import readers
from clef_jax.data.leads import NOISE_LEADS, canonical_lead
from clef_jax.data.opened import MV_PER_UNIT, OpenRecording, make_header, missing_package
from clef_jax.data.readers import RecordingError

# SCP-ECG (5.6.3-9-N) and MDC (2:N) number the leads alike; used where a channel has no lead name.
_CODED_LEADS = {1: "I", 2: "II", 61: "III", 62: "aVR", 63: "aVL", 64: "aVF"} | {
    i + 2: f"V{i}" for i in range(1, 7)
}


def is_dicom(path: str) -> bool:
    """Tells a DICOM file by its preamble; many carry no suffix."""
    try:
        with open(path, "rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _dicom_lead(channel, number: int) -> str:
    source = channel.get("ChannelSourceSequence")
    meaning = str(source[0].get("CodeMeaning", "")) if source else ""
    name = canonical_lead(re.sub(r"\(.*?\)", "", meaning) or channel.get("ChannelLabel", ""))
    if name not in NOISE_LEADS and source:
        code = re.search(r"(?:5\.6\.3-9-|^2:)(\d+)$", str(source[0].get("CodeValue", "")))
        name = _CODED_LEADS.get(int(code.group(1)), name) if code else name
    return name or f"signal {number}"


def _dicom_signal(path: str, group, samples: np.ndarray) -> np.ndarray:
    """Returns float64 [leads, samples] in mV of one multiplex group's raw samples."""
    signal = samples.astype(np.float64)
    if "WaveformPaddingValue" in group:
        padding = np.frombuffer(group.WaveformPaddingValue[: samples.itemsize], samples.dtype)[0]
        signal[samples == padding] = np.nan
    for i, channel in enumerate(group.ChannelDefinitionSequence):
        units = channel.get("ChannelSensitivityUnitsSequence")
        unit = str(units[0].CodeValue).strip().lower() if units else ""
        if unit not in MV_PER_UNIT:
            raise RecordingError(
                f"{path}: Channel Sensitivity Units of {_dicom_lead(channel, i)} are {unit!r}; "
                "expected V, mV, uV or nV: this is no ECG, or its channels are not calibrated"
            )
        factor = float(channel.ChannelSensitivity)
        factor *= float(channel.get("ChannelSensitivityCorrectionFactor") or 1.0)
        offset = float(channel.get("ChannelBaseline") or 0.0)
        signal[:, i] = (signal[:, i] * factor + offset) * MV_PER_UNIT[unit]
    return np.ascontiguousarray(signal.T)


def open_dicom(path: str) -> OpenRecording:
    """Opens a DICOM 12-lead or general ECG waveform object."""
    try:
        import pydicom
        from pydicom.waveforms import multiplex_array
    except ImportError as error:
        raise missing_package(path, "pydicom") from error
    try:
        with open(path, "rb") as stream:
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
        longest = int(np.argmax(seconds))
        group = groups[longest]
        signal_mv = _dicom_signal(path, group, multiplex_array(dataset, longest, as_raw=True))
        leads = [_dicom_lead(c, i) for i, c in enumerate(group.ChannelDefinitionSequence)]
    except RecordingError:
        raise
    except Exception as error:  # pydicom raises whatever a damaged file makes it run into
        raise RecordingError(
            f"{path}: not a readable DICOM waveform ({type(error).__name__}: {error}); export or "
            "copy it again"
        ) from error
    header = make_header(
        path,
        float(group.SamplingFrequency),
        leads,
        signal_mv.shape[1],
        patient=str(dataset.get("PatientID") or "") or None,
        age=readers.parse_age(str(dataset.get("PatientAge") or "")),
        sex=readers.parse_sex(str(dataset.get("PatientSex") or "")),
    )
    return OpenRecording(header, lambda rows, start, stop: signal_mv[list(rows), start:stop].copy())
