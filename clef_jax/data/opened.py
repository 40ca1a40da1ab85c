"""A recording whose header is known and whose samples are read on demand."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from clef_jax.data.leads import canonical_lead
from clef_jax.data.readers import Header, Recording, RecordingError

MV_PER_UNIT = {"v": 1e3, "mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "nv": 1e-6}


@dataclasses.dataclass(frozen=True)
class OpenRecording:
    """A recording whose header is known and whose samples are read on demand.

    Attributes:
        header: Rate, leads, length, patient.
        fetch: (positions of leads, start, stop) -> float64 [leads, stop - start] in mV.
    """

    header: Header
    fetch: Callable[[Sequence[int], int, int], np.ndarray]

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
        stop = header.samples if stop is None else min(stop, header.samples)
        if not 0 <= start < stop:
            raise RecordingError(
                f"{header.path}: samples {start} to {stop} asked for, but the recording has "
                f"{header.samples}; ask for a range within it"
            )
        positions = range(len(header.leads))
        if leads is not None:
            names = [canonical_lead(name) for name in leads]
            if absent := [name for name in names if name not in header.leads]:
                raise RecordingError(
                    f"{header.path}: lead {', '.join(absent)} not found; the recording has "
                    f"{', '.join(header.leads)}; ask for one of these"
                )
            positions = [header.leads.index(name) for name in names]
        signal_mv = self.fetch(positions, start, stop)
        return Recording(
            path=header.path,
            signal_mv=signal_mv,
            fs=header.fs,
            leads=tuple(header.leads[i] for i in positions),
            patient=header.patient,
            age=header.age,
            sex=header.sex,
            comments=header.comments,
        )


def make_header(path: str, fs: float, leads: Sequence[str], samples: int, **about) -> Header:
    """Returns the header of a recording, or raises `RecordingError` where it would be empty."""
    if not 0 < fs < math.inf or samples < 1 or not leads:
        raise RecordingError(
            f"{path}: {len(leads)} leads, {samples} samples at {fs} Hz; expected at least one of "
            "each and a positive rate; the file is empty or damaged"
        )
    about = {"patient": None, "age": None, "sex": None, "comments": ()} | about
    return Header(
        path=path, fs=float(fs), leads=tuple(leads), samples=int(samples), channels=(), **about
    )


def missing_package(path: str, package: str) -> RecordingError:
    """Returns the error that a format's optional package is not installed."""
    return RecordingError(
        f"{path}: reading this format needs {package}: pip install 'clef-jax[formats]'"
    )
