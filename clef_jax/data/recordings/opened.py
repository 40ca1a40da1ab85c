"""A recording whose header is known and whose samples are read on demand."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

import numpy as np

from clef_jax.data.recordings.recording import (
    LONGEST_S,
    Header,
    Recording,
    RecordingError,
    RecordingUnavailable,
)
from clef_jax.data.signals import preprocessing
from clef_jax.data.signals.leads import find_lead
from clef_jax.reads import in_time, with_retries

Fetch = Callable[[Sequence[int], int, int], np.ndarray]

# Either side of a part that is brought to another rate; the filter reaches ten samples.
_MARGIN_S = 1.0


@dataclasses.dataclass(frozen=True)
class OpenRecording:
    """A recording whose header is known and whose samples are read on demand.

    Attributes:
        header: Rate, leads, length, patient. No two leads have the same name.
        fetch: (positions of leads, start, stop) -> float64 [leads, stop - start] in mV.
        left_out: The channels of the file that are not among the leads, each with the reason.
        other_files: Yields the files, besides the one opened, that the samples are read from; each
            before it is looked into for the names of further ones.

    Example:
        >>> from clef_jax.data.recordings import open_recording
        >>> opened = open_recording("ecg")
        >>> opened.header.leads, opened.header.samples
        (('I', 'II'), 6250)
        >>> opened.read(leads=["II"], start=1000, stop=2000).signal_mv.shape
        (1, 1000)
    """

    header: Header
    fetch: Fetch
    left_out: tuple[str, ...] = ()
    other_files: Callable[[], Iterator[str]] = lambda: iter(())

    def read(
        self, *, leads: Sequence[str] | None = None, start: int = 0, stop: int | None = None
    ) -> Recording:
        """Reads part of the signal.

        Args:
            leads: Lead names in any usual spelling, in the order wanted; None for all.
            start: First sample, at the recording's own rate.
            stop: One past the last sample; the end when None or beyond it.

        Raises:
            RecordingError: A lead is missing, the range is empty or the samples are damaged.
        """
        header = self.header
        positions = list(range(len(header.leads)))
        if leads is not None:
            found = [find_lead(name, header.leads) for name in leads]
            if absent := [name for name, at in zip(leads, found, strict=True) if at is None]:
                raise RecordingError(
                    f"{header.path}: lead {', '.join(absent)} not found; the recording has "
                    f"{', '.join(header.leads)}; ask for one of these{self.left_out_remark}"
                )
            positions = [at for at in found if at is not None]
        return Recording(
            path=header.path,
            signal_mv=self.read_positions(positions, start, stop),
            fs=header.fs,
            leads=tuple(header.leads[i] for i in positions),
            patient=header.patient,
            age=header.age,
            sex=header.sex,
            comments=header.comments,
        )

    def read_positions(
        self, positions: Sequence[int], start: int = 0, stop: int | None = None
    ) -> np.ndarray:
        """Returns float64 [positions, stop - start], mV, of the leads at `positions`.

        Raises:
            RecordingError: The range is empty or the samples are damaged; `RecordingUnavailable`
                where they could not be read in several tries, but may be sound.
        """
        samples = self.header.samples
        stop = samples if stop is None else min(stop, samples)
        if not 0 <= start < stop:
            raise RecordingError(
                f"{self.header.path}: samples {start} to {stop} asked for, but the recording has "
                f"{samples}; ask for a range within it"
            )
        return in_time(
            lambda: with_retries(lambda: self.fetch(positions, start, stop), RecordingUnavailable),
            RecordingUnavailable,
            lambda: self.header.path,
        )

    @property
    def left_out_remark(self) -> str:
        """The channels left out, for the end of an error message; empty where there are none."""
        return f" (left out: {'; '.join(self.left_out)})" if self.left_out else ""


def ecg_positions(
    path: str, labels: Sequence[str], reasons: Sequence[str | None]
) -> tuple[list[int], tuple[str, ...]]:
    """Returns the positions of a file's ECG channels, and the others, each with its reason.

    Args:
        path: The file.
        labels: The labels of all its channels.
        reasons: Why each channel is no ECG, as of `channels.why_no_ecg`; None for an ECG.

    Raises:
        RecordingError: No channel is an ECG.
    """
    left_out = tuple(
        f"{label or f'channel {i}'}: {reason}"
        for i, (label, reason) in enumerate(zip(labels, reasons, strict=True))
        if reason is not None
    )
    positions = [i for i, reason in enumerate(reasons) if reason is None]
    if not positions:
        raise RecordingError(
            f"{path}: no channel is an ECG: {'; '.join(left_out) or 'there is none'}; correct the "
            "labels and units in the file if one is"
        )
    return positions, left_out


def at_one_rate(
    fetch_native: Fetch, rates: Sequence[float], lengths: Sequence[int]
) -> tuple[Fetch, float, int]:
    """Brings leads of several sampling rates to the highest of them.

    A part is resampled with a second of signal either side and on the time grid of the whole, so
    that it holds the same values as the whole, but for microvolts within ten samples of a gap or
    an end of the recording. Gaps stay gaps.

    Args:
        fetch_native: As `OpenRecording.fetch`, but start and stop count samples at the leads' own
            rate. It is called with positions of leads that share a rate, and within their length.
        rates: Sampling rate of each lead, Hz.
        lengths: Samples of each lead at its own rate.

    Returns:
        The fetch function, its rate (Hz) and the samples at that rate.
    """
    length_of = dict(zip(rates, lengths, strict=True))
    fs = max(rates)

    def fetch_resampled(positions, rate, start, stop):
        ratio = Fraction(*preprocessing.up_down(rate, fs))
        margin = math.ceil(_MARGIN_S * rate)
        # Every `ratio.denominator`-th native sample falls on a sample of the highest rate.
        first = max(math.floor(start / ratio) - margin, 0)
        first -= first % ratio.denominator
        last = min(math.ceil(stop / ratio) + margin, length_of[rate])
        part = slice(start - int(first * ratio), stop - int(first * ratio))
        out = np.full((len(positions), stop - start), np.nan)
        for row, native in zip(out, fetch_native(positions, first, last), strict=True):
            missing = ~np.isfinite(native)
            if missing.all():
                continue
            resampled = preprocessing.resample(preprocessing.fill_gaps(native), rate, fs)
            doubled = 2 * ratio.denominator * np.arange(resampled.size)
            nearest = (doubled + ratio.numerator) // (2 * ratio.numerator)
            resampled[missing[np.minimum(nearest, native.size - 1)]] = np.nan
            row[: resampled[part].size] = resampled[part]
        return out

    def fetch(positions, start, stop):
        out = np.empty((len(positions), stop - start))
        for rate in {rates[i] for i in positions}:
            rows = [row for row, i in enumerate(positions) if rates[i] == rate]
            of_rate = [positions[row] for row in rows]
            if rate == fs:
                out[rows] = fetch_native(of_rate, start, stop)
            else:
                out[rows] = fetch_resampled(of_rate, rate, start, stop)
        return out

    return fetch, fs, length_of[fs]


def make_header(path: str, fs: float, leads: Sequence[str], samples: int, **about) -> Header:
    """Returns the header of a recording, or raises `RecordingError` where it would be empty."""
    if not 0 < fs < math.inf or samples < 1 or not leads or samples > LONGEST_S * fs:
        raise RecordingError(
            f"{path}: {len(leads)} leads, {samples} samples at {fs} Hz; expected at least one of "
            "each, a positive rate and no more than a year; the file is empty or damaged"
        )
    return Header(path=path, fs=float(fs), leads=tuple(leads), samples=int(samples), **about)


def missing_package(path: str, package: str) -> RecordingError:
    """Returns the error that a format's optional package is not installed."""
    return RecordingError(
        f"{path}: reading this format needs {package}: pip install 'clef-jax[formats]'"
    )
