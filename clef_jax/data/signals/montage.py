"""Montages: which leads a shard set, a noise bank or an encoder knows, and their numbers."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from clef_jax.data.signals.leads import NOISE_LEADS, canonical_lead
from clef_jax.errors import ClefError

# Ids are stored as int8.
_MOST_LEADS = 127


class MontageError(ClefError):
    """Leads that make no montage, or a lead that it lacks; the message says which there are."""


@dataclasses.dataclass(frozen=True)
class Montage:
    """The leads that something knows. A lead's id is its position among them.

    Attributes:
        name: What it is called in manifests and messages.
        leads: Names of the leads, no two alike but for case.
        aliases: Further names of these leads, such as {"MLII": "II"}; case does not matter. How ECG
            labels are spelled (`leads.canonical_lead`) is understood without them.

    Raises:
        ValueError: There are none or more than 127 leads, two of one name, or an alias of a lead
            that is not among them.
    """

    name: str
    leads: tuple[str, ...]
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)

    def __post_init__(self):
        if not 1 <= len(self.leads) <= _MOST_LEADS:
            raise MontageError(
                f"montage {self.name} has {len(self.leads)} leads; expected 1 to {_MOST_LEADS}"
            )
        folded = [lead.lower() for lead in self.leads]
        if twice := sorted({lead for lead in self.leads if folded.count(lead.lower()) > 1}):
            raise MontageError(f"montage {self.name} names {', '.join(twice)} more than once")
        for alias, lead in self.aliases.items():
            if lead not in self.leads:
                raise MontageError(
                    f"montage {self.name}: {alias} stands for {lead}, which is none of its leads, "
                    f"{', '.join(self.leads)}"
                )

    def find(self, label: str) -> str | None:
        """Returns the lead that a label means, None where it is none of them.

        >>> ECG.find("ECG Lead ii"), ECG.find("MLII")
        ('II', None)
        """
        named = {name.lower(): lead for name, lead in self.aliases.items()}
        named |= {lead.lower(): lead for lead in self.leads}
        return named.get(label.strip().lower()) or named.get(canonical_lead(label).lower())

    def id_of(self, label: str) -> int:
        """Returns the id of the lead that a label means.

        >>> ECG.id_of("aVR")
        3

        Raises:
            MontageError: It is none of the montage's leads.
        """
        lead = self.find(label)
        if lead is None:
            raise MontageError(
                f"no lead {label!r} in montage {self.name}; it has {', '.join(self.leads)}"
            )
        return self.leads.index(lead)

    def to_dict(self) -> dict[str, Any]:
        """Returns the montage as a JSON-ready dictionary."""
        return {"name": self.name, "leads": list(self.leads), "aliases": dict(self.aliases)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Montage":
        """Returns the montage that `to_dict` described.

        Raises:
            MontageError: A field is missing, unknown or of another type, or the leads are
                impossible.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(stored, Mapping):
            raise MontageError(f"a montage has {', '.join(sorted(names))}; found {stored!r}")
        if stored.keys() != names:
            wrong = ", ".join(sorted(stored.keys() ^ names))
            raise MontageError(
                f"a montage has {', '.join(sorted(names))}; missing or unknown: {wrong}"
            )
        leads, aliases = stored["leads"], stored["aliases"]
        if not (isinstance(leads, list) and isinstance(aliases, Mapping)):
            raise MontageError(f"a montage lists leads and names aliases; found {dict(stored)}")
        if not all(isinstance(lead, str) for lead in (stored["name"], *leads, *aliases.values())):
            raise MontageError(f"a montage's names are texts; found {dict(stored)}")
        return cls(stored["name"], tuple(leads), dict(aliases))


# The twelve leads and the Frank leads, as the noise bank has them.
ECG = Montage("ecg15", NOISE_LEADS)


def montage_of_leads(leads: Sequence[str]) -> Montage:
    """Returns a montage of leads in any usual spelling.

    >>> montage_of_leads(["ecg ii", "MLII", "v5"]).leads
    ('II', 'MLII', 'V5')

    Raises:
        ValueError: As of `Montage`.
    """
    return Montage("custom", tuple(canonical_lead(lead) for lead in leads))
