r"""Draws every stage of the preprocessing of one recording's first ten seconds.

python tools/draw_preprocessing.py --recording cpsc2021/data_84_1 --lead II \
    --out docs/preprocessing.png
"""

import numpy as np
from absl import flags
from matplotlib.figure import Figure

from clef_jax.cli import tool
from clef_jax.data.recordings import read_recording
from clef_jax.data.signals import preprocessing
from clef_jax.data.signals.spec import CLEF_V2
from clef_jax.files import only_writer, replacing

_RECORDING = flags.DEFINE_string("recording", None, "WFDB, EDF or DICOM file.", required=True)
_LEAD = flags.DEFINE_string("lead", "I", "Lead to draw.")
_OUT = flags.DEFINE_string("out", None, "PNG file to write.", required=True)
_ZOOM_S = (4.0, 4.8)


def _stages(x: np.ndarray, fs: float) -> list[tuple[str, str, float, np.ndarray]]:
    """Returns (title, unit, rate, samples) of the signal after each stage."""
    spec = CLEF_V2
    window = x[: preprocessing.native_samples(fs, spec)]
    resampled = preprocessing.resample(preprocessing.fill_gaps(window), fs, spec.fs)[: spec.samples]
    filtered = preprocessing.bandpass(resampled, spec.fs)
    low, high = spec.band_hz
    return [
        (f"as recorded, {fs:g} Hz", "mV", fs, window),
        (f"gaps filled, resampled to {spec.fs:g} Hz, cut to 10 s", "mV", spec.fs, resampled),
        (f"band-passed {low:g}–{high:g} Hz, zero phase", "mV", spec.fs, filtered),
        ("z-scored: the encoder's input", "SD", spec.fs, preprocessing.zscore(filtered)),
    ]


def main() -> None:
    """Draws ten seconds on the left and the samples of less than one on the right."""
    recording = read_recording(_RECORDING.value, leads=[_LEAD.value])
    stages = _stages(recording.signal_mv[0], recording.fs)
    figure = Figure(figsize=(10, 8), layout="constrained")
    grid = figure.subplots(len(stages), 2, sharex="col", width_ratios=(3, 1))
    for (title, unit, rate, x), (whole, zoom) in zip(stages, grid, strict=True):
        t = np.arange(x.size) / rate
        whole.plot(t, x, linewidth=0.7, color="black")
        whole.set_title(title, loc="left", fontsize=10)
        whole.set_ylabel(unit)
        part = (t >= _ZOOM_S[0]) & (t <= _ZOOM_S[1])
        zoom.plot(t[part], x[part], ".-", markersize=2, linewidth=0.5, color="black")
        for axes in (whole, zoom):
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
        whole.axvspan(*_ZOOM_S, color="tab:blue", alpha=0.12, linewidth=0)
    grid[-1, 0].set_xlim(0, CLEF_V2.seconds)
    for axes in grid[-1]:
        axes.set_xlabel("s")
    with only_writer(_OUT.value), replacing(_OUT.value) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    print(_OUT.value)


if __name__ == "__main__":
    tool.run(main)
