"""A recording, what it says about itself, and how reading one fails."""

import dataclasses
import errno

import numpy as np

from clef_jax.errors import ClefError

_FAULTS_OF_THE_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
# None: raised by a library for what it found in the file.
_CODES_OF_SUCH_FAULTS = (errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO, errno.EINVAL, None)


class RecordingError(ClefError):
    """A recording that cannot be read; the message names the file, the fault and the remedy."""


class RecordingUnavailable(RecordingError):
    """A recording that may be sound: the disk, the network or this process failed to read it."""


@dataclasses.dataclass(frozen=True)
class Channel:
    """One signal line of a WFDB header: where its samples are and what they mean.

    Attributes:
        file: Name of the signal file, beside the header.
        storage: WFDB's number of the storage format; 0 where no samples are stored.
        samples_per_frame: Its samples in each frame, the unit in which WFDB counts time.
        skew: Frames by which it is late in the file.
        byte_offset: Where its samples begin in the file.
        gain: Digital units per physical unit.
        baseline: Digital value of 0.
        units: The physical unit.
        initial: Digital value before the first sample, of formats that store differences.
        label: What is recorded, as the header says it.
    """

    file: str
    storage: int
    samples_per_frame: int
    skew: int
    byte_offset: int
    gain: float
    baseline: int
    units: str
    initial: int
    label: str


@dataclasses.dataclass(frozen=True)
class Segment:
    """A stretch of a multi-segment record.

    Attributes:
        path: The record that holds it, without suffix; None for a gap.
        frames: Its length. A first segment without length holds no samples: it names the leads of
            a record whose segments each have some of them (WFDB's variable layout).
    """

    path: str | None
    frames: int


@dataclasses.dataclass(frozen=True)
class Header:
    """What a recording says about itself, without its samples.

    Attributes:
        path: The record's path without suffix.
        fs: Sampling rate, Hz: the highest among the ECG leads.
        leads: Canonical names, in the file's order, no two alike.
        samples: Length per lead, at `fs`.
        patient: Identifier in the comments, if any.
        age: Years, if given.
        sex: "male", "female" or None.
        comments: The header's comment lines without "#".
        channels: How each lead is stored.
        samples_per_frame: Samples at `fs` in a frame of a WFDB record.
        segments: What a multi-segment record consists of, in order.
    """

    path: str
    fs: float
    leads: tuple[str, ...]
    samples: int
    patient: str | None
    age: float | None
    sex: str | None
    comments: tuple[str, ...]
    channels: tuple[Channel, ...] = dataclasses.field(repr=False)
    samples_per_frame: int = 1
    segments: tuple[Segment, ...] = dataclasses.field(default=(), repr=False)


@dataclasses.dataclass(frozen=True)
class Recording:
    """The samples of a recording and what is known about it.

    Attributes:
        path: The record's path without suffix.
        signal_mv: float64 [leads, samples], mV; NaN where a sample is missing.
        fs: Sampling rate, Hz.
        leads: Canonical names, in the order of `signal_mv`.
        patient: Identifier in the header's comments, if any.
        age: Years, if given.
        sex: "male", "female" or None.
        comments: The header's comment lines.
    """

    path: str
    signal_mv: np.ndarray
    fs: float
    leads: tuple[str, ...]
    patient: str | None
    age: float | None
    sex: str | None
    comments: tuple[str, ...]


def may_pass(error: OSError) -> bool:
    """Says whether an error is of the moment (EIO, ESTALE, EMFILE …) or lies in the file."""
    return not isinstance(error, _FAULTS_OF_THE_FILE) and error.errno not in _CODES_OF_SUCH_FAULTS


def unreadable(what: str, error: OSError, remedy: str) -> RecordingError:
    """Returns the error for a file that could not be opened or read."""
    reason = error.strerror or str(error)
    if may_pass(error):
        return RecordingUnavailable(f"{what} cannot be read now ({reason}); try again")
    return RecordingError(f"{what} cannot be read ({reason}); {remedy}")
