"""Which columns of a table hold the attributes of a risk score."""

from collections.abc import Iterable, Mapping

from clef_jax.tables.columns import TableError, header_unit, normalised

# Names an attribute goes by, the preferred first. Compared in lower case, with every run of
# other characters as one underscore, so that "Blood Pressure" is blood_pressure.
SYNONYMS = {
    "age": ("age", "age_at_ecg", "anchor_age"),
    "sex": ("sex", "gender"),
    "smoker": ("smoker", "smoking", "current_smoker", "smoking_status", "smoke"),
    "sbp": (
        "sbp",
        "systolic",
        "sys_bp",
        "systolic_bp",
        "systolic_blood_pressure",
        "blood_pressure",
        "bp",
    ),
    "total_chol": (
        "total_chol",
        "total_cholesterol",
        "cholesterol_total",
        "cholesterol",
        "chol",
        "tc",
    ),
    "hdl": ("hdl", "hdl_c", "hdl_chol", "hdl_cholesterol"),
    "diabetes": ("diabetes", "diabetic", "diabetes_mellitus"),
    "age_at_diagnosis": ("age_at_diagnosis", "age_at_diabetes_diagnosis", "diabetes_age"),
    "hba1c": ("hba1c", "hb_a1c", "a1c"),
    "egfr": ("egfr", "gfr"),
}
KEYS = ("subject_id", "patient_id", "patient", "study_id", "ecg_id", "record", "record_id", "path")
# Only patients with diabetes have them, so a table may come without.
DIABETES_ONLY = ("age_at_diagnosis", "hba1c", "egfr")


def locate(
    columns: Iterable[str],
    mapping: Mapping[str, str] | None = None,
    *,
    optional: Iterable[str] = DIABETES_ONLY,
    source: str = "the table",
) -> dict[str, str]:
    """Finds the column of each risk attribute.

    Args:
        columns: The table's column names.
        mapping: Attribute -> column, where the names in `SYNONYMS` do not fit.
        optional: Attributes whose column may be absent.
        source: What error messages call the table.

    Returns:
        attribute -> column name as the table spells it, without the absent optional ones.

    Raises:
        TableError: A required attribute has no column, or a mapped column does not exist.
    """
    columns = list(columns)
    mapping = mapping or {}
    # A name that fits as it stands goes before one that fits without its unit.
    spelled = {header_unit(column)[0]: column for column in reversed(columns)}
    spelled |= {normalised(column): column for column in reversed(columns)}
    found, absent = {}, []
    for attribute, names in SYNONYMS.items():
        wanted = mapping.get(attribute)
        if wanted is not None and wanted not in columns:
            raise TableError(
                f"{source} has no column {wanted!r}, which --{attribute}_column names. "
                f"Columns found: {', '.join(columns)}."
            )
        candidates = [spelled[name] for name in names if name in spelled]
        if wanted is not None:
            found[attribute] = wanted
        elif candidates:
            found[attribute] = candidates[0]
        elif attribute not in optional:
            absent.append(attribute)
    if absent:
        wanted = "; ".join(f"{name} (looked for {', '.join(SYNONYMS[name])})" for name in absent)
        options = ", ".join(f"--{name}_column" for name in absent)
        raise TableError(
            f"{source} has no column for {wanted}. Columns found: {', '.join(columns)}. "
            f"Name the right ones with {options}."
        )
    return found


def locate_keys(
    columns: Iterable[str], keys: Iterable[str] | None = None, *, source: str = "the table"
) -> list[str]:
    """Returns the columns that say which patient or record a row is about.

    Args:
        columns: The table's column names.
        keys: Their names; found by the names in `KEYS` when not given.
        source: What error messages call the table.

    Raises:
        TableError: None is there.
    """
    columns = list(columns)
    wanted = list(keys or ())
    found = [c for c in columns if (c in wanted if wanted else normalised(c) in KEYS)]
    if not found or set(wanted) - set(found):
        raise TableError(
            f"{source} lacks the key column(s) {', '.join(wanted or KEYS)}, which say whose row "
            f"it is. Columns found: {', '.join(columns)}. Name them with --keys."
        )
    return found
