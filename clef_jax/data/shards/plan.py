"""What a set of shards is made from, and that a later run goes on with the same."""

import dataclasses
import hashlib
import json
import os
from typing import Any

import numpy as np
import pandas as pd

from clef_jax.data.shards.format import FORMAT_VERSION
from clef_jax.data.signals.leads import STANDARD_LEADS
from clef_jax.data.signals.quality import QUALITY, QualityLimits
from clef_jax.data.signals.spec import PREPROCESSING
from clef_jax.errors import ClefError
from clef_jax.files import write_json
from clef_jax.nested import flatten

PLAN = "plan.json"

_MAX_RECORDS_PER_SHARD = 4096  # twelve leads of 10 kB each: half a gigabyte
_MIN_RECORDS_PER_SHARD = 64
_SHARDS_OF_A_SMALL_SET = 16


class IngestError(ClefError):
    """Shards that cannot be written; the message names the file, the fault and the remedy."""


@dataclasses.dataclass(frozen=True)
class IngestOptions:
    """What changes the bytes of the shards.

    Attributes:
        min_leads: Good standard leads a record needs, of 12; leads with faults are dropped.
        validation_fraction: Share of the patients held out.
        records_per_shard: Records planned for each shard. None: 16 shards, but no fewer than 64
            records and no more than 4096 (half a gigabyte) in each.
        adu_per_mv: Digital units per mV in place of the headers' gains, see `read_recording`.
        quality: Thresholds of the quality checks.

    Raises:
        IngestError: A value is impossible.
    """

    min_leads: int = 12
    validation_fraction: float = 0.05
    records_per_shard: int | None = None
    adu_per_mv: float | None = None
    quality: QualityLimits = QUALITY

    def __post_init__(self):
        if not 1 <= self.min_leads <= len(STANDARD_LEADS):
            raise IngestError(f"min_leads is {self.min_leads}; expected 1 to 12")
        if not 0 <= self.validation_fraction < 1:
            raise IngestError(
                f"validation_fraction is {self.validation_fraction}; expected 0 or more, below 1"
            )
        if self.records_per_shard is not None and self.records_per_shard < 1:
            raise IngestError(f"records_per_shard is {self.records_per_shard}; expected 1 or more")
        if self.adu_per_mv is not None and not self.adu_per_mv > 0:
            raise IngestError(f"adu_per_mv is {self.adu_per_mv}; expected more than 0")


def plan_of(records: pd.DataFrame, options: IngestOptions, confine: bool) -> dict[str, Any]:
    """Describes everything that the bytes of a set of shards depend on.

    Args:
        records: One row per record, joined with its patient and risk; see `tables`.
        options: What to keep and how.
        confine: Whether a list named the records, so that links out of the folder are refused.

    Returns:
        A JSON-ready dictionary; its options.records_per_shard is a number.
    """
    return {
        "format_version": FORMAT_VERSION,
        "records": len(records),
        "record_names": _digest(records["record"], records["study"]),
        "patients": _digest(records["patient"]),
        "ages_and_sexes": _digest(records["age"], records["sex"]),
        "risks": _digest(records["risk"], records["completeness"]),
        "from_record_list": confine,
        "options": dataclasses.asdict(options)
        | {"records_per_shard": _records_per_shard(len(records), options)},
        "preprocessing": PREPROCESSING.to_dict(),
    }


def fingerprint_of(plan: dict[str, Any]) -> str:
    """Returns the SHA-256 of a plan, hexadecimal."""
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()


def agree_on_plan(out: str, plan: dict[str, Any]) -> None:
    """Leaves the plan in a new folder, or compares it with the one found there.

    Raises:
        IngestError: The folder was begun with another plan; the message says what differs.
    """
    path = os.path.join(out, PLAN)
    try:
        with open(path, encoding="utf-8") as stream:
            earlier = json.load(stream)
    except FileNotFoundError:
        write_json(path, plan)
        return
    flat, earlier_flat = flatten(plan), flatten(earlier)
    differing = sorted(k for k in flat | earlier_flat if flat.get(k) != earlier_flat.get(k))
    if differing:
        raise IngestError(
            f"{path}: {out} was begun with other input; different now: {', '.join(differing)}; "
            "use another --out, or delete this folder to begin anew"
        )


def _digest(*columns: Any) -> str:
    digest = hashlib.sha256()
    for column in columns:
        if column.dtype == np.float32:
            digest.update(column.to_numpy().tobytes())
        else:
            digest.update("\n".join("" if pd.isna(v) else str(v) for v in column).encode())
        digest.update(b"\0")
    return digest.hexdigest()


def _records_per_shard(n: int, options: IngestOptions) -> int:
    if options.records_per_shard is not None:
        return options.records_per_shard
    share = -(-n // _SHARDS_OF_A_SMALL_SET)
    return min(max(share, _MIN_RECORDS_PER_SHARD), _MAX_RECORDS_PER_SHARD)
