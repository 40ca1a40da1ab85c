"""Sampling rates at which the encoder's input cannot be made, and what was probably meant."""

import math

from clef_jax.data.signals.spec import LEAST_BAND_HZ, PreprocessingSpec

# Far above any recorder of ECGs: what is larger was meant in another unit.
_MAX_FS = 500_000.0
# Where a guess of the unit that was meant helps, Hz.
_USUAL_FS = (100.0, 5000.0)


def _highest_hz(spec: PreprocessingSpec) -> float:
    return LEAST_BAND_HZ if spec.band_hz is None else spec.band_hz[1]


def rate_fault(fs: float, spec: PreprocessingSpec) -> str | None:
    """Says why a recording at `fs` (Hz) cannot be preprocessed, or None where it can.

    At a rate of twice the band's upper corner or less, the encoder would be shown a band that the
    recording cannot hold; without a band-pass 40 Hz count as the corner. The text up to the colon
    names the kind of fault.
    """
    highest_hz = _highest_hz(spec)
    if not 0 < fs < math.inf:
        return f"impossible rate: {fs:g} Hz"
    if fs <= 2 * highest_hz:
        return f"too low a rate: {fs:g} Hz cannot hold the band to {highest_hz:g} Hz"
    if fs > _MAX_FS:
        return f"too high a rate: {fs:.10g} Hz is beyond recorders of ECGs"
    return None


def rate_remedy(fs: float, spec: PreprocessingSpec) -> str:
    """Returns what to do about a rate that has a fault, with guesses of the unit that was meant."""
    guesses = {"kHz": 1000 * fs, "mHz": fs / 1000}
    if fs > 0:
        guesses |= {"ms between samples": 1000 / fs, "s between samples": 1 / fs}
    meant = [
        f"{rate:g} Hz if {unit} were meant"
        for unit, rate in guesses.items()
        if _USUAL_FS[0] <= rate <= _USUAL_FS[1]
    ]
    return (
        f"expected more than {2 * _highest_hz(spec):g} Hz and at most {_MAX_FS:.0f} Hz"
        + (f" ({', '.join(meant)})" if meant else "")
        + "; correct fs (--fs) or the file's header, or find the recording at its original rate"
    )
