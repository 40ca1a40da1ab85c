"""Names of ECG leads: one canonical spelling for the many found in files."""

import re
from collections.abc import Sequence

STANDARD_LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
NOISE_LEADS = STANDARD_LEADS + ("X", "Y", "Z")

_CHEST_LEADS = STANDARD_LEADS[6:]
_CANONICAL = {lead.lower(): lead for lead in NOISE_LEADS}
# The Frank leads are VX, VY, VZ in the PTB database; some carts call the limb leads D1-D3.
_CANONICAL |= {f"v{lead.lower()}": lead for lead in ("X", "Y", "Z")}
_CANONICAL |= {"d1": "I", "d2": "II", "d3": "III", "di": "I", "dii": "II", "diii": "III"}
_NUMBERED = {"1": "I", "2": "II", "3": "III"}

_BETWEEN = r"[\s_\-.,:]*"
_LABEL = re.compile(
    rf"(?P<words>(?:(?:ecg|ekg|lead|frank){_BETWEEN})*)(?P<lead>.*?){_BETWEEN}", re.DOTALL
)
_STEM = re.compile(rf"(?P<stem>av|v|c|d){_BETWEEN}")
# "-aVR" and "Lead -aVR" are turned upside down; "lead-aVR" is not.
_INVERTED = re.compile(r"(?:^|\s)-(?=\w)")
_ECG_WORD = re.compile("ecg|ekg")
# Modified limb and chest leads, right and posterior chest leads, EASI leads.
_MODIFIED = re.compile(
    rf"mc?l{_BETWEEN}(?:i{{1,3}}|v?[1-6])|m{_BETWEEN}(?:i{{1,3}}|v[1-6]|av[rlf])"
    rf"|mod{_BETWEEN}v?[1-6]|c[bcmrs]{_BETWEEN}[1-6]|v[1-6]r|v[789]r?|e-?s|a-?[si]"
)
_MODIFICATION = re.compile(rf"(?:mod|mc?l?|c[bcmrs]){_BETWEEN}")
# Electrodes of the 10-10 system, C1 to C6 among them, by themselves and in pairs.
_ELECTRODE = r"(?:(?:fp|af|ft|fc|tp|cp|po|f|c|t|p|o)(?:z|10|[1-9])|[am][12]|[ni]z)"
_EEG = re.compile(rf"{_ELECTRODE}{{1,2}}(?:ref|le|avg?|a1\+?a2|m1\+?m2)?")
# Eye movements are recorded beside EEGs.
_EOG = re.compile(r"(?<![a-z])(?:eog|loc|roc)(?![a-z])")
_CHEST_ELECTRODE = re.compile("c[1-6]")
# A name that tells nothing about where the electrodes were: "ECG", "ECG1-ECG2", "Channel 3".
_UNNAMED_PART = r"(?:ecg|ekg|lead|signal|channel|ch|col|column)?[\s_\-]*\d*"
_UNNAMED = re.compile(rf"{_UNNAMED_PART}(?:\s*-\s*{_UNNAMED_PART})?")


def _split(label: str) -> tuple[str, str]:
    """Returns the words before a lead's name, such as "lead", and the name, in lower case."""
    text = label.strip().lower()
    if _INVERTED.search(text):
        return "", text
    parts = _LABEL.fullmatch(text)
    assert parts is not None, "every text is a label"
    words, lead = parts.group("words", "lead")
    return words, _STEM.sub(r"\g<stem>", lead, count=1) if _STEM.match(lead) else lead


def canonical_lead(name: str) -> str:
    """Returns the canonical name of a lead, or the stripped name where it is none of `NOISE_LEADS`.

    Case, blanks, underscores, hyphens and the words "ECG", "EKG", "Lead" do not matter: "avr", "ECG
    Lead II", "lead_v1" are aVR, II and V1. A modified lead such as MLII keeps its own name,
    because its electrodes sit elsewhere. A number is a limb lead after the word "lead" only:
    recorders number their channels.
    """
    words, lead = _split(name)
    if "lead" in words and lead in _NUMBERED:
        return _NUMBERED[lead]
    return _CANONICAL.get(lead, name.strip())


def is_eeg(label: str) -> bool:
    """Tells whether a channel is an EEG by its label: "EEG Fpz-Cz", "O1", "C3-A2", "C4M1".

    C1 to C6 by themselves tell nothing: they are EEG electrodes and the IEC's chest electrodes.
    """
    text = label.lower()
    key = re.sub(r"eeg|[\s_\-.:/]+", "", text)
    electrode = _EEG.fullmatch(key) is not None and not _CHEST_ELECTRODE.fullmatch(key)
    return "eeg" in text or electrode


def has_eeg(labels: Sequence[str]) -> bool:
    """Tells whether a recording holds an EEG, by the labels of all its channels."""
    return any(is_eeg(label) or _EOG.search(label.lower()) for label in labels)


def is_ecg(label: str) -> bool:
    """Tells whether a channel is an ECG by its label: the name of a lead, or the word itself."""
    text = label.strip().lower()
    return (
        canonical_lead(label) in NOISE_LEADS
        or _ECG_WORD.search(text) is not None
        or _MODIFIED.fullmatch(_split(label)[1]) is not None
    )


def unmodified_lead(label: str) -> str:
    """Returns the lead that a modified one stands for, or the label itself.

    >>> unmodified_lead("MLII"), unmodified_lead("MCL1"), unmodified_lead("V5")
    ('II', 'V1', 'V5')
    """
    name = _split(label)[1]
    if not _MODIFIED.fullmatch(name) or not (prefix := _MODIFICATION.match(name)):
        return label
    lead = name[prefix.end() :]
    return canonical_lead(f"v{lead}" if lead.isdigit() else lead)


def is_unnamed(label: str) -> bool:
    """Tells whether a label says nothing about where the electrodes were: "ECG", "ch 1"."""
    return _UNNAMED.fullmatch(label.strip().lower()) is not None


def is_chest_electrode(label: str) -> bool:
    """Tells whether a label is one of C1 to C6, which may be an EEG electrode as well."""
    return _CHEST_ELECTRODE.fullmatch(_split(label)[1]) is not None


def _apart(names: Sequence[str]) -> tuple[str, ...]:
    """Returns names that differ in more than case: the second "II" becomes "II (2)"."""
    given = {name.lower() for name in names}
    taken: set[str] = set()
    distinct = []
    for name in names:
        number, candidate = 1, name
        while candidate.lower() in taken or (number > 1 and candidate.lower() in given):
            number += 1
            candidate = f"{name} ({number})"
        taken.add(candidate.lower())
        distinct.append(candidate)
    return tuple(distinct)


def name_leads(labels: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of a recording's channels, each by `canonical_lead`, no two alike.

    What a label means may depend on the others: C1 to C6 are chest leads where all six are there
    and no channel is an EEG. The first of several copies of a lead keeps its name, the others
    become "II (2)" and so on. A channel without a label is "signal 0" by its position.

    Args:
        labels: The labels of all channels of the recording, in the file's order.
    """
    names = [canonical_lead(label) or f"signal {i}" for i, label in enumerate(labels)]
    chest = {
        i: f"V{_split(label)[1][1]}" for i, label in enumerate(labels) if is_chest_electrode(label)
    }
    if set(chest.values()) == set(_CHEST_LEADS) and not has_eeg(labels):
        names = [chest.get(i, name) for i, name in enumerate(names)]
    return _apart(names)


def find_lead(wanted: str, names: Sequence[str]) -> int | None:
    """Returns the position of a lead that a user names in any usual spelling, None where absent.

    Args:
        wanted: As in the recording, or as `canonical_lead` understands it; case does not matter.
        names: What `name_leads` made of the recording's channels.
    """
    folded = [name.lower() for name in names]
    for name in (wanted.strip().lower(), canonical_lead(wanted).lower()):
        if name in folded:
            return folded.index(name)
    return None
