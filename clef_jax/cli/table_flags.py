"""The flags that say which tables describe recordings, and which of their columns do."""

from absl import flags

from clef_jax.data.annotations.join import MetadataTable, RiskTable
from clef_jax.tables.columns import SEX_CODINGS

_METADATA = flags.DEFINE_string("metadata", None, "CSV or Parquet with patient ids, ages, sexes.")
_KEY = flags.DEFINE_string("key_column", None, "Column of --metadata: paths, names, patients …")
_PATIENT = flags.DEFINE_string("patient_column", None, "Column of --metadata: patient ids.")
_AGE = flags.DEFINE_string("age_column", None, "Column of --metadata: ages, years.")
_SEX = flags.DEFINE_string("sex_column", None, "Column of --metadata: sexes.")
_SEX_CODING = flags.DEFINE_enum(
    "sex_coding", None, list(SEX_CODINGS), "What 0 and 1 mean as a sex; known for PTB-XL."
)
_RISK = flags.DEFINE_string("risk", None, "CSV or Parquet with risks, by tools/compute_risk.py.")
_RISK_KEY = flags.DEFINE_string("risk_key_column", None, "Column of --risk: whose row it is.")
_RISK_COLUMN = flags.DEFINE_string("risk_column", None, "Column of --risk: risks, percent.")
_COMPLETENESS = flags.DEFINE_string("completeness_column", None, "Column of --risk: share known.")


def metadata_table() -> MetadataTable | None:
    """Returns the table of patients that the command line names, if any."""
    if _METADATA.value is None:
        return None
    return MetadataTable(
        _METADATA.value, _KEY.value, _PATIENT.value, _AGE.value, _SEX.value, _SEX_CODING.value
    )


def risk_table() -> RiskTable | None:
    """Returns the table of risks that the command line names, if any."""
    if _RISK.value is None:
        return None
    return RiskTable(_RISK.value, _RISK_KEY.value, _RISK_COLUMN.value, _COMPLETENESS.value)
