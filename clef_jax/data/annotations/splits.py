"""Which patients are held out for validation: by a hash of each one, or as a table says."""

import hashlib

import numpy as np
import pandas as pd

from clef_jax.tables.columns import TableError

_WORDS = ("train", "validation")


def is_validation_patient(patient: str, fraction: float) -> bool:
    """Says whether a patient is held out, by a hash of the identifier alone: stable for ever."""
    digest = hashlib.sha256(patient.encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64


def split_by_hash(patient: np.ndarray, fraction: float) -> np.ndarray:
    """Returns bool `[n]`, which rows are of a patient held out.

    Args:
        patient: object `[n]`, identifiers.
        fraction: Share of the patients, expected.
    """
    code, patients = pd.factorize(patient)
    held_out = np.array([is_validation_patient(name, fraction) for name in patients], bool)
    return held_out[code]


def split_by_words(
    words: np.ndarray, record: np.ndarray, patient: np.ndarray, source: str
) -> np.ndarray:
    """Returns bool `[n]`, which rows a table calls validation.

    Args:
        words: object `[n]`, train or validation in any case.
        record: object `[n]`, the rows' records.
        patient: object `[n]`, the rows' patients.
        source: The table's file.

    Raises:
        TableError: A row has neither word, or a patient has both.
    """
    said = pd.Series(words, dtype="string").str.strip().str.lower().fillna("nothing")
    wrong = np.flatnonzero(~said.isin(_WORDS))
    if wrong.size:
        raise TableError(
            f"{source}: column split says {said[wrong[0]]!r} of record {record[wrong[0]]} and of "
            f"{wrong.size - 1} others; expected train or validation for each record of the set"
        )
    held_out = (said == "validation").to_numpy(bool)
    # Who is wholly held out, or not at all, is in as many of his rows as in any of them.
    code = pd.factorize(patient)[0]
    rows, held_out_rows = np.bincount(code), np.bincount(code[held_out], minlength=code.max() + 1)
    torn = ((held_out_rows > 0) & (held_out_rows < rows))[code]
    if torn.any():
        one = torn & (code == code[torn.argmax()])
        raise TableError(
            f"{source}: column split puts patient {patient[torn.argmax()]} on both sides, such as "
            f"record {record[(one & ~held_out).argmax()]} to train and "
            f"{record[(one & held_out).argmax()]} to validation; expected one side for each patient"
        )
    return held_out
