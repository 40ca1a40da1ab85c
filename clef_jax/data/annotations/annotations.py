"""What is known of each row of a shard set's index, as a value with a fingerprint."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping

import numpy as np

from clef_jax.errors import ClefError


class AnnotationError(ClefError):
    """Annotations that cannot be used; the message names the column and the remedy."""


@dataclasses.dataclass(frozen=True)
class Annotations:
    """One value for each of the n rows of an index.

    Attributes:
        columns: Arrays `[n]` by name: numbers as float32 with NaN where unknown, text as object
            with None where unknown. Always there are risk (percent), completeness (share of the
            risk's attributes that were known), age (years) and male (1 male, 0 female).
        is_validation: bool `[n]`, whether the row's patient is held out.
    """

    columns: Mapping[str, np.ndarray]
    is_validation: np.ndarray

    def fingerprints(self, names: Iterable[str]) -> dict[str, str]:
        """Returns the SHA-256 of the values of some columns and, as split, of who is held out.

        They depend on the order of the rows, which the shard set's own fingerprint covers.
        """
        found = {name: _sha256(self.columns[name]) for name in names}
        return found | {"split": _sha256(self.is_validation)}


def _sha256(values: np.ndarray) -> str:
    if values.dtype == object:
        content = json.dumps(values.tolist()).encode()
    elif values.dtype == np.float32:
        # One NaN and one zero, of the many.
        content = np.where(np.isnan(values), np.float32(np.nan), values + np.float32(0)).tobytes()
    else:
        content = values.tobytes()
    return hashlib.sha256(content).hexdigest()
