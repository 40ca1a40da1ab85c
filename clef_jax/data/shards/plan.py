"""What a set of shards is made from, and that a later run goes on with the same."""

import dataclasses
import hashlib
import json
import os
from typing import Any

import pandas as pd

from clef_jax.data.recordings.recording import Hints
from clef_jax.data.shards.format import FORMAT_VERSION, PLAN
from clef_jax.data.signals.leads import STANDARD_LEADS
from clef_jax.data.signals.montage import ECG, Montage
from clef_jax.data.signals.quality import QUALITY, QualityLimits
from clef_jax.data.signals.spec import CLEF_V2, PreprocessingSpec
from clef_jax.errors import ClefError
from clef_jax.files import write_json
from clef_jax.nested import flatten

_MAX_RECORDS_PER_SHARD = 4096  # twelve leads of 10 kB each: half a gigabyte
_MIN_RECORDS_PER_SHARD = 64
_SHARDS_OF_A_SMALL_SET = 16


class WriteError(ClefError):
    """Shards that cannot be written; the message names the file, the fault and the remedy."""


@dataclasses.dataclass(frozen=True)
class WriteOptions:
    """What changes the bytes of the shards.

    Attributes:
        montage: The leads to keep.
        min_leads: Good leads of the montage that a window needs; leads with faults are dropped. Of
            `ECG` the 12 standard ones count, and 12 is the default; of another montage 1 is.
        all_windows: Whether every window of a recording is taken, as an entry of its own, and not
            the first alone.
        records_per_shard: Records planned for each shard. None: 16 shards, but no fewer than 64
            records and no more than 4096 (half a gigabyte) in each.
        hints: What is said of recordings beside their files.
        quality: Thresholds of the quality checks.
        spec: The preprocessing.

    Raises:
        WriteError: A value is impossible.
    """

    montage: Montage = ECG
    min_leads: int | None = None
    all_windows: bool = False
    records_per_shard: int | None = None
    hints: Hints = Hints()
    quality: QualityLimits = QUALITY
    spec: PreprocessingSpec = CLEF_V2

    def __post_init__(self):
        if not 1 <= self.leads_needed <= len(self.leads_counted):
            raise WriteError(
                f"min_leads is {self.min_leads}; expected 1 to {len(self.leads_counted)}"
            )
        if self.records_per_shard is not None and self.records_per_shard < 1:
            raise WriteError(f"records_per_shard is {self.records_per_shard}; expected 1 or more")
        for name in ("fs", "adu_per_mv"):
            value = getattr(self.hints, name)
            if value is not None and not value > 0:
                raise WriteError(f"{name} is {value}; expected more than 0")

    @property
    def leads_counted(self) -> tuple[str, ...]:
        """The leads of which a window needs some."""
        return STANDARD_LEADS if self.montage == ECG else self.montage.leads

    @property
    def leads_needed(self) -> int:
        """How many of these it needs."""
        if self.min_leads is not None:
            return self.min_leads
        return len(STANDARD_LEADS) if self.montage == ECG else 1


def plan_of(records: pd.DataFrame, options: WriteOptions, confine: bool) -> dict[str, Any]:
    """Describes everything that the bytes of a set of shards and its index depend on.

    Args:
        records: record, file, patient and study, one row per record.
        options: What to keep and how.
        confine: Whether a list named the records, so that links out of the folder are refused.

    Returns:
        A JSON-ready dictionary; its options.records_per_shard is a number.
    """
    values = dataclasses.asdict(options)
    del values["spec"], values["montage"]
    plan = {
        "format_version": FORMAT_VERSION,
        "records": len(records),
        "record_names": _digest(records["record"], records["file"], records["study"]),
        "patients": _digest(records["patient"]),
        "from_record_list": confine,
        "options": values
        | {
            "min_leads": options.leads_needed,
            "records_per_shard": _records_per_shard(len(records), options),
        },
        "preprocessing": options.spec.to_dict(),
        "montage": options.montage.to_dict(),
    }
    return json.loads(json.dumps(plan))


def fingerprint_of(plan: dict[str, Any]) -> str:
    """Returns the SHA-256 of a plan, hexadecimal."""
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()


def agree_on_plan(out: str, plan: dict[str, Any]) -> None:
    """Leaves the plan in a new folder, or compares it with the one found there.

    Raises:
        WriteError: The folder was begun in another format, or with another plan; the message says
            what differs.
    """
    path = os.path.join(out, PLAN)
    try:
        with open(path, encoding="utf-8") as stream:
            earlier = json.load(stream)
    except FileNotFoundError:
        write_json(path, plan)
        return
    if (begun := earlier["format_version"]) != FORMAT_VERSION:
        raise WriteError(
            f"{path}: format_version is {begun}, and this release writes {FORMAT_VERSION}; finish "
            f"or mend {out} with the release that began it, or use another --out. Finished shards "
            "open as they are: a run takes another risk or split of them by config.annotations and "
            "config.validation_fraction"
        )
    flat, earlier_flat = flatten(plan), flatten(earlier)
    differing = sorted(k for k in flat | earlier_flat if flat.get(k) != earlier_flat.get(k))
    if differing:
        raise WriteError(
            f"{path}: {out} was begun with other input; different now: {', '.join(differing)}; "
            "use another --out, or delete this folder to begin anew"
        )


def _digest(*columns: pd.Series) -> str:
    digest = hashlib.sha256()
    for column in columns:
        known = column.astype(object).where(column.notna(), "")
        digest.update("\n".join(known.tolist()).encode())
        digest.update(b"\0")
    return digest.hexdigest()


def _records_per_shard(n: int, options: WriteOptions) -> int:
    if options.records_per_shard is not None:
        return options.records_per_shard
    share = -(-n // _SHARDS_OF_A_SMALL_SET)
    return min(max(share, _MIN_RECORDS_PER_SHARD), _MAX_RECORDS_PER_SHARD)
