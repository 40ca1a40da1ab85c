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
    sample, symbols, notes = _annotations_in(record)
    classes = np.array([BEATS.get(symbol, "") for symbol in symbols], object)
    is_beat = classes != ""
    notes = [note.strip("\0 ") for note in notes]
    return Annotations(sample[is_beat], classes[is_beat], _episodes(notes, sample, samples))


def _annotations_in(record: str | os.PathLike) -> tuple[np.ndarray, list[str], list[str]]:
    """Returns every annotation's sample, symbol and note.

    Not by `wfdb.rdann`, which never ends where a note at the record's start begins with "## " but
    defines nothing.
    """
    from wfdb.io import annotation

    try:
        pairs = annotation.load_byte_pairs(os.fspath(record), "atr", None)
        at, codes, *_, notes = annotation.proc_ann_bytes(pairs, None)
        sample = np.array(at, np.int64)
    except Exception as error:  # wfdb may raise anything of a damaged file.
        raise DatasetError(
            f"{record}.atr: no annotations to be read ({error}); download it again"
        ) from error
    if (np.diff(sample, prepend=0) < 0).any():
        raise DatasetError(
            f"{record}.atr: its annotations go back in time, so it is damaged; download it again"
        )
    symbol_of = {label.label_store: label.symbol for label in annotation.ann_labels}
    return sample, [symbol_of.get(code, "") for code in codes], notes


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
