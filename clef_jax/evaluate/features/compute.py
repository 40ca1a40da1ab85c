"""Features of examples: embeddings, or what is measured of their windows; computed once."""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from clef_jax.data.recordings.recording import Hints
from clef_jax.errors import ClefError
from clef_jax.evaluate.features.store import FeatureStore
from clef_jax.evaluate.tasks.examples import Examples
from clef_jax.evaluate.windows.inputs import Prepared, Reading, Unread, read_inputs
from clef_jax.evaluate.windows.preparation import Window
from clef_jax.inference.forward import Forward

_MOST_UNREADABLE = 0.05
# Arrays `[1, ...]` as a reading makes them -> their features `[1, D]`, in order.
Compute = Callable[[Iterator[np.ndarray]], Iterator[np.ndarray]]


class UnreadableError(ClefError):
    """So many files cannot be read that what is left is another data set."""


@dataclasses.dataclass
class Features:
    """Features of examples.

    Attributes:
        values: float32 `[n, D]`; NaN of those unread.
        unread: The examples left out, each with the reason.
    """

    values: np.ndarray
    unread: list[Unread]


def embedding(forward: Forward) -> Compute:
    """Returns what embeds encoder inputs."""
    return lambda inputs: (outputs.embedding for outputs in forward.stream(inputs))


def windows_of(examples: Examples) -> list[Window]:
    """Returns the window of each example, files as they are found from here."""
    columns = [examples.table[name] for name in ("example", "file", "lead", "start_s", "window_s")]
    return [
        Window(str(name), os.path.join(examples.root, file), lead, float(start_s), float(window_s))
        for name, file, lead, start_s, window_s in zip(*columns, strict=True)
    ]


def window_key(window: Window, reading: Reading, hints: Hints) -> str:
    """Returns the hash of what makes a window's samples: file, lead, place and, if random, name."""
    by_name = isinstance(reading, Prepared) and reading.preparation.window == "random"
    parts = [os.path.abspath(window.file), *window[2:], window.example if by_name else ""]
    parts.append(dataclasses.asdict(hints))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def stored_features(
    windows: Sequence[Window],
    reading: Reading,
    compute: Compute,
    folder: pathlib.Path,
    about: Mapping[str, Any],
    *,
    hints: Hints,
    workers: int,
    title: str,
) -> Features:
    """Returns the features of windows; those that a folder lacks are computed and stored there.

    Args:
        windows: Of the examples. Two may be the same.
        reading: What becomes of a window.
        compute: What becomes of that.
        folder: Of what this reading and computation made.
        about: JSON record of them, by which a folder of others is recognised.
        hints: What is said of files beside them.
        workers: Reading processes; 0 reads in this one.
        title: Of the progress bar.

    Raises:
        UnreadableError: More than 5 % of the windows cannot be read.
        FeatureStoreError: The folder holds features made in another way.
        WorkersCannotStart: No process can be started.
    """
    store = FeatureStore(folder, about)
    keys = [window_key(window, reading, hints) for window in windows]
    rows = store.read(set(keys))
    todo = {k: w for k, w in zip(keys, windows, strict=True) if k not in rows}
    unread: dict[str, Unread] = {}
    with tqdm(total=len(todo), desc=title, unit="ex", disable=not todo) as bar:
        # Programs are compiled for one length of window.
        for length in sorted({window.window_s for window in todo.values()}):
            of_length = {k: w for k, w in todo.items() if w.window_s == length}
            waiting: deque[str] = deque()
            read = read_inputs(list(of_length.values()), reading, hints=hints, workers=workers)
            with contextlib.closing(read), contextlib.closing(_Flushed(store)):
                inputs = _inputs(of_length, read, waiting, unread, len(set(keys)), bar)
                for features in compute(inputs):
                    key = waiting.popleft()
                    rows[key] = features[0]
                    store.add(key, features[0])
                    bar.update()
    return Features(
        _filled([rows.get(key) for key in keys]),
        [
            unread[key]._replace(example=window.example)
            for key, window in zip(keys, windows, strict=True)
            if key in unread
        ],
    )


class _Flushed:
    """Writes what a store was given, whatever ends the computation."""

    def __init__(self, store: FeatureStore):
        self.close = store.flush


def _inputs(
    windows: dict[str, Window],
    read: Iterator[np.ndarray | Unread],
    waiting: deque[str],
    unread: dict[str, Unread],
    count: int,
    bar: tqdm,
) -> Iterator[np.ndarray]:
    """Yields what was read, `[1, ...]`, notes whose it is, and sets aside what was not read."""
    for key, found in zip(windows, read, strict=True):
        if isinstance(found, Unread):
            unread[key] = found
            bar.update()
            require_few_unreadable(unread.values(), count)
        else:
            waiting.append(key)
            yield found[None]


def require_few_unreadable(unread: Iterable[Unread], count: int) -> None:
    """Raises UnreadableError where more than 5 % of so many windows are of unreadable files."""
    failed = [one for one in unread if not one.readable]
    if len(failed) > _MOST_UNREADABLE * count:
        reasons = "; ".join(dict.fromkeys(one.error for one in failed[:3]))
        raise UnreadableError(
            f"{len(failed)} of {count} windows cannot be read, more than "
            f"{_MOST_UNREADABLE:.0%}, so that no result would be that of the data set: {reasons}; "
            "get the files whole, or take the rows out of the table"
        )


def _filled(rows: Sequence[np.ndarray | None]) -> np.ndarray:
    """Returns float32 `[n, D]`, NaN for None."""
    width = next((row.size for row in rows if row is not None), 1)
    nothing = np.full(width, np.nan, np.float32)
    return np.array([nothing if row is None else row for row in rows], np.float32)
