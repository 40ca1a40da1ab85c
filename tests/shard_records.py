"""Small WFDB records, and shards written of them."""

import csv
import pathlib

import numpy as np

from clef_jax.data.annotations.join import MetadataTable, RiskTable
from clef_jax.data.demo import cohort
from clef_jax.data.shards.plan import WriteOptions
from clef_jax.data.shards.prepare import BadWindow, prepare_record
from clef_jax.data.shards.write import write_shards
from clef_jax.risk.table import compute_risk_table
from clef_jax.tables.files import read_table, write_table

MIMIC_ORDER = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")


def ecg(seed, fs=500, seconds=10, leads=12):
    """Returns int16 [leads, time] at 1000 adu/mV; limb leads obey III = II - I."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(fs * seconds)) / fs
    beat = np.exp(-((t * (1 + seed % 7 / 10) % 1 - 0.5) ** 2) / 2e-4)
    x = np.outer(rng.uniform(0.4, 1.5, leads), beat) + rng.normal(0, 0.02, (leads, t.size))
    x[2] = x[1] - x[0]
    return np.round(1000 * x).astype("<i2")


def write_record(path, x, leads=MIMIC_ORDER, fs=500, comments=(), units="mV", gain=1000):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    x.T.astype("<i2").tofile(f"{path}.dat")
    lines = [f"{path.name} {len(leads)} {fs} {x.shape[1]}"]
    lines += [f"{path.name}.dat 16 {gain}(0)/{units} 16 0 0 0 0 {lead}" for lead in leads]
    lines += [f"# {comment}" for comment in comments]
    pathlib.Path(f"{path}.hea").write_text("\n".join(lines) + "\n", encoding="utf-8")


def mimic_name(subject, study):
    return f"files/p{subject[:4]}/p{subject}/s{study}/{study}"


def write(records, out, **arguments):
    defaults = {"workers": 1, "progress": False}
    return write_shards(records, out, **defaults | arguments)


def rejections(out):
    with open(out / "rejected.csv", newline="", encoding="utf-8") as stream:
        return {row["record"]: row for row in csv.DictReader(stream)}


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def first_window(path, confine_to=None, **options):
    """Returns the first window of a recording as its shard holds it, or raises its `Rejection`."""
    prepared = prepare_record(str(path), WriteOptions(**options), confine_to=confine_to)
    (window,) = prepared.windows
    if isinstance(window, BadWindow):
        raise window.why
    return window


def notes(out):
    """Returns (record, kind) -> note of a set of shards."""
    with open(out / "notes.csv", newline="", encoding="utf-8") as stream:
        return {(row["record"], row["kind"]): row["note"] for row in csv.DictReader(stream)}


def write_cohort_shards(folder, *, patients, validation_fraction, records_per_shard):
    """Writes a simulated cohort into a folder as the demo does, and returns that of its shards."""
    cohort.write_simulated_cohort(folder / "cohort", patients, seed=0)
    metadata = folder / "cohort" / "metadata.csv"
    risks = compute_risk_table(read_table(str(metadata)), region="moderate", source=str(metadata))
    write_table(risks, str(folder / "risk.parquet"))
    write_shards(
        folder / "cohort",
        folder / "shards",
        record_list=str(folder / "cohort" / "record_list.csv"),
        metadata=MetadataTable(str(metadata)),
        risk=RiskTable(str(folder / "risk.parquet")),
        validation_fraction=validation_fraction,
        options=WriteOptions(records_per_shard=records_per_shard),
        workers=1,
        progress=False,
    )
    return folder / "shards"
