"""Examples to what is read of their windows, in order, by reading processes.

The processes import neither jax nor the models.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from tqdm import tqdm

from clef_jax.data.recordings import OpenRecording
from clef_jax.data.recordings.formats import open_hinted
from clef_jax.data.recordings.recording import Hints
from clef_jax.data.signals import preprocessing
from clef_jax.data.signals.quality import UNUSABLE
from clef_jax.data.signals.spec import CLEF_V2, PreprocessingSpec
from clef_jax.data.windows.cut import (
    WindowSettings,
    choose_leads_of,
    read_windows,
    require_windows,
)
from clef_jax.errors import ClefError
from clef_jax.evaluate.learned.plain import PLAIN_FEATURES, plain_features
from clef_jax.evaluate.windows.preparation import Preparation, Scale, Window, native_window, prepare
from clef_jax.processes import WorkerDied, Workers, in_order

_WINDOWS_PER_TASK = 16


class UnusableSignal(ClefError):
    """A window that can be read but holds no signal: the encoder's own way makes nothing of it."""


class Unread(NamedTuple):
    """An example of whose window there is nothing to work on.

    Attributes:
        example: Its name.
        file: Its file.
        error: Why.
        readable: Whether the file itself could be read.
    """

    example: str
    file: str
    error: str
    readable: bool = False


class Reading(Protocol):
    """What becomes of a window; an error of its own makes the example `Unread`."""

    @property
    def hash(self) -> str:
        """Text that differs for readings that read differently."""
        ...

    def __call__(self, recording: OpenRecording, window: Window) -> np.ndarray:
        """Returns an array of a shape that depends on the window's length alone."""
        ...


@dataclasses.dataclass(frozen=True)
class OwnPreprocessing:
    """The encoder's own preprocessing, as `clef-jax embed --pad` does it.

    Attributes:
        spec: The encoder's.
        channels: Leads that it sees at once; beyond one, the example's lead does not matter.
    """

    spec: PreprocessingSpec
    channels: int = 1

    @property
    def hash(self) -> str:
        """Of every field."""
        fields = json.dumps([self.spec.to_dict(), self.channels], sort_keys=True)
        return hashlib.sha256(fields.encode()).hexdigest()[:16]

    def __call__(self, recording: OpenRecording, window: Window) -> np.ndarray:
        """Returns the encoder's input, float32 `[samples, channels]`.

        Raises:
            RecordingError: The recording lacks the leads, or ends before the window or so soon
                after its beginning that nothing can be padded.
            UnusableSignal: `clef-jax embed` gives no embedding of such a window.
        """
        header = recording.header
        settings = WindowSettings(
            self.spec,
            leads=(window.lead,) if window.lead and self.channels == 1 else None,
            window_s=window.window_s,
            pad=True,
            channels=self.channels,
        )
        positions = choose_leads_of(recording, settings)
        start = round(window.start_s * header.fs)
        require_windows(header.samples - start, header.fs, settings, header.path)
        found = read_windows(recording, positions, [start], settings)
        if (flag := found.quality[0]) in UNUSABLE:
            raise UnusableSignal(
                f"{window.file}: lead {found.lead[0]} is {flag} from {window.start_s:g} s on"
            )
        return found.x[0]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A preparation, see `prepare`.

    Attributes:
        preparation: What to do.
        train_scale: Of the training examples, where it needs that.
        trained_on: Which examples these are.
    """

    preparation: Preparation
    train_scale: Scale | None = None
    trained_on: str = ""

    @property
    def hash(self) -> str:
        """Of the preparation, and of the examples that the scale comes from."""
        return self.preparation.hash + self.trained_on

    def __call__(self, recording: OpenRecording, window: Window) -> np.ndarray:
        """Returns the encoder's input, float32 `[samples, 1]`; errors as of `prepare`."""
        return prepare(recording, window, self.preparation, self.train_scale)[:, None]


@dataclasses.dataclass(frozen=True)
class Measured:
    """Plain measurements of the window, whatever the preset: what a ruler reads."""

    hash: str = "plain features"

    def __call__(self, recording: OpenRecording, window: Window) -> np.ndarray:
        """Returns float32 `[len(PLAIN_FEATURES)]`, NaN where the signal gives none."""
        fs = recording.header.fs
        x, _ = native_window(recording, window, Preparation(missing="zeros"))
        spec = CLEF_V2.of_window(window.window_s)
        try:
            x_mv = preprocessing.preprocess(x[0], fs, spec, allow_short=True)
        except ValueError:  # Too short for the filter, or too low a rate.
            return np.full(len(PLAIN_FEATURES), np.nan, np.float32)
        return plain_features(x_mv, spec.fs).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class _Moments:
    """Count, mean and sum of squared deviations of a window's samples."""

    preparation: Preparation
    hash: str = "moments"

    def __call__(self, recording: OpenRecording, window: Window) -> np.ndarray:
        x, _ = native_window(recording, window, self.preparation)
        return np.array([x.size, x.mean(), np.square(x - x.mean()).sum()])


def train_scale(
    windows: Sequence[Window], preparation: Preparation, *, hints: Hints, workers: int
) -> Scale:
    """Returns mean and standard deviation of all samples of windows, those unread left out.

    Raises:
        UnusableSignal: There is none, or they are all alike.
    """
    read = read_inputs(windows, _Moments(preparation), hints=hints, workers=workers)
    read = tqdm(read, "scale of the training examples", len(windows), unit="ex")
    moments = np.array([found for found in read if not isinstance(found, Unread)]).reshape(-1, 3)
    count, mean, squares = moments.T
    total = count.sum()
    if not total or not (squares.any() or np.ptp(mean)):
        raise UnusableSignal(
            f"the scale of {len(windows)} training examples: no signal in any of them; look into "
            "errors.csv and at the files that it names"
        )
    overall = (count @ mean) / total
    variance = (squares.sum() + count @ np.square(mean - overall)) / total
    return Scale(float(overall), float(np.sqrt(variance)))


def read_inputs(
    windows: Sequence[Window], reading: Reading, *, hints: Hints, workers: int
) -> Generator[np.ndarray | Unread, None, None]:
    """Yields what is read of each window, in order.

    Args:
        windows: What to read.
        reading: How.
        hints: What is said of files beside them.
        workers: Reading processes; 0 reads in this one. They are there until the generator is
            closed or exhausted.

    Raises:
        WorkersCannotStart: No process can be started.
    """
    read = functools.partial(_read_batch, reading=reading, hints=hints)
    tasks = _batches(windows)
    if not workers:
        for batch in tasks:
            yield from read(batch)
        return
    with Workers(workers, attempts=2) as pool:
        for batch, found in in_order(pool, read, tasks, _split):
            if isinstance(found, WorkerDied):
                found = [_died(window, found) for window in batch]
            yield from found


def _batches(windows: Iterable[Window]) -> Iterator[tuple[Window, ...]]:
    windows = iter(windows)
    while batch := tuple(itertools.islice(windows, _WINDOWS_PER_TASK)):
        yield batch


def _split(batch: tuple[Window, ...]) -> list[tuple[Window, ...]]:
    return [(window,) for window in batch]


def _read_batch(
    batch: Sequence[Window], reading: Reading, hints: Hints
) -> list[np.ndarray | Unread]:
    found: list[np.ndarray | Unread] = []
    for window in batch:
        try:
            found.append(reading(open_hinted(window.file, hints), window))
        except Exception as error:  # A format's library may raise anything of a damaged file.
            found.append(_unread(window, error))
    return found


def _unread(window: Window, error: Exception) -> Unread:
    text = str(error) if isinstance(error, ClefError) else f"{type(error).__name__}: {error}"
    return Unread(window.example, window.file, text, isinstance(error, UnusableSignal))


def _died(window: Window, death: WorkerDied) -> Unread:
    return Unread(
        window.example,
        window.file,
        f"{window.file}: the process that read it died (exit code {death.exit_code}), and so did "
        "the next one; try the file alone",
    )
