"""Turns a folder of recordings into shards to pretrain on; run again, it goes on.

python tools/write_shards.py --records ptb-xl/records500 --metadata ptb-xl/ptbxl_database.csv \
    --risk risk.parquet --out shards
python tools/write_shards.py --records holters --leads II,MLII,V5 --windows all --out shards
python tools/write_shards.py --out shards --verify
"""

import sys

from absl import flags

from clef_jax.cli import engine_flags, table_flags, tool
from clef_jax.data.recordings.recording import Hints
from clef_jax.data.shards.format import shard_faults
from clef_jax.data.shards.plan import WriteOptions
from clef_jax.data.shards.write import write_shards
from clef_jax.data.signals.montage import ECG, montage_of_leads
from clef_jax.data.signals.spec import read_spec

flags.adopt_module_key_flags(table_flags)
flags.adopt_module_key_flags(engine_flags)
RECORDS = flags.DEFINE_string("records", None, "Folder of recordings, searched to any depth.")
RECORD_LIST = flags.DEFINE_string(
    "record_list", None, "CSV of the records to take: path (in --records), subject_id, study_id."
)
OUT = flags.DEFINE_string("out", None, "Folder of the shards.", required=True)
FS = flags.DEFINE_float("fs", None, "Sampling rate of CSV, TSV, NPY and MATLAB files, Hz.")
LEAD_NAMES = flags.DEFINE_list("lead_names", None, "Leads of such files that do not name them.")
UNITS = flags.DEFINE_enum("units", None, ["mV", "uV", "V"], "Of such files; default: mV.")
ADU_PER_MV = flags.DEFINE_float("adu_per_mv", None, "In place of headers' gains (LUDB: 1000).")
LEADS = flags.DEFINE_list("leads", None, "Leads to keep; default: the 12 standard ones, X, Y, Z.")
MIN_LEADS = flags.DEFINE_integer(
    "min_leads", None, "Good leads a window needs; default: all 12 standard ones, of --leads 1."
)
WINDOWS = flags.DEFINE_enum(
    "windows", "first", ["first", "all"], "Of a long recording: its first, or each one."
)
VALIDATION = flags.DEFINE_float("validation_fraction", 0.05, "Share of patients held out.")
PER_SHARD = flags.DEFINE_integer("records_per_shard", None, "Default: 64 to 4096, in 16 shards.")
SPEC = flags.DEFINE_string("spec", "clef_v2", "Preprocessing: clef_v2, ecgfounder or a JSON file.")
VERIFY = flags.DEFINE_bool("verify", False, "Only check the finished --out by its checksums.")


def main():
    """Writes or verifies, and prints the report."""
    if VERIFY.value:
        faults = shard_faults(OUT.value, checksums=True, progress=True)
        sys.exit("\n".join(faults) or print(f"{OUT.value}: every checksum agrees"))
    if RECORDS.value is None:
        raise tool.UsageError("--records is needed, except with --verify")
    options = WriteOptions(
        montage=montage_of_leads(LEADS.value) if LEADS.value else ECG,
        min_leads=MIN_LEADS.value,
        all_windows=WINDOWS.value == "all",
        records_per_shard=PER_SHARD.value,
        hints=Hints(
            FS.value, LEAD_NAMES.value and tuple(LEAD_NAMES.value), UNITS.value, ADU_PER_MV.value
        ),
        spec=read_spec(SPEC.value),
    )
    report = write_shards(
        RECORDS.value,
        OUT.value,
        record_list=RECORD_LIST.value,
        metadata=table_flags.metadata_table(),
        risk=table_flags.risk_table(),
        validation_fraction=VALIDATION.value,
        options=options,
        workers=engine_flags.workers(),
        engine=engine_flags.engine(),
    )
    print(report)


if __name__ == "__main__":
    tool.run(main, in_stores=("out",))  # For --verify.
