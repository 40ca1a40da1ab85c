"""The datasets that cannot be had here, a few people each, written as they are published."""

import functools

import numpy as np
import pandas as pd
import wfdb

from clef_jax.evaluate.datasets.chapman import LABELS
from tests.shard_records import ecg
from tests.wfdb_records import write_record


def signal_of(number, fs, seconds, leads):
    """Returns int16 `[leads, time]` of 1000 adu/mV: beats, of a rate that follows from a number."""
    return ecg(int(number), fs, seconds, max(leads, 3))[:leads]


def write_annotations(folder, name, beats, notes=(), fs=250):
    """Writes an .atr file: beats as (sample, symbol), rhythm changes as (sample, note)."""
    rows = [(sample, symbol, "") for sample, symbol in beats]
    rows = sorted(rows + [(sample, "+", note) for sample, note in notes])
    sample, symbol, note = zip(*rows, strict=True)
    wfdb.wrann(name, "atr", np.array(sample), list(symbol), aux_note=list(note), fs=fs,
               write_dir=str(folder))  # fmt: skip


def write_icentia(root, people):
    """Writes {patient: {segment: (seconds, beats, notes)}} at 250 Hz, one lead."""
    lines = []
    for patient, segments in people.items():
        folder = root / patient[:3] / patient
        folder.mkdir(parents=True)
        lines.append(f"{patient[:3]}/{patient}/")
        for segment, (seconds, beats, notes) in segments.items():
            x = signal_of(patient[1:], 250, seconds, 1)
            write_record(folder, segment, leads=("ECG",), fs=250, x=x)
            write_annotations(folder, segment, beats, notes)
        (folder / "RECORDS").write_text("".join(f"{segment}\n" for segment in segments))
    (root / "RECORDS").write_text("\n".join(lines) + "\n")


def write_chapman(root, statements_of):
    """Writes {split: [(number, statements)]}: labels of the tables are made by substring search."""
    for split, records in statements_of.items():
        rows = []
        for number, statements in records:
            folder = root / "ecg-arrhythmia" / "WFDBRecords" / "01" / "010"
            folder.mkdir(parents=True, exist_ok=True)
            write_record(folder, f"JS{number:05}", x=signal_of(number, 500, 10, 12))
            labels = [int(label in statements) for label in LABELS]
            rows.append((f"/chapman/WFDBRecords/01/010/JS{number:05}.mat", 12, statements, *labels))
        table = pd.DataFrame(rows, columns=["ecg_path", "age", "diagnose", *LABELS])
        (root / "tables").mkdir(exist_ok=True)
        table.to_csv(root / "tables" / f"chapman_{split}.csv", index=False)


def write_music(root, subjects, missing=(), *, official=False, hours=0.5, sampled=False):
    """Writes subjects as (id, outcome); Holters are headers, and samples only where asked for."""
    holters = root / "Holter_ECG"
    holters.mkdir(parents=True)
    for name, _ in subjects:
        if name not in missing:
            lines = [f"{name} 3 200 {round(hours * 720_000)}"]
            lines += [f"{name}.dat 16 1000(0)/mV 16 0 0 0 0 {lead}" for lead in "XYZ"]
            (holters / f"{name}.hea").write_text("\n".join(lines) + "\n")
            if sampled:
                x = signal_of(name[1:], 200, hours * 3600, 3)
                x.T.tofile(holters / f"{name}.dat")
    ids, outcomes = zip(*subjects, strict=True)
    if official:
        table = pd.DataFrame({"Patient ID": ids, "Cause of death": outcomes})
        table["Age"] = [">89", *["63"] * (len(table) - 1)]
        table["Gender (male=1)"] = [index % 2 for index in range(len(table))]
        table.to_csv(root / "subject-info.csv", sep=";", index=False)
    else:
        table = pd.DataFrame({"subj_id": ids, "follow_up": 1000, "outcome": outcomes})
        table.to_csv(root / "outcomes.csv", index=False)


def write_mimic(root, rows):
    """Writes rows of (patient, study, LVEF, label): headers with aVF before aVL, and LVEF.csv."""
    leads = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")
    root.mkdir(parents=True, exist_ok=True)
    (root / "record_list.csv").write_text("subject_id,study_id,file_name,ecg_time,path\n")
    table = []
    for patient, study, lvef, label in rows:
        path = f"files/p{str(patient)[:4]}/p{patient}/s{study}/{study}"
        folder = (root / path).parent
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / f"{study}.hea").exists():
            write_record(folder, str(study), leads=leads, x=signal_of(study, 500, 10, 12))
        table.append((patient, path, "2150-01-01", lvef, label))
    columns = ["subject_id", "waveform_path", "ecg_time", "LVEF", "label"]
    pd.DataFrame(table, columns=columns).to_csv(root / "LVEF.csv", index=False)


def write_mcmed(root, visits, splits, *, official=True):
    """Writes visits as dicts of MC-MED's columns; those with II_n_segments have a recording."""
    root.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(visits)
    for visit, segments in zip(table["CSN"], table["II_n_segments"], strict=True):
        if segments:
            folder = root / "waveforms" / str(visit)[-3:] / str(visit) / "II"
            folder.mkdir(parents=True)
            write_record(folder, f"{visit}_1", leads=("II",), x=signal_of(visit, 500, 10, 1))
    if official:
        table.drop(columns="II_n_segments").to_csv(root / "visits.csv", index=False)
    else:
        table = table.rename(columns={"CSN": "visit_id"}).drop(columns=["MRN", "Age", "Gender"])
        table.to_csv(root / "variables_encounter_all.csv", index=False)
    for name in ("train", "val", "test"):
        lines = [f"{visit}\n" for visit, split in zip(table.iloc[:, 0], splits, strict=True)
                 if split == name]  # fmt: skip
        (root / f"split_chrono_{name}.csv").write_text("".join(lines))


@functools.cache
def aurora_signal(seconds, hz):
    t = np.arange(round(seconds * 500)) / 500
    ekg = 6.5 + np.sin(2 * np.pi * hz * t) ** 21
    signal = pd.DataFrame({"t": t, "ekg": ekg, "optical": -5.8e5, "pressure": 2900.0})
    return signal.to_csv(sep="\t", index=False)


def write_aurora(root, people):
    """Writes people as {pid: (sbp, dbp, feature rows, seconds or None)}."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "measurements_auscultatory").mkdir()
    participants, features = [], []
    for number, (pid, (sbp, dbp, rows, seconds)) in enumerate(people.items()):
        participants.append((pid, 40.5 + number, "MF"[number % 2]))
        features += [(pid, f"measurement {row}", sbp, dbp) for row in range(rows)]
        if seconds is not None:
            folder = root / "measurements_auscultatory" / pid
            folder.mkdir()
            signal = aurora_signal(seconds, 0.8 + number % 4 / 4)
            (folder / f"{pid}.initial.Calibration_start_1.tsv").write_text(signal)
    columns = ["pid", "measurement", "baseline_sbp", "baseline_dbp"]
    pd.DataFrame(participants, columns=["pid", "age", "gender"]).to_csv(
        root / "participants.tsv", sep="\t", index=False
    )
    pd.DataFrame(features, columns=columns).to_csv(root / "features.tsv", sep="\t", index=False)
