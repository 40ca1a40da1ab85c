"""Beats and rhythm episodes of WFDB annotation files (.atr)."""

import dataclasses
import os

import numpy as np

from clef_jax.evaluate.datasets.folders import DatasetError

# The classes of AAMI EC57 that are told apart: normal and bundle branch block, supraventricular,
# ventricular. Fusions, paced and unclassifiable beats (Q) belong to none.
BEATS = {symbol: "N" for symbol in "NLRej"}
BEATS |= {symbol: "S" for symbol in "SAaJ"}
BEATS |= {symbol: "V" for symbol in "VE"}


@dataclasses.dataclass(frozen=True)
class Episode:
    """A rhythm from its onset to its end, in samples; the end is one past the last.

    Attributes:
        rhythm: As annotated, without the bracket: "N", "AFIB", "AFL" ...
        start: First sample.
        stop: Where another rhythm or the closing bracket is, or the record ends.
    """

    rhythm: str
    start: int
    stop: int


@dataclasses.dataclass(frozen=True)
class Annotations:
    """What a record's annotator wrote.

    Attributes:
        sample: int64 `[beats]`, where each beat is, those of no class of `BEATS` left out.
        beat: `[beats]`, its class.
        episodes: In order of time.
    """

    sample: np.ndarray
    beat: np.ndarray
    episodes: tuple[Episode, ...]


def read_annotations(record: str | os.PathLike, samples: int) -> Annotations:
    """Reads the .atr file of a record.

    Args:
        record: Its path without suffix.
        samples: Length of the record.

    Raises:
        DatasetError: The file is missing or damaged.
    """
    import wfdb

    try:
        found = wfdb.rdann(os.fspath(record), "atr")
    except Exception as error:  # wfdb may raise anything of a damaged file.
        raise DatasetError(
            f"{record}.atr: no annotations to be read ({error}); download it again"
        ) from error
    classes = np.array([BEATS.get(symbol, "") for symbol in found.symbol], object)
    is_beat = classes != ""
    notes = [note.strip("\0 ") for note in found.aux_note]
    return Annotations(
        np.asarray(found.sample, np.int64)[is_beat],
        classes[is_beat],
        _episodes(notes, np.asarray(found.sample, np.int64), samples),
    )


def _episodes(notes: list[str], sample: np.ndarray, samples: int) -> tuple[Episode, ...]:
    """Returns the episodes: "(AFIB" begins one, and the next bracket of either kind ends it."""
    brackets = [(at, note) for at, note in zip(sample.tolist(), notes, strict=True)
                if note.startswith(("(", ")"))]  # fmt: skip
    ends = [*(at for at, _ in brackets), samples][1:]
    return tuple(
        Episode(note[1:], start, min(stop, samples))
        for (start, note), stop in zip(brackets, ends, strict=True)
        if note.startswith("(") and start < min(stop, samples)
    )
