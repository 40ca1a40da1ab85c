"""A preprocessing, written out as Python that needs numpy and scipy alone."""

from clef_jax.data.signals.spec import PreprocessingSpec


def recipe(spec: PreprocessingSpec) -> str:
    """Returns the source of the function `encoder_input(x, fs)`, which makes an encoder's input."""
    return "\n".join(
        [
            "from fractions import Fraction",
            "",
            "import numpy as np",
            "from scipy import signal",
            "",
            "",
            "def encoder_input(x, fs):",
            *(f"    {line}" for line in _body(spec)),
            "",
        ]
    )


def _body(spec: PreprocessingSpec) -> list[str]:
    together = spec.normalisation == "record"
    time, every = ("x.shape[-1]", "..., ") if together else ("len(x)", "")
    whose = "the encoder's leads, [leads, time]," if together else "one lead"
    what = f"Takes {whose} in mV at fs Hz, from the window's first sample on; NaN where missing."
    lines = [
        f'"""{what}"""',
        f"ratio = (Fraction({spec.fs:g}) / Fraction(fs)).limit_denominator({spec.max_denominator})",
        "up, down = ratio.numerator, ratio.denominator",
        f"x = x[{every}: {spec.samples - 1} * down // up + 1]",
    ]
    if spec.gaps == "zeros":
        lines += ["x = np.where(np.isfinite(x), x, 0.0)"]
    elif together:
        lines += [
            f"t, known = np.arange({time}), np.isfinite(x)",
            "x = np.array([np.interp(t, t[k], lead[k]) for lead, k in zip(x, known)])",
        ]
    else:
        lines += [
            f"t, known = np.arange({time}), np.isfinite(x)",
            "x = np.interp(t, t[known], x[known])",
        ]
    lines += [
        f'kaiser = ("kaiser", {spec.kaiser_beta})',
        f"x = signal.resample_poly(x, up, down, {'axis=-1, ' if together else ''}window=kaiser, "
        f'padtype="{spec.padtype}")[{every}:{spec.samples}]',
    ]
    if spec.band_hz is not None:
        lines += [
            f'b, a = signal.butter({spec.order}, {list(spec.band_hz)}, "bandpass", fs={spec.fs:g})',
            "x = signal.filtfilt(b, a, x)",
        ]
    after = f"(0, {spec.samples} - {'z.shape[-1]' if together else 'len(z)'})"
    return lines + [
        f"z = (x - x.mean()) / (x.std() + {spec.zscore_epsilon})",
        f"return np.pad(z, ({'(0, 0), ' + after if together else after[1:-1]}))",
    ]
