"""Names of ECG leads: one canonical spelling for the many found in files."""

import re

STANDARD_LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
NOISE_LEADS = STANDARD_LEADS + ("X", "Y", "Z")

_CANONICAL = {lead.lower(): lead for lead in NOISE_LEADS}
# The Frank leads are VX, VY, VZ in the PTB database; C1-C6 are the electrodes' IEC names;
# some carts call the limb leads D1-D3 or write them with Arabic digits.
_CANONICAL |= {f"v{lead.lower()}": lead for lead in ("X", "Y", "Z")}
_CANONICAL |= {f"c{i}": f"V{i}" for i in range(1, 7)}
_CANONICAL |= {"d1": "I", "d2": "II", "d3": "III", "1": "I", "2": "II", "3": "III"}
_CANONICAL |= {"di": "I", "dii": "II", "diii": "III"}

_PREFIX = re.compile(r"^(?:ecg|ekg|lead|frank)+(?=.)")


def canonical_lead(name: str) -> str:
    """Returns the canonical name of a lead, or the stripped name where it is none of `NOISE_LEADS`.

    Case, blanks, underscores, hyphens and the words "ECG", "EKG", "Lead" do not matter: "avr", "ECG
    Lead II", "lead_v1" are aVR, II and V1. A modified lead such as MLII keeps its own name,
    because its electrodes sit elsewhere.
    """
    key = re.sub(r"[\s_\-.:]+", "", name).lower()
    return _CANONICAL.get(_PREFIX.sub("", key), name.strip())
