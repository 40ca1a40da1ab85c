r"""Measures how often the flag "noise" is right, on recordings that its limits were not chosen on.

python -m benchmarks.quality_flags --data DATABASES --out docs

DATABASES holds PTB-XL, LUDB, the 2021 Challenge, CPSC 2021, MIT-BIH and NSTDB, each in a folder,
and MANIFEST.csv, a row for each record. Patients are split in two by their ids, the recordings of
noise in time: the limits in `clef_jax/data/signals/quality.py` were chosen on one half. Writes
quality.jsonl and quality.png to --out and prints the table of docs/quality.md. Takes two minutes.
"""

import collections
import dataclasses
import json
import pathlib
import zlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
import wfdb
from absl import app, flags
from matplotlib.figure import Figure

from clef_jax.data.recordings import Recording, read_recording
from clef_jax.data.signals import preprocessing, quality
from clef_jax.data.signals.spec import CLEF_V2

_DATA = flags.DEFINE_string("data", None, "Folder of databases.", required=True)
_OUT = flags.DEFINE_string("out", None, "Folder to write to.", required=True)

_SECONDS = 10
_NOISES = {"bw": "baseline wander", "em": "electrode motion", "ma": "muscle artefact"}
_SNR_DB = (24, 18, 12, 6, 0, -6)
_MIXTURES = 300
_PTB_XL_NOISE = ["baseline_drift", "static_noise", "burst_noise", "electrodes_problems"]
_BROAD = {"CLBBB", "CRBBB", "IVCD", "WPW"}
_UNREADABLE = -1  # MIT-BIH's code of signal quality where neither lead can be read


@dataclasses.dataclass(frozen=True)
class Window:
    """Ten seconds of one lead.

    Attributes:
        x: float64 [samples], band-passed, mV.
        patient: Whose.
        groups: Rows of the table that it counts in.
        clean: Whether nobody has annotated noise in it.
    """

    x: np.ndarray
    patient: str
    groups: tuple[str, ...]
    clean: bool

    @property
    def side(self) -> str:
        """On which side of the split the patient is."""
        return ("choosing", "reporting")[zlib.crc32(self.patient.encode()) % 2]


def _filtered(x: np.ndarray, fs: float) -> np.ndarray | None:
    """Returns the first window of a lead, band-passed, or None where another flag comes first."""
    if quality.lead_faults(x[None, : round(_SECONDS * fs)], fs)[0]:
        return None
    return preprocessing.preprocess(x, fs, CLEF_V2)


def _statements(text: str) -> list[str]:
    """Returns the keys of a Python dictionary with text keys, as PTB-XL writes them."""
    return [part.split("'")[1] for part in text.split(",")]


def _ptb_xl(data: pathlib.Path):
    table = pd.read_csv(data / "ptb-xl/ptbxl_database.csv")
    for row in table.itertuples():
        codes = set(_statements(row.scp_codes))
        clean = not any(isinstance(getattr(row, name), str) for name in _PTB_XL_NOISE)
        groups = ["PTB-XL" if clean else "PTB-XL, noise annotated"]
        groups += ["bundle branch block or broad QRS"] * bool(codes & _BROAD and clean)
        groups += ["paced"] * ("PACE" in codes and clean)
        groups += ["atrial fibrillation or flutter"] * bool(codes & {"AFIB", "AFLT"} and clean)
        recording = read_recording(data / "ptb-xl" / row.filename_hr)
        for x in recording.signal_mv:
            yield x, recording.fs, f"ptb-xl:{int(row.patient_id)}", groups, clean


def _ludb(data: pathlib.Path):
    for row in pd.read_csv(data / "ludb/ludb.csv").fillna("").to_dict("records"):
        if not (data / f"ludb/data/{row['ID']}.hea").exists():
            continue
        conduction = row["Conduction abnormalities"]
        broad = "Complete" in conduction or "intravintricular" in conduction
        groups = ["LUDB"] + ["bundle branch block or broad QRS"] * broad
        groups += ["paced"] * bool(row["Cardiac pacing"])
        groups += ["atrial fibrillation or flutter"] * ("Atrial f" in row["Rhythms"])
        path = data / f"ludb/data/{row['ID']}"
        recording = read_recording(path, adu_per_mv=1000)
        for x in recording.signal_mv:
            yield x, recording.fs, f"ludb:{row['ID']}", groups, True


def _manifest(data: pathlib.Path, database: str) -> pd.DataFrame:
    table = pd.read_csv(data / "MANIFEST.csv", dtype=str)
    return table[table.dataset == database]


def _challenge(data: pathlib.Path):
    for row in _manifest(data, "challenge-2021").itertuples():
        recording = read_recording(data / "challenge-2021" / row.record)
        name = row.record.split("/")[1]
        for x in recording.signal_mv:
            yield x, recording.fs, f"challenge-2021:{name}", ["Challenge 2021"], True


def _cpsc(data: pathlib.Path):
    for row in _manifest(data, "cpsc2021").itertuples():
        recording = read_recording(data / "cpsc2021" / row.record)
        groups = ["CPSC 2021 (wearable)"]
        groups += ["atrial fibrillation or flutter"] * (row.label.startswith("persistent"))
        for x in _cut(recording):
            yield x, recording.fs, f"cpsc2021:{row.patient_id}", groups, True


def _cut(recording: Recording):
    """Yields, window by window, each lead from there on."""
    length = round(_SECONDS * recording.fs)
    for start in range(0, recording.signal_mv.shape[1] - length + 1, length):
        yield from recording.signal_mv[:, start : start + length + round(recording.fs)]


def _mitdb(data: pathlib.Path):
    for name in _manifest(data, "mitdb").record:
        recording = read_recording(data / "mitdb" / name)
        beats = wfdb.rdann(str(data / "mitdb" / name), "atr")
        marks = [i for i, symbol in enumerate(beats.symbol) if symbol == "~"]
        length = round(_SECONDS * recording.fs)
        for number, x in enumerate(_cut(recording)):
            window, lead = divmod(number, 2)
            start, stop = window * length, (window + 1) * length
            before = [i for i in marks if beats.sample[i] < start][-1:]
            within = [i for i in marks if start <= beats.sample[i] < stop]
            states = [beats.subtype[i] for i in before + within]
            clean = not any(state == _UNREADABLE or state >> lead & 1 for state in states)
            group = f"MIT-BIH {name} {recording.leads[lead]}"
            groups = [group if clean else "MIT-BIH, noise annotated"]
            groups += ["paced"] * (name == "217" and clean)
            yield x, recording.fs, f"mitdb:{name}", groups, clean


def read_windows(data: pathlib.Path) -> list[Window]:
    """Returns the windows of all ECGs."""
    found = []
    for read in (_ptb_xl, _ludb, _challenge, _cpsc, _mitdb):
        for x, fs, patient, groups, clean in read(data):
            if (filtered := _filtered(x, fs)) is not None:
                found.append(Window(filtered, patient, tuple(groups), clean))
    return found


def read_noise(data: pathlib.Path) -> dict[tuple[str, str], np.ndarray]:
    """Returns (side, kind of noise) -> [windows, samples], band-passed: the first and last half."""
    found = {}
    for name in _NOISES:
        recording = read_recording(data / "nstdb" / name)
        middle = recording.signal_mv.shape[1] // 2
        halves = {"choosing": slice(0, middle), "reporting": slice(middle, None)}
        for side, half in halves.items():
            part = dataclasses.replace(recording, signal_mv=recording.signal_mv[:, half])
            enough = (x for x in _cut(part) if x.size >= (_SECONDS + 1) * part.fs)
            filtered = [_filtered(x, part.fs) for x in enough]
            found[side, name] = np.stack([x for x in filtered if x is not None])
    return found


def mixtures(ecgs: list[Window], noise: np.ndarray, snr_db: float, seed: int) -> list[Window]:
    """Returns clean ECGs with noise, as in the noise stress test: the signal is the QRS amplitude.

    The amplitude is the median of the ranges of five times two seconds, its power that of a sine of
    this amplitude; the noise is its standard deviation in a second, on average.
    """
    rng = np.random.default_rng(seed)
    mixed = []
    for i in rng.choice(len(ecgs), _MIXTURES):
        x, disturbance = ecgs[i].x, noise[rng.integers(len(noise))]
        amplitude = np.median(np.ptp(x.reshape(5, -1), axis=1))
        loudness = disturbance.reshape(_SECONDS, -1).std(axis=1).mean()
        gain = np.sqrt(amplitude**2 / 8 / 10 ** (snr_db / 10)) / loudness
        mixed.append(dataclasses.replace(ecgs[i], x=x + gain * disturbance))
    return mixed


def share(flagged: Sequence[bool], units: Sequence[str], unit: str = "patients") -> dict:
    """Returns the share of flagged windows and its 95 % interval, `units` drawn anew.

    One unit alone has no interval. Where all windows are flagged or none, its other end is the
    share of units that may differ and yet none be seen.
    """
    windows = collections.defaultdict(list)
    for flag, name in zip(flagged, units, strict=True):
        windows[name].append(flag)
    counts = np.array([(sum(flags), len(flags)) for flags in windows.values()])
    found = {"windows": len(flagged), "units": len(counts), "unit": unit}
    found["flagged"] = float(np.mean(flagged))
    if len(counts) == 1:
        return found
    rng = np.random.default_rng(0)
    drawn = counts[rng.integers(len(counts), size=(2000, len(counts)))].sum(axis=1)
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])
    unseen = 1 - 0.05 ** (1 / len(counts))
    found["low"] = float(1 - unseen if low == 1 else low)
    found["high"] = float(unseen if high == 0 else high)
    return found


def measure(data: pathlib.Path) -> list[dict]:
    """Returns a line for each group of windows on each side."""
    fs = CLEF_V2.fs
    windows, noise = read_windows(data), read_noise(data)
    flagged = [quality.is_noise(window.x, fs) for window in windows]
    groups = sorted({group for window in windows for group in window.groups})
    lines = []
    for side in ("reporting", "choosing"):
        for group in groups:
            at = [i for i, w in enumerate(windows) if w.side == side and group in w.groups]
            if at:
                found = share([flagged[i] for i in at], [windows[i].patient for i in at])
                lines.append({"side": side, "group": group, **found})
        ecgs = [w for w in windows if w.side == side and w.clean]
        for name, label in _NOISES.items():
            alone = [quality.is_noise(x, fs) for x in noise[side, name]]
            # Neighbouring windows of noise resemble each other; minutes stand in for patients.
            minutes = [str(i // 12) for i in range(len(alone))]
            lines.append(
                {"side": side, "group": f"{label} alone", **share(alone, minutes, "minutes")}
            )
            for snr_db in _SNR_DB:
                mixed = mixtures(ecgs, noise[side, name], snr_db, seed=snr_db + 100)
                found = share(
                    [quality.is_noise(w.x, fs) for w in mixed], [w.patient for w in mixed]
                )
                group = f"ECG with {label}, {snr_db:+d} dB"
                lines.append({"side": side, "group": group, "snr_db": snr_db, **found})
    return lines


def table(lines: list[dict]) -> str:
    """Returns the lines as Markdown, both sides of a group in a row."""
    rows = ["| windows | flagged, reporting half | flagged, choosing half |", "|---|---|---|"]
    cells = {(line["side"], line["group"]): line for line in lines}
    for group in dict.fromkeys(line["group"] for line in lines):
        row = [group]
        for side in ("reporting", "choosing"):
            line = cells.get((side, group))
            row.append(_cell(line) if line else "")
        rows.append("| " + " | ".join(row) + " |")
    return "\n".join(rows)


def _cell(line: dict) -> str:
    text = "{flagged:.1%}"
    if "low" in line:
        text += " ({low:.1%}–{high:.1%})"
    text += " of {windows:,}"
    if line["units"] > 1:
        text += ", {units} {unit}"
    return text.format(**line)


def plot(lines: list[dict], path: pathlib.Path) -> None:
    """Draws the share flagged against the signal-to-noise ratio."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for label, colour in zip(_NOISES.values(), ("#4477aa", "#ddaa33", "#bb5566"), strict=True):
        at = [line for line in lines if label in line["group"] and "snr_db" in line]
        at = [line for line in at if line["side"] == "reporting"]
        snr, flagged = ([line[name] for line in at] for name in ("snr_db", "flagged"))
        axes.plot(snr, flagged, "o-", label=label, color=colour)
        bounds = ([line[name] for line in at] for name in ("low", "high"))
        axes.fill_between(snr, *bounds, color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel="QRS amplitude to noise, dB", ylabel="share flagged noise", ylim=(0, 1))
    axes.invert_xaxis()
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def main(argv: list[str]) -> None:
    """Measures, writes and prints."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    lines = measure(pathlib.Path(_DATA.value))
    out = pathlib.Path(_OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    rounded = [{k: round(v, 4) if isinstance(v, float) else v for k, v in x.items()} for x in lines]
    (out / "quality.jsonl").write_text("".join(json.dumps(line) + "\n" for line in rounded))
    plot(lines, out / "quality.png")
    print(table(lines))


if __name__ == "__main__":
    app.run(main)
