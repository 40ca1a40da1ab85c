"""How the original prepared a window for its encoder, dataset by dataset, as a value.

This is what the reading processes run, so it imports neither jax nor the models. All arithmetic is
float64; the input is float32.
"""

import dataclasses
import hashlib
import json
from typing import NamedTuple

import numpy as np
from scipy import signal as dsp

from clef_jax.data.recordings import OpenRecording
from clef_jax.data.signals import preprocessing
from clef_jax.data.windows.cut import WindowSettings, choose_leads_of
from clef_jax.errors import ClefError

# MUSIC: where a window is looked for, and what makes one valid.
_TRIES, _STEP_SAMPLES = 10, 5000
_MOST_INVALID, _FLAT_SD = 0.1, 0.01
_CHOICES: dict[str, tuple[str, ...]] = {
    "resampling": ("polyphase", "fourier"),
    "scale": ("window", "record", "train", "none"),
    "missing": ("lines", "zeros", "drop"),
    "window": ("given", "random", "first valid"),
    "short": ("zeros before", "zeros after", "all zeros"),
}


class PreparationError(ClefError):
    """A preparation that there is not, or a window that it makes nothing of."""


@dataclasses.dataclass(frozen=True)
class Preparation:
    """How the window of an example becomes the encoder's input.

    Where nothing else is said the steps follow in the order of the fields.

    Attributes:
        fs: Rate of the input, Hz.
        samples: Length of the input.
        window: "given": as the example says. "first valid" (MUSIC): the first of ten windows, each
            5,000 native samples after the one before, that has less than a tenth of zeros, less
            than a tenth missing, and a standard deviation from 0.01 on; the first if there is none,
            as what the original took then cannot be batched [Q8]. "random" (Aurora-BP): anywhere in
            the recording, the same place for an example whenever it is asked for [Q14].
        seed: Of the random places.
        minmax_record: Whether all leads' lowest and highest sample become -3 and 3 (Chapman).
        missing: Missing samples become straight "lines", "zeros", or are left out ("drop").
        short: What a recording that ends before the window becomes. "zeros before": zeros follow
            it before anything else happens. "zeros after": they follow once it is scaled. "all
            zeros": nothing but zeros, which is what the original made of such (MC-MED) [Q10].
        scale: "train": by one mean and standard deviation of all training windows, before the rate
            is changed. "window": by the window's own, at the end; "record": by those of all leads
            together. "none": not at all, in mV.
        band_first: Whether the band-pass is applied at the native rate (Icentia11k).
        assumed_fs: Taken for the file's rate, Hz, whatever it says [Q1].
        resampling: "polyphase" or "fourier".
        band_hz: Corners of the band-pass, of order 5, forwards and backwards; None for none.

    Raises:
        PreparationError: A field has a value that there is not.
    """

    fs: float = 500.0
    samples: int = 5000
    window: str = "given"
    seed: int = 0
    minmax_record: bool = False
    missing: str = "lines"
    short: str = "zeros before"
    scale: str = "window"
    band_first: bool = False
    assumed_fs: float | None = None
    resampling: str = "polyphase"
    band_hz: tuple[float, float] | None = (0.67, 40.0)

    def __post_init__(self):
        for name, choices in _CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise PreparationError(
                    f"preparation: {name} is {value!r}; expected {' or '.join(choices)}"
                )

    @property
    def hash(self) -> str:
        """16 hexadecimal digits that every field changes."""
        fields = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(fields.encode()).hexdigest()[:16]


class Window(NamedTuple):
    """The part of a file that an example is about: `Examples.table` has these columns.

    Attributes:
        example: Its name.
        file: Path, as `open_recording` takes it.
        lead: Name of the lead; "" for the only one of a file that does not name it.
        start_s: Where it begins, seconds.
        window_s: Its length, seconds.
    """

    example: str
    file: str
    lead: str
    start_s: float
    window_s: float


class Scale(NamedTuple):
    """Mean and standard deviation of all training windows, mV."""

    mean: float
    sd: float


def prepare(
    recording: OpenRecording,
    window: Window,
    preparation: Preparation,
    train_scale: Scale | None = None,
) -> np.ndarray:
    """Returns the encoder's input, float32 `[samples]`.

    Args:
        recording: The example's file.
        window: The example.
        preparation: What to do.
        train_scale: Where `preparation.scale` is "train".

    Raises:
        RecordingError: The file lacks the lead, or ends before the window begins.
        PreparationError: Nothing can be made of the samples.
    """
    x, chosen = native_window(recording, window, preparation)
    samples = preparation.samples
    wanted = round(window.window_s * recording.header.fs)
    if x.shape[1] < wanted and preparation.short == "all zeros":
        return np.zeros(samples, np.float32)
    if preparation.short == "zeros before":
        x = _extended(x, wanted)
    if train_scale is not None:
        x = (x - train_scale.mean) / train_scale.sd
    fs = preparation.assumed_fs or recording.header.fs
    if preparation.band_first:
        x = _band_passed(x, fs, preparation, window)
    x = _resampled(x, fs, preparation)[:, :samples]
    if not preparation.band_first:
        x = _band_passed(x, preparation.fs, preparation, window)
    if preparation.scale == "window":
        x = preprocessing.zscore(x)
    elif preparation.scale == "record":
        x = (x - x.mean()) / (x.std() + 1e-8)
    return _extended(x, samples)[chosen].astype(np.float32)


def native_window(
    recording: OpenRecording, window: Window, preparation: Preparation
) -> tuple[np.ndarray, int]:
    """Returns a window's samples without gaps, and which lead is wanted.

    Returns:
        float64 `[leads, time]` at the file's rate, of the wanted lead, or of all where
        `preparation.scale` is "record"; and the position of the wanted lead among them.

    Raises:
        RecordingError: The file lacks the lead, or ends before the window begins.
        PreparationError: Nothing can be made of the samples.
    """
    header = recording.header
    leads = WindowSettings(leads=(window.lead,) if window.lead else None)
    (position,) = choose_leads_of(recording, leads)
    start, length = round(window.start_s * header.fs), round(window.window_s * header.fs)
    if preparation.window == "first valid":
        start = _first_valid(recording, position, start, length)
    stop = None if preparation.window == "random" else start + length
    every = list(range(len(header.leads)))
    positions = every if preparation.scale == "record" else [position]
    x = recording.read_positions(positions, start, stop)
    if preparation.minmax_record:
        x = _between_extremes(x, recording.read_positions(every), window)
    x = _without_gaps(x, preparation.missing, window)
    if preparation.window == "random":
        x = _crop(x, length, f"{preparation.seed}:{window.example}")
    return x, positions.index(position)


def _first_valid(recording: OpenRecording, position: int, start: int, length: int) -> int:
    for at in range(start, start + _TRIES * _STEP_SAMPLES, _STEP_SAMPLES):
        if at + length > recording.header.samples:
            break
        x = recording.read_positions([position], at, at + length)
        zeros, missing = np.mean(x == 0), np.mean(np.isnan(x))
        if max(zeros, missing) < _MOST_INVALID and not np.nanstd(x) < _FLAT_SD:
            return at
    return start


def _between_extremes(x: np.ndarray, record: np.ndarray, window: Window) -> np.ndarray:
    known = record[np.isfinite(record)]
    if not known.size or known.min() == known.max():
        raise PreparationError(
            f"{window.file}: all its samples are alike, so that min-max scaling makes nothing of "
            "it; leave the example out"
        )
    return 6 * (x - known.min()) / (known.max() - known.min()) - 3


def _without_gaps(x: np.ndarray, missing: str, window: Window) -> np.ndarray:
    known = np.isfinite(x)
    if missing == "zeros":
        return np.where(known, x, 0.0)
    if not known.any(axis=1).all():
        raise PreparationError(f"{window.file}: no sample of lead {window.lead} is known there")
    return x[:, known.all(axis=0)] if missing == "drop" else preprocessing.fill_gaps(x)


def _crop(x: np.ndarray, length: int, key: str) -> np.ndarray:
    digest = hashlib.sha256(key.encode()).digest()
    room = max(x.shape[1] - length, 0)
    start = np.random.default_rng(int.from_bytes(digest[:8])).integers(room + 1)
    return x[:, start : start + length]


def _extended(x: np.ndarray, length: int) -> np.ndarray:
    """Returns `[leads, length]`, zeros following `x` where that is shorter."""
    return np.pad(x, ((0, 0), (0, max(length - x.shape[1], 0))))


def _resampled(x: np.ndarray, fs: float, preparation: Preparation) -> np.ndarray:
    if fs == preparation.fs:
        return x
    if preparation.resampling == "polyphase":
        return preprocessing.resample(x, fs, preparation.fs)
    return dsp.resample(x, round(x.shape[1] * preparation.fs / fs), axis=1)


def _band_passed(x: np.ndarray, fs: float, preparation: Preparation, window: Window) -> np.ndarray:
    if preparation.band_hz is None:
        return x
    try:
        return preprocessing.bandpass(x, fs, band_hz=preparation.band_hz)
    except ValueError as error:
        raise PreparationError(f"{window.file}: cannot be band-passed: {error}") from None
