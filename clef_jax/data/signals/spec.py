"""The preprocessing as a value: stored, printed, compared, and passed to whatever does it."""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

from clef_jax.data.signals.quality import QUALITY
from clef_jax.errors import ClefError

# An ECG holds this much; recordings and specs that hold less are refused.
LEAST_BAND_HZ = 40.0
_SHORTEST_S = 1.0
_HIGHEST_ORDER = 10


class SpecError(ClefError):
    """A preprocessing that this release cannot do; the message names fields and choices."""


def _fixed(value):
    """A field that tells how this release does it; there is no other way yet."""
    return dataclasses.field(default=value, init=False)


# What an ECG holds that is worth looking at, as CLEF has it.
ECG_BAND_HZ = (0.67, 40.0)


@dataclasses.dataclass(frozen=True)
class PreprocessingSpec:
    """The preprocessing that shards and encoders are made with and compared by.

    `recipe` writes it out in Python. What cannot be chosen is told, too, so that shards and
    encoders of a release that does it otherwise are recognised.

    Attributes:
        version: Raised whenever the numbers that come of the same fields change.
        fs: Sampling rate after resampling, Hz.
        samples: Length of a window, samples at `fs`.
        max_denominator: The rate is changed by up/down, the fraction nearest to `fs` / native rate
            whose denominator is no larger.
        window: How many samples, at the native rate, make a window. No other sample counts.
        spike_mv: Samples further than this from the window's median count as missing, with their
            flanks (`data.signals.spikes`); None leaves them.
        spike_share: ... where they are no more than this share of the window.
        gaps: How missing samples are filled: "linear", by straight lines, at the ends by the
            nearest sample; or "zeros".
        resampling: How the rate is changed: `scipy.signal.resample_poly`.
        kaiser_beta: Shape of the Kaiser window that its low-pass filter is designed with.
        padtype: What it assumes beyond the ends: the line through the first and last sample.
        band_hz: Corner frequencies of the band-pass, Hz; None for no band-pass.
        order: Order of the Butterworth band-pass.
        filtering: How it is applied: (b, a) forwards and backwards, `scipy.signal.filtfilt`.
        normalisation: What is z-scored as one: each "lead" by itself, or the "record": all leads of
            a window that the encoder sees at once, which for an encoder of one lead is the same.
        zscore_epsilon: Added to the standard deviation.
        padding: What follows, after z-scoring, a recording shorter than a window.

    Raises:
        SpecError: A value is impossible.
    """

    version: int = _fixed(2)
    fs: float = 500.0
    samples: int = 5000
    max_denominator: int = _fixed(10_000)
    window: str = _fixed("(samples - 1) * down // up + 1")
    spike_mv: float | None = QUALITY.saturation_mv
    spike_share: float = QUALITY.saturation_share
    gaps: str = "linear"
    resampling: str = _fixed("polyphase")
    kaiser_beta: float = _fixed(5.0)
    padtype: str = _fixed("line")
    band_hz: tuple[float, float] | None = ECG_BAND_HZ
    order: int = 5
    filtering: str = _fixed("filtfilt")
    normalisation: str = "lead"
    zscore_epsilon: float = _fixed(1e-8)
    padding: str = _fixed("zeros")

    def __post_init__(self):
        for name, (is_possible, expected) in _POSSIBLE.items():
            value = getattr(self, name)
            try:
                possible = is_possible(value, self)
            except TypeError:
                possible = False
            if not possible:
                raise SpecError(f"preprocessing: {name} is {value!r}; expected {expected}")
        # Equal specs are equal in JSON, too, by which plans and manifests are compared.
        object.__setattr__(self, "fs", float(self.fs))
        if self.band_hz is not None:
            object.__setattr__(self, "band_hz", tuple(map(float, self.band_hz)))

    @property
    def seconds(self) -> float:
        """Length of a window, seconds."""
        return self.samples / self.fs

    def of_window(self, seconds: float) -> "PreprocessingSpec":
        """Returns the spec for windows of another length."""
        return dataclasses.replace(self, samples=round(seconds * self.fs))

    def to_dict(self) -> dict[str, Any]:
        """Returns the spec as a JSON-ready dictionary."""
        return dataclasses.asdict(self) | {"band_hz": self.band_hz and list(self.band_hz)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "PreprocessingSpec":
        """Returns the spec that this or an earlier release stored.

        Version 1 is `CLEF_V2`: at 500 Hz nothing was resampled, and without spikes and a gap across
        the window's end the numbers are the same.

        Raises:
            SpecError: A later release stored it, or a field is missing, unknown, or of a value that
                this release cannot do.
        """
        if stored.get("version") == 1:
            return _version_2(stored)
        fields = {field.name: field for field in dataclasses.fields(cls)}
        stored = upgraded(stored)
        faults = [
            f"{name} {stored[name]} instead of {field.default}"
            for name, field in fields.items()
            if not field.init and name in stored and stored[name] != field.default
        ]
        faults += [f"unknown field {name}" for name in sorted(stored.keys() - fields.keys())]
        faults += [f"no field {name}" for name in sorted(fields.keys() - stored.keys())]
        if faults:
            raise SpecError(f"preprocessing: {'; '.join(faults)}")
        return cls(**{name: stored[name] for name, field in fields.items() if field.init})


_POSSIBLE = {
    "fs": (
        lambda fs, _: 2 * LEAST_BAND_HZ < fs < math.inf,
        f"more than {2 * LEAST_BAND_HZ:g} Hz, the least that holds an ECG",
    ),
    "samples": (
        lambda samples, spec: isinstance(samples, int) and samples >= _SHORTEST_S * spec.fs,
        f"a whole number, of at least {_SHORTEST_S:g} s",
    ),
    "spike_mv": (lambda mv, _: mv is None or mv > 0, "above 0 mV, or None"),
    "spike_share": (lambda share, _: 0 <= share < 1, "a share from 0 to below 1"),
    "gaps": (lambda gaps, _: gaps in ("linear", "zeros"), "linear or zeros"),
    "band_hz": (
        lambda band, spec: band is None or (len(band) == 2 and 0 < band[0] < band[1] < spec.fs / 2),
        "two frequencies, Hz, the lower first, below half of fs; or None",
    ),
    "order": (lambda order, _: order in range(1, _HIGHEST_ORDER + 1), f"1 to {_HIGHEST_ORDER}"),
    "normalisation": (lambda over, _: over in ("lead", "record"), "lead or record"),
}

# CLEF's own, of pretraining and embedding.
CLEF_V2 = PreprocessingSpec()
# ECGFounder's, as its fine-tuning code prepares recordings of 500 Hz.
ECGFOUNDER = PreprocessingSpec(spike_mv=None, gaps="zeros", band_hz=None, normalisation="record")
SPECS = {"clef_v2": CLEF_V2, "ecgfounder": ECGFOUNDER}

# It resampled a second more than the window and bridged no spikes.
_VERSION_1 = {
    "version": 1,
    "fs": 500.0,
    "samples": 5000,
    "band_hz": [0.67, 40.0],
    "order": 5,
    "gaps": "linear",
    "resampling": "polyphase",
}


def _version_2(stored: Mapping[str, Any]) -> PreprocessingSpec:
    if differing := _differing(stored, _VERSION_1):
        raise SpecError(f"preprocessing of version 1: {differing}")
    return CLEF_V2


def upgraded(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a stored spec with the fields that its release lacked, as things were done then."""
    return dict(stored) if stored.get("version") == 1 else {"normalisation": "lead"} | dict(stored)


def spec_differences(found: PreprocessingSpec, expected: PreprocessingSpec) -> str:
    """Returns every differing field, as found and as expected; "" where the specs are equal.

    >>> spec_differences(CLEF_V2.of_window(5), CLEF_V2)
    'samples 2500 instead of 5000'
    """
    return _differing(found.to_dict(), expected.to_dict())


def _differing(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    names = [name for name in expected if found.get(name) != expected[name]]
    names += [name for name in found if name not in expected]
    return ", ".join(f"{name} {found.get(name)} instead of {expected.get(name)}" for name in names)


def read_spec(name: str) -> PreprocessingSpec:
    """Returns a spec by its name in `SPECS`, or from a JSON file.

    Args:
        name: "clef_v2", "ecgfounder", or the path of a file with the fields in which the spec
            differs from `CLEF_V2`, such as {"fs": 250, "samples": 2500}.

    Raises:
        SpecError: There is no such spec or file, or it holds what no spec can be.
    """
    if name in SPECS:
        return SPECS[name]
    try:
        with open(name, encoding="utf-8") as stream:
            fields = json.load(stream)
        if not isinstance(fields, dict):
            raise SpecError(f"holds {type(fields).__name__}, expected fields of a preprocessing")
        return PreprocessingSpec.from_dict(CLEF_V2.to_dict() | fields)
    except FileNotFoundError:
        known = ", ".join(SPECS)
        raise SpecError(f"{name}: no such file; expected one, or the name {known}") from None
    except ValueError as error:
        raise SpecError(f"{name}: {error}") from None
