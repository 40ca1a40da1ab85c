"""MATLAB files that no WFDB header describes."""

import dataclasses
import functools
import struct
import zlib

import numpy as np

from clef_jax.data.recordings.arrays import Samples, leads_first, open_samples
from clef_jax.data.recordings.demographics import parse_age, parse_sex
from clef_jax.data.recordings.opened import OpenRecording
from clef_jax.data.recordings.recording import Hints, RecordingError, unreadable
from clef_jax.data.signals.leads import STANDARD_LEADS
from clef_jax.files import stat_regular

WITHOUT_RATE = (
    "a MATLAB file without a .hea beside it, which would say its sampling rate; give that (--fs), "
    "or restore the header"
)

_CHALLENGE_NAME = "val"
_CPSC_STRUCT = "ECG"
# Of version 5: a header that ends with the byte order, then variables with a tag each.
_HEAD_BYTES, _MATRIX, _COMPRESSED = 128, 14, 15
_MOST_COMPRESSED, _SMALL_BYTES = 100, 1 << 25


def _numbers(variables: dict[str, np.ndarray]) -> np.ndarray | None:
    """Returns the variable val, or else the only one that could be a signal."""
    signals = {
        name: x
        for name, x in variables.items()
        if x.dtype.kind in "fiu" and x.ndim == 2 and max(x.shape) > 1
    }
    found = list(signals.values())
    return signals.get(_CHALLENGE_NAME, found[0] if len(found) == 1 else None)


def _refuse_bomb(path: str) -> None:
    """Raises RecordingError where a compressed variable declares to be out of all proportion."""
    with open(path, "rb") as stream:
        head = stream.read(_HEAD_BYTES)
        # By the version, which is of MATLAB 5 to 7; those of 7.3 hold no such elements.
        order = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}.get(head[-4:])
        while order and len(tag := stream.read(8)) == 8:
            kind, size = struct.unpack(f"{order}2I", tag)
            following = stream.tell() + size
            if kind == _COMPRESSED:
                inside = zlib.decompressobj().decompress(stream.read(min(size, 1024)), 8)
                kind, declared = struct.unpack(f"{order}2I", inside.ljust(8, b"\0"))
                if kind != _MATRIX or declared > _SMALL_BYTES + _MOST_COMPRESSED * size:
                    raise RecordingError(
                        f"{path}: an element of type {kind} and {declared:,} bytes compressed to "
                        f"{size:,}; expected arrays, of which no ECG is so much smaller; the file "
                        "is damaged, copy it again or save the signal anew"
                    )
            stream.seek(following)


@functools.lru_cache(maxsize=1)
def _read_mat(path: str, modified_ns: int) -> tuple[np.ndarray, dict]:
    """Returns [leads, samples] and what the file says of the patient; caches the last."""
    from scipy.io import loadmat

    try:
        _refuse_bomb(path)
        variables = loadmat(path)
    except RecordingError:
        raise
    except OSError as error:
        raise unreadable(f"{path}:", error, "copy it again") from error
    except NotImplementedError as error:
        raise RecordingError(
            f"{path}: MATLAB 7.3, which is HDF5; save it with save(..., '-v7')"
        ) from error
    except Exception as error:  # scipy raises whatever a damaged file makes it run into
        raise RecordingError(
            f"{path}: not a readable MATLAB file ({type(error).__name__}: {error}); copy it again"
        ) from error
    variables = {name: np.asarray(x) for name, x in variables.items() if not name.startswith("__")}
    struct, about = variables.get(_CPSC_STRUCT), {}
    if struct is not None and struct.dtype.names and "data" in struct.dtype.names and struct.size:
        fields = {name: np.asarray(struct.flat[0][name]) for name in struct.dtype.names}
        text = {name: str(fields[name].flat[0]) for name in ("age", "sex") if _has(fields, name)}
        about = {"age": parse_age(text.get("age", "")), "sex": parse_sex(text.get("sex", ""))}
        variables = {"data": fields["data"]}
    signal = _numbers(variables)
    if signal is None:
        found = ", ".join(f"{name} {x.shape} {x.dtype}" for name, x in variables.items())
        raise RecordingError(
            f"{path}: holds {found or 'nothing'}; expected the struct ECG of CPSC 2018, or numbers "
            "[leads, samples], in a variable val or in the only one; save it so, or restore "
            "the .hea that belongs to it"
        )
    return leads_first(signal), about


def _has(fields: dict[str, np.ndarray], name: str) -> bool:
    return name in fields and fields[name].size > 0


def open_mat(path: str, hints: Hints) -> OpenRecording:
    """Opens a MATLAB file without a WFDB header: of CPSC 2018, or of plain numbers.

    Args:
        path: The file.
        hints: As of `arrays.open_samples`. The sampling rate of CPSC 2018 is 500 Hz; its leads,
            where not named, are the standard ones and, where no unit is given, in mV.

    Raises:
        RecordingError: The file is damaged or holds no signal; or as of `open_samples`.
    """
    try:
        modified_ns = stat_regular(path).st_mtime_ns
    except OSError as error:
        raise unreadable(f"{path}:", error, "copy it again") from error
    signal, about = _read_mat(path, modified_ns)
    if hints.lead_names is None and about and len(signal) == len(STANDARD_LEADS):
        hints = dataclasses.replace(hints, lead_names=STANDARD_LEADS, units=hints.units or "mV")
    return open_samples(path, Samples(signal), hints, **about)
