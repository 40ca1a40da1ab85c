"""Units of the risk attributes: what a table's are, what they allow, how they convert."""

from collections.abc import Mapping

import numpy as np

from clef_jax.risk.score2 import cholesterol_mmol_l_from_mg_dl, hba1c_mmol_mol_from_percent
from clef_jax.tables.columns import TableError, header_unit

CHOL_UNITS = ("mmol/L", "mg/dL")
HBA1C_UNITS = ("mmol/mol", "%")
# The unit that the scores count in, the unit that is converted to it, and how.
CONVERTED = {
    "total_chol": ("mmol/L", "mg/dL", cholesterol_mmol_l_from_mg_dl),
    "hdl": ("mmol/L", "mg/dL", cholesterol_mmol_l_from_mg_dl),
    "hba1c": ("mmol/mol", "%", hba1c_mmol_mol_from_percent),
}
# Ages the scores were made for; elsewhere what a living patient can have.
LIMITS: dict[str, tuple[float, float, str]] = {
    "age": (40, 89, "years"),
    "sbp": (50, 300, "mmHg"),
    "total_chol": (1, 20, "mmol/L"),
    "hdl": (0.1, 6, "mmol/L"),
    "age_at_diagnosis": (0, 89, "years"),
    "hba1c": (15, 200, "mmol/mol"),
    "egfr": (2, 250, "mL/min/1.73 m2"),
}


def units_of(
    found: Mapping[str, str], chol_units: str | None, hba1c_units: str | None, source: str
) -> dict[str, str]:
    """Returns each attribute's unit: the one declared, else its header's, else the score's.

    Args:
        found: Attribute -> column.
        chol_units: Declared unit of total and HDL cholesterol, if any.
        hba1c_units: Declared unit of HbA1c, if any.
        source: What error messages call the table.

    Raises:
        TableError: A header names a unit that is not understood, or another than is declared.
    """
    declared = {"total_chol": chol_units, "hdl": chol_units, "hba1c": hba1c_units}
    units = {}
    for attribute, (_, _, expected) in LIMITS.items():
        choices = CONVERTED[attribute][:2] if attribute in CONVERTED else (expected,)
        column = found.get(attribute)
        in_header = header_unit(column)[1] if column is not None else None
        wanted = declared.get(attribute)
        if in_header is not None and in_header not in choices:
            raise TableError(
                f"{source}: column {column!r} is in {in_header}; expected {' or '.join(choices)}. "
                "Convert it."
            )
        if in_header and wanted and in_header != wanted:
            option = "hba1c_units" if attribute == "hba1c" else "chol_units"
            raise TableError(
                f"{source}: column {column!r} says {in_header}, but --{option}={wanted}. Leave the "
                "option away if the header is right, or correct the header."
            )
        units[attribute] = wanted or in_header or choices[0]
    return units


# Medians that the other unit of a quantity would have: (unit, limit, whether above it).
_IMPLAUSIBLE = {
    "total_chol": (("mmol/L", 30, True), ("mg/dL", 30, False)),
    "hdl": (("mmol/L", 10, True), ("mg/dL", 10, False)),
    "hba1c": (("mmol/mol", 16, False), ("%", 25, True)),
}
_CALLED = {"total_chol": "total cholesterol", "hdl": "HDL cholesterol", "hba1c": "HbA1c"}


def check_medians(values: Mapping[str, np.ndarray], units: Mapping[str, str], source: str) -> None:
    """Compares medians, which a few slips of the pen do not move, with what units allow.

    Raises:
        TableError: The values look like another unit's.
    """

    def median(attribute):
        known = values[attribute][~np.isnan(values[attribute])]
        return np.median(known) if known.size else np.nan

    for attribute, rules in _IMPLAUSIBLE.items():
        middle = median(attribute)
        for (unit, limit, above), (other, _, _) in zip(rules, reversed(rules), strict=True):
            if units[attribute] == unit and (middle > limit if above else middle < limit):
                option = "hba1c_units" if attribute == "hba1c" else "chol_units"
                likely = "percent" if other == "%" else other
                raise TableError(
                    f"{source}: the median {_CALLED[attribute]} is {middle:.4g}, which cannot be "
                    f"{'percent' if unit == '%' else unit} and looks like {likely}. "
                    f"Set --{option}={other}."
                )
    if median("sbp") < 40:
        raise TableError(
            f"{source}: the median systolic pressure is {median('sbp'):.4g}, which cannot be mmHg "
            "and looks like kPa or cmHg. Convert it to mmHg first."
        )


def limits_text(attribute: str, unit: str) -> str:
    """Returns an attribute's range as a person reads it who wrote the values in `unit`."""
    low, high, scored = LIMITS[attribute]
    if unit != scored:
        # Straight lines through two points, turned around.
        at_0, at_1 = (CONVERTED[attribute][2](x) for x in (0.0, 1.0))
        low, high = (float(f"{(x - at_0) / (at_1 - at_0):.3g}") for x in (low, high))
    return f"{low:g} to {high:g} {unit}"
