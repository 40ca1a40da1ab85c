"""Whom an encoder was trained on, as its meta record keeps it: by hashes of their identifiers.

Six bytes a patient are a text of 1.3 MB for the 161,352 patients of MIMIC-IV-ECG. That one of
10,000 other patients has the hash of one of those happens once in 170,000 cases.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from clef_jax.checkpoints.meta import CheckpointError

PATIENTS = "patients_sha256"
_BYTES = 6


def patient_hashes(patients: Iterable[str]) -> frozenset[bytes]:
    """Returns the hashes of identifiers, the first six bytes of the SHA-256 of each."""
    return frozenset(hashlib.sha256(name.encode()).digest()[:_BYTES] for name in patients)


def patients_in(meta: Mapping[str, Any]) -> frozenset[bytes] | None:
    """Returns the hashes of those an encoder was trained on; None where its record does not say.

    Raises:
        CheckpointError: The record holds something else there.
    """
    text = meta.get(PATIENTS)
    if text is None:
        return None
    try:
        content = base64.b64decode(text, validate=True)
        if len(content) % _BYTES:
            raise ValueError(f"{len(content)} bytes")
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{PATIENTS} of the meta record: found {str(text)[:20]!r} ({error}), expected hashes "
            f"of {_BYTES} bytes each as base64; if a later release wrote it, update clef_jax"
        ) from None
    return frozenset(content[at : at + _BYTES] for at in range(0, len(content), _BYTES))


def joined(*seen: frozenset[bytes] | None) -> frozenset[bytes] | None:
    """Returns the hashes of all who were seen, None where that is not known of one of them."""
    known = [hashes for hashes in seen if hashes is not None]
    return frozenset().union(*known) if len(known) == len(seen) else None


def with_patients(meta: Mapping[str, Any], hashes: frozenset[bytes] | None) -> dict[str, Any]:
    """Returns a meta record that says that an encoder was trained on these, or nothing of it."""
    others = {name: value for name, value in meta.items() if name != PATIENTS}
    if hashes is None:
        return others
    return others | {PATIENTS: base64.b64encode(b"".join(sorted(hashes))).decode()}
