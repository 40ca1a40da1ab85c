"""Turns a folder of WFDB recordings into shards to pretrain on; run again, it goes on.

python tools/write_shards.py --records ptb-xl/records500 --metadata ptb-xl/ptbxl_database.csv \
    --risk risk.parquet --out shards
python tools/write_shards.py --out shards --verify
"""

import sys

from absl import flags

from clef_jax.cli import tool
from clef_jax.data.annotations.join import MetadataTable, RiskTable
from clef_jax.data.shards.format import shard_faults
from clef_jax.data.shards.plan import IngestOptions
from clef_jax.data.shards.write import write_shards
from clef_jax.tables.columns import SEX_CODINGS

RECORDS = flags.DEFINE_string("records", None, "Folder of WFDB records, searched to any depth.")
RECORD_LIST = flags.DEFINE_string(
    "record_list", None, "CSV of the records to take: path (in --records), subject_id, study_id."
)
OUT = flags.DEFINE_string("out", None, "Folder of the shards.", required=True)
METADATA = flags.DEFINE_string("metadata", None, "CSV or Parquet with patient ids, ages, sexes.")
KEY = flags.DEFINE_string("key_column", None, "Its column of paths, names, studies or patients.")
PATIENT = flags.DEFINE_string("patient_column", None, "Its column of patient ids.")
AGE = flags.DEFINE_string("age_column", None, "Its column of ages, years.")
SEX = flags.DEFINE_string("sex_column", None, "Its column of sexes.")
SEX_CODING = flags.DEFINE_enum(
    "sex_coding", None, list(SEX_CODINGS), "What 0 and 1 mean as a sex; known for PTB-XL."
)
RISK = flags.DEFINE_string("risk", None, "CSV or Parquet with risks, by tools/compute_risk.py.")
RISK_KEY = flags.DEFINE_string("risk_key_column", None, "Its column that says whose row it is.")
RISK_COLUMN = flags.DEFINE_string("risk_column", None, "Its column of risks, percent.")
COMPLETENESS = flags.DEFINE_string("completeness_column", None, "Its share of known attributes.")
MIN_LEADS = flags.DEFINE_integer("min_leads", 12, "Good standard leads a record needs.")
VALIDATION = flags.DEFINE_float("validation_fraction", 0.05, "Share of patients held out.")
PER_SHARD = flags.DEFINE_integer(
    "records_per_shard", None, "Default: 16 shards, of 64 to 4096 records (half a gigabyte) each."
)
ADU_PER_MV = flags.DEFINE_float(
    "adu_per_mv", None, "Digital units per mV, in place of wrong gains in headers (LUDB: 1000)."
)
WORKERS = flags.DEFINE_integer("workers", None, "Processes; default: one a CPU.")
VERIFY = flags.DEFINE_bool("verify", False, "Only check the finished --out by its checksums.")


def main():
    """Writes or verifies, and prints the summary."""
    if VERIFY.value:
        faults = shard_faults(OUT.value, checksums=True, progress=True)
        sys.exit("\n".join(faults) or print(f"{OUT.value}: every checksum agrees"))
    if RECORDS.value is None:
        raise tool.UsageError("--records is needed, except with --verify")
    metadata = METADATA.value and MetadataTable(
        METADATA.value, KEY.value, PATIENT.value, AGE.value, SEX.value, SEX_CODING.value
    )
    risk = RISK.value and RiskTable(
        RISK.value, RISK_KEY.value, RISK_COLUMN.value, COMPLETENESS.value
    )
    options = IngestOptions(
        min_leads=MIN_LEADS.value,
        validation_fraction=VALIDATION.value,
        records_per_shard=PER_SHARD.value,
        adu_per_mv=ADU_PER_MV.value,
    )
    summary = write_shards(
        RECORDS.value,
        OUT.value,
        record_list=RECORD_LIST.value,
        metadata=metadata,
        risk=risk,
        options=options,
        workers=WORKERS.value,
    )
    print(summary)


if __name__ == "__main__":
    tool.run(main)
