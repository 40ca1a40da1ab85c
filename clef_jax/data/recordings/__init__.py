"""Recordings of any format: opened, read in part or whole, and found in folders."""

from clef_jax.data.recordings.formats import open_recording, read_recording
from clef_jax.data.recordings.opened import OpenRecording
from clef_jax.data.recordings.recording import Recording, RecordingError, RecordingUnavailable

__all__ = [
    "OpenRecording",
    "Recording",
    "RecordingError",
    "RecordingUnavailable",
    "open_recording",
    "read_recording",
]
