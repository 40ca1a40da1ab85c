"""A recording, what it says about itself, and how reading one fails."""

import dataclasses
import errno

import numpy as np

from clef_jax.errors import ClefError

# What a header declares beyond is damage; gaps and sparse files bear out any length.
LONGEST_S = 366 * 86_400.0
_FAULTS_OF_THE_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
# None: raised by a library for what it found in the file.
_CODES_OF_SUCH_FAULTS = (errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO, errno.EINVAL, None)


class RecordingError(ClefError):
    """A recording that cannot be read; the message names the file, the fault and the remedy."""


class RecordingUnavailable(RecordingError):
    """A recording that may be sound: the disk, the network or this process failed to read it."""


@dataclasses.dataclass(frozen=True)
class Hints:
    """What is said of recordings beside their files, each used where a format leaves it open.

    Attributes:
        fs: Sampling rate of formats that carry none, Hz.
        lead_names: Names of the leads of such files, in place of their own.
        units: Units of such files where they name none: mV, uV or V. None: mV, if the amplitudes
            can be mV.
        adu_per_mv: Digital units per mV of WFDB records, in place of the gains and baselines in
            their headers. LUDB (1000) needs it: its headers stretch every lead to 1 mV.
    """

    fs: float | None = None
    lead_names: tuple[str, ...] | None = None
    units: str | None = None
    adu_per_mv: float | None = None


@dataclasses.dataclass(frozen=True)
class Header:
    """What a recording says about itself, without its samples.

    Attributes:
        path: The file; of a WFDB record its path without suffix.
        fs: Sampling rate, Hz: the highest among the ECG leads.
        leads: Canonical names, in the file's order, no two alike.
        samples: Length per lead, at `fs`.
        patient: Identifier, if any.
        age: Years, if given.
        sex: "male", "female" or None.
        comments: The comment lines of a WFDB header, without "#".
    """

    path: str
    fs: float
    leads: tuple[str, ...]
    samples: int
    patient: str | None = None
    age: float | None = None
    sex: str | None = None
    comments: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Recording:
    """The samples of a recording and what is known about it.

    Attributes:
        path: As of `Header`, like all but the signal.
        signal_mv: float64 [leads, samples], mV; NaN where a sample is missing.
        fs: Sampling rate, Hz.
        leads: Canonical names, in the order of `signal_mv`.
        patient: Identifier, if any.
        age: Years, if given.
        sex: "male", "female" or None.
        comments: Comment lines.

    Example:
        >>> from clef_jax.data.recordings import read_recording
        >>> recording = read_recording("ecg")
        >>> recording.leads, recording.signal_mv.shape, recording.fs
        (('I', 'II'), (2, 6250), 250.0)
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
