"""What the text of tables and headers says of a patient."""

import math
import re
from collections.abc import Sequence

_COMMENT_FIELD = re.compile(r"([^:=]{1,60})[:=](.*)$")
_MITDB_COMMENT = re.compile(r"(-?\d{1,3})\s+([MF?])\s")


def parse_age(text: str) -> float | None:
    """Returns an age in years from table or header text, None where it is unknown or impossible.

    PTB-XL writes 300 for "over 89", others -1 or NaN for unknown: none of these is an age.
    """
    match = re.match(r"\s*(\d+(?:\.\d+)?)", text)
    age = float(match.group(1)) if match else math.nan
    return age if 0 <= age <= 120 else None


def parse_sex(text: str) -> str | None:
    """Returns "male" or "female" from "M", "Female", "f" …, None where it is neither."""
    return {"m": "male", "male": "male", "f": "female", "female": "female"}.get(
        text.strip().lower().rstrip(".")
    )


def about_patient(comments: Sequence[str]) -> tuple[str | None, float | None, str | None]:
    """Returns identifier, age in years and sex from a header's comments; None where unknown."""
    patient = age = sex = None
    for comment in comments:
        field = _COMMENT_FIELD.match(comment)
        name = field.group(1).strip("<> \t").lower().replace("_", " ") if field else ""
        value = field.group(2).strip() if field else ""
        if name == "age" and age is None:
            age = parse_age(value)
        elif name in ("sex", "gender") and sex is None:
            sex = parse_sex(value)
        elif name in ("patient", "patient id", "subject", "subject id") and value:
            patient = patient or value
    # The MIT-BIH databases begin with "69 M 1085 1629 x1": age, sex, tape numbers.
    mitdb = _MITDB_COMMENT.match(comments[0] + " ") if comments else None
    if mitdb and age is None and sex is None:
        age, sex = parse_age(mitdb.group(1)), parse_sex(mitdb.group(2))
    return patient, age, sex
