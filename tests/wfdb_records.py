"""Small WFDB records, written by hand."""

import numpy as np

from clef_jax.data.signals.leads import STANDARD_LEADS


def write_record(
    folder, name="r", *, gain=1000.0, units="mV", leads=STANDARD_LEADS, fs=500, x=None
):
    """Writes a format 16 record by hand and returns its samples in adu, [leads, time]."""
    if x is None:
        x = np.random.default_rng(0).normal(0, 300, (len(leads), fs * 10)).astype("<i2")
    x.T.astype("<i2").tofile(folder / f"{name}.dat")
    lines = [f"{name} {len(leads)} {fs} {x.shape[1]}"]
    lines += [f"{name}.dat 16 {gain}(0)/{units} 16 0 0 0 0 {lead}" for lead in leads]
    (folder / f"{name}.hea").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return x


def edit_header(folder, old, new, name="r"):
    path = folder / f"{name}.hea"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
