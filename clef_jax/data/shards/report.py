"""What writing shards says at its end."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class WriteReport:
    """What a run did.

    Attributes:
        records_in: Recordings found.
        recordings: Of these, in the shards.
        windows: Windows in the shards: one of each recording, unless every one was asked for.
        rejected: Kind of fault -> recordings and windows left out: lines of `rejected.csv`. Of a
            recording that is in the shards they may leave out windows.
        notes: Kind of remark -> recordings of which something is left out.
        patients: Patients in the shards.
        train: Recordings of patients to train on.
        validation: Recordings of patients held out.
        patients_from_records: Recordings that name no patient.
        einthoven_violations: Recordings that contradict III = II - I.
        spiky_records: Recordings with spikes.
        risk_known: Recordings of known risk.
        matches: Table -> recordings that it describes.
        records_read: Recordings read by this run, and not by an earlier one.
        seconds: How long that took.
    """

    records_in: int
    recordings: int
    windows: int
    rejected: Mapping[str, int]
    notes: Mapping[str, int]
    patients: int
    train: int
    validation: int
    patients_from_records: int
    einthoven_violations: int
    spiky_records: int
    risk_known: int
    matches: Mapping[str, int]
    records_read: int
    seconds: float

    def __str__(self) -> str:
        lines = [
            f"records in           {self.records_in:>9,}",
            f"  written            {self.recordings:>9,}",
        ]
        if self.windows > self.recordings:
            lines.append(f"    windows of these {self.windows:>9,}")
        lines.append(f"  rejected           {self.records_in - self.recordings:>9,}")
        if self.rejected:
            lines += ["records and windows left out, see rejected.csv:", *_counts(self.rejected)]
        if self.notes:
            lines += ["left out of what is written, see notes.csv:", *_counts(self.notes)]
        lines.append(f"patients             {self.patients:>9,}")
        lines.append(f"train / validation   {self.train:>9,} / {self.validation:,} records")
        lines += [
            f"{table + ' rows found':<20} {count:>9,} of {self.records_in:,} records"
            for table, count in self.matches.items()
        ]
        lines.append(f"risk known           {self.risk_known:>9,} of {self.recordings:,} written")
        return "\n".join(lines + list(self._advice()) + [self._speed()])

    def _advice(self):
        if self.patients_from_records:
            yield (
                f"{self.patients_from_records:,} records name no patient in a table or header: "
                "each stands in for one of its own.\nIf patients were recorded more than once, "
                "give --metadata with their ids, or the split may put one on both sides."
            )
        if self.einthoven_violations:
            yield (
                f"{self.einthoven_violations:,} records contradict III = II - I: their gains may "
                "be wrong lead by lead (in LUDB they are: --adu_per_mv=1000)."
            )
        if self.spiky_records:
            yield (
                f"{self.spiky_records:,} records have spikes that no heart makes; those beyond "
                "15 mV were bridged like missing samples."
            )

    def _speed(self) -> str:
        if not self.records_read:
            return "every shard was finished already"
        speed = self.records_read / max(self.seconds, 1e-9)
        return f"{self.records_read:,} read now in {self.seconds:.1f} s: {speed:.0f} records/s"


def _counts(of_kind: Mapping[str, int]) -> list[str]:
    return [f"    {count:>9,}  {kind}" for kind, count in sorted(of_kind.items())]
