"""Computes 10-year cardiovascular risk (the SCORE2 family) for a table of patients or records.

python tools/compute_risk.py --metadata cohort/metadata.csv --out risk.parquet --region high
"""

from absl import flags

from clef_jax.cli import tool
from clef_jax.files import only_writer
from clef_jax.risk import REGIONS
from clef_jax.risk.attributes import SYNONYMS
from clef_jax.risk.table import compute_risk_table, report
from clef_jax.risk.units import CHOL_UNITS, HBA1C_UNITS
from clef_jax.tables.columns import SEX_CODINGS
from clef_jax.tables.files import READABLE, read_table, write_table

METADATA = flags.DEFINE_string(
    "metadata",
    None,
    f"Table ({', '.join(READABLE)}), one row a patient or a record.",
    required=True,
)
OUT = flags.DEFINE_string("out", None, "Risk table to write, .csv or .parquet.", required=True)
REGION = flags.DEFINE_enum("region", "moderate", REGIONS, "Risk region of the patients' country.")
CHOL = flags.DEFINE_enum(
    "chol_units",
    None,
    CHOL_UNITS,
    "Of both cholesterols; default: the header's, or mmol/L.",
)
HBA1C = flags.DEFINE_enum(
    "hba1c_units", None, HBA1C_UNITS, "Of HbA1c; default: the header's, or mmol/mol."
)
SEX_CODING = flags.DEFINE_enum(
    "sex_coding", None, list(SEX_CODINGS), "What 0 and 1 mean where sex is a number."
)
NO_DIABETES = flags.DEFINE_bool(
    "assume_no_diabetes", False, "The table has no diabetes column, and nobody in it has diabetes."
)
KEYS = flags.DEFINE_list("keys", None, "Columns that identify a row; default: the usual names.")
COLUMNS = {
    attribute: flags.DEFINE_string(
        f"{attribute}_column", None, f"Column of {attribute}; default: {', '.join(names)}."
    )
    for attribute, names in SYNONYMS.items()
}


def main():
    """Reads, computes, writes, and prints the counts."""
    with only_writer(OUT.value):
        risks = compute_risk_table(
            read_table(METADATA.value),
            region=REGION.value,
            columns={name: flag.value for name, flag in COLUMNS.items() if flag.value},
            keys=KEYS.value,
            chol_units=CHOL.value,
            hba1c_units=HBA1C.value,
            sex_coding=SEX_CODING.value,
            assume_no_diabetes=NO_DIABETES.value,
            source=METADATA.value,
        )
        write_table(risks, OUT.value)
    print(report(risks))
    print(f"Region {REGION.value}. Written to {OUT.value}")


if __name__ == "__main__":
    tool.run(main)
