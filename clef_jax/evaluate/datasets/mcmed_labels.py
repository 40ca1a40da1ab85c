"""What MC-MED's table of visits says, as classes and numbers."""

import numpy as np
import pandas as pd

from clef_jax.tables.columns import TableError

CLASSES = {
    "ed-dispo": ("discharge", "inpatient", "observation", "ICU"),
    "dc-dispo": (
        "home",
        "care facility",
        "hospital transfer",
        "end of life",
        "psychiatric or rehabilitation",
        "other",
    ),
    "acuity": ("1", "2", "3", "4", "5"),
    "sbp": ("systolic pressure",),
    "dbp": ("diastolic pressure",),
}
LIMITS_MMHG = {"sbp": (40, 300), "dbp": (10, 200)}
_COLUMN = {
    "ed-dispo": "ED_dispo",
    "dc-dispo": "DC_dispo",
    "acuity": "Triage_acuity",
    "sbp": "Triage_SBP",
    "dbp": "Triage_DBP",
}
_ED = {"discharge": 0, "inpatient": 1, "observation": 2, "icu": 3}

# Words of a discharge text and the class that they tell, as the original asks: the first that fits.
# Its exact texts are not published, so these are the shortest words of each that it lists.
_HOME = (("home/work", "against medical advice"), 0)
_CARE = (("home health", "skilled nursing", "residential care", "custodial", "supportive"), 1)
_TRANSFER = (
    ("acute care", "long-term care", "long term care", "federal", "lucile packard",
     "stanford children", "critical access", "planned inpatient readmi"),
    2,
)  # fmt: skip
_END = (("expired", "hospice", "organ harvest", "donor"), 3)
_PSYCHIATRY = (("psychiatric", "stanford psych", "rehabilitation"), 4)
_OTHER = 5
_DISCHARGES = {
    "reference": (_HOME, _CARE, _TRANSFER, _END, _PSYCHIATRY),
    "clean": (_HOME, _CARE, _PSYCHIATRY, _TRANSFER, _END),
}


def discharge_class(text: str, preset: str) -> int:
    """Returns the class of a discharge text: that of the first words of its preset found in it."""
    folded = text.lower()
    for words, number in _DISCHARGES[preset]:
        if any(word in folded for word in words):
            return number
    return _OTHER


def read_label(visits: pd.DataFrame, task: str, preset: str, source: str) -> np.ndarray:
    """Returns a task's label of each visit: a class's number, or mmHg; NaN where unknown.

    Raises:
        TableError: The column is missing, or holds nothing that could be understood.
    """
    column = _COLUMN[task]
    if column not in visits.columns:
        raise TableError(f"{source}: no column {column}; found {', '.join(visits.columns)}")
    texts = visits[column].astype("string").str.strip()
    if task == "ed-dispo":
        values = texts.str.lower().map(_ED)
        # Q11: whatever else is written counts as a discharge.
        values = values.fillna(0).where(texts.notna()) if preset == "reference" else values
    elif task == "dc-dispo":
        values = texts.map(lambda text: discharge_class(text, preset), na_action="ignore")
    elif task == "acuity":
        values = pd.to_numeric(texts.str.extract(r"^([1-5])\b")[0]) - 1
    else:
        values = pd.to_numeric(texts, errors="coerce")
        if preset == "clean":
            low, high = LIMITS_MMHG[task]
            values = values.where((values >= low) & (values <= high))
    numbers = values.to_numpy(np.float64, na_value=np.nan)
    numbers = np.where(np.isfinite(numbers), numbers, np.nan)
    if np.isnan(numbers).all():
        raise TableError(
            f"{source}: column {column}: no value is understood, such as "
            f"{texts.dropna().iloc[0] if texts.notna().any() else 'nothing'!r}"
        )
    return numbers
