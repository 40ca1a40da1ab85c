"""The 12 leads as projections of the orthogonal ones, by Dower's transform."""

from collections.abc import Mapping

import numpy as np

from clef_jax.data.signals.leads import STANDARD_LEADS

# Dower's transform (Dower, Machado & Osborne, Clinical Cardiology 3:87, 1980) from the Frank leads
# X (left), Y (feet), Z (back): the rows.
DOWER = {
    "V1": (-0.515, 0.157, -0.917),
    "V2": (0.044, 0.164, -1.387),
    "V3": (0.882, 0.098, -1.277),
    "V4": (1.213, 0.127, -0.601),
    "V5": (1.125, 0.127, -0.086),
    "V6": (0.831, 0.076, 0.230),
    "I": (0.632, -0.235, 0.059),
    "II": (0.235, 1.066, -0.132),
}


def twelve_leads(xyz: np.ndarray) -> np.ndarray:
    """Projects X, Y, Z [3, time] to the 12 standard leads [12, time] by Dower's transform.

    V1-V6, I and II are projections; III and the augmented leads follow from I and II, so that
    Einthoven's and Goldberger's relations hold exactly.
    """
    leads = dict(zip(DOWER, np.array(list(DOWER.values())) @ xyz, strict=True))
    leads = add_derived_leads(leads)
    return np.stack([leads[name] for name in STANDARD_LEADS])


def add_derived_leads(leads: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Adds III, aVR, aVL and aVF, computed from I and II."""
    one, two = leads["I"], leads["II"]
    return dict(leads) | {
        "III": two - one,
        "aVR": -(one + two) / 2,
        "aVL": one - two / 2,
        "aVF": two - one / 2,
    }
