"""SCORE2, SCORE2-OP and SCORE2-Diabetes: 10-year risk of a first cardiovascular event.

Sources, whose coefficient tables are laid out below row by row:

* SCORE2: European Heart Journal 2021;42:2439-2454, doi 10.1093/eurheartj/ehab309
  (ages 40-69, no diabetes).
* SCORE2-OP: European Heart Journal 2021;42:2455-2467, doi 10.1093/eurheartj/ehab312
  (ages 70 and over).
* SCORE2-Diabetes: European Heart Journal 2023;44:2544-2556, doi 10.1093/eurheartj/ehad260
  (type 2 diabetes, ages 40-69).

The functions evaluate the formulas wherever their inputs lie. Which score fits which patient, and
which inputs are plausible, is decided in `clef_jax.risk.table`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

REGIONS = ("low", "moderate", "high", "very_high")

MG_DL_PER_MMOL_L = 38.67


@dataclass(frozen=True)
class RiskModel:
    """A published Cox model of one score; every pair is (men, women).

    Attributes:
        coefficients: Of the linear predictor, by term. `a` is the scaled age, and so on as in
            the functions below; "a*k" is the interaction of two terms.
        survival: Baseline survival over 10 years, S0.
        mean: The linear predictor's mean, subtracted before S0 is applied.
        scales: Region -> (scale1, scale2) of the recalibration, for men and for women.
    """

    coefficients: Mapping[str, tuple[float, float]]
    survival: tuple[float, float]
    mean: tuple[float, float]
    scales: Mapping[str, tuple[tuple[float, float], tuple[float, float]]]


_SCALES_UNDER_70 = {
    "low": ((-0.5699, 0.7476), (-0.7380, 0.7019)),
    "moderate": ((-0.1565, 0.8009), (-0.3143, 0.7701)),
    "high": ((0.3207, 0.9360), (0.5710, 0.9369)),
    "very_high": ((0.5836, 0.8294), (0.9412, 0.8329)),
}

SCORE2 = RiskModel(
    coefficients={
        "a": (0.3742, 0.4648),
        "k": (0.6012, 0.7744),
        "s": (0.2777, 0.3131),
        "m": (0.6457, 0.8096),
        "t": (0.1458, 0.1002),
        "h": (-0.2698, -0.2606),
        "a*k": (-0.0755, -0.1088),
        "a*s": (-0.0255, -0.0277),
        "a*t": (-0.0281, -0.0226),
        "a*h": (0.0426, 0.0613),
        "a*m": (-0.0983, -0.1272),
    },
    survival=(0.9605, 0.9776),
    mean=(0.0, 0.0),
    scales=_SCALES_UNDER_70,
)

SCORE2_OP = RiskModel(
    coefficients={
        "a": (0.0634, 0.0789),
        "m": (0.4245, 0.6010),
        "k": (0.3524, 0.4921),
        "s": (0.0094, 0.0102),
        "t": (0.0850, 0.0605),
        "h": (-0.3564, -0.3040),
        "a*m": (-0.0174, -0.0107),
        "a*k": (-0.0247, -0.0255),
        "a*s": (-0.0005, -0.0004),
        "a*t": (0.0073, -0.0009),
        "a*h": (0.0091, 0.0154),
    },
    survival=(0.7576, 0.8082),
    mean=(0.0929, 0.2290),
    scales={
        "low": ((-0.34, 1.19), (-0.52, 1.01)),
        "moderate": ((0.01, 1.25), (-0.10, 1.10)),
        "high": ((0.08, 1.15), (0.38, 1.09)),
        "very_high": ((0.05, 0.70), (0.38, 0.69)),
    },
)

SCORE2_DIABETES = RiskModel(
    coefficients={
        "a": (0.5368, 0.6624),
        "k": (0.4774, 0.6139),
        "s": (0.1322, 0.1421),
        "m": (0.6457, 0.8096),
        "t": (0.1102, 0.1127),
        "h": (-0.1087, -0.1568),
        "a*k": (-0.0672, -0.1122),
        "a*s": (-0.0268, -0.0167),
        "a*m": (-0.0983, -0.1272),
        "a*t": (-0.0181, -0.0200),
        "a*h": (0.0095, 0.0186),
        "d": (-0.0998, -0.1180),
        "g": (0.0955, 0.1173),
        "e": (-0.0591, -0.0640),
        "e*e": (0.0058, 0.0062),
        "a*g": (-0.0134, -0.0196),
        "a*e": (0.0115, 0.0169),
    },
    survival=(0.9605, 0.9776),
    mean=(0.0, 0.0),
    scales=_SCALES_UNDER_70,
)


def score2(
    age: ArrayLike,
    male: ArrayLike,
    smoker: ArrayLike,
    sbp_mmhg: ArrayLike,
    total_chol_mmol_l: ArrayLike,
    hdl_mmol_l: ArrayLike,
    *,
    diabetes: ArrayLike = False,
    region: str,
) -> np.ndarray:
    """Returns the ten-year risk by SCORE2, meant for ages 40 to 69 without diabetes.

    Arguments broadcast against each other; a NaN in any of them gives NaN in that place.

    Args:
        age: Years.
        male: 1 for men, 0 for women.
        smoker: 1 for current smokers, 0 for never and former smokers.
        sbp_mmhg: Systolic blood pressure, mmHg.
        total_chol_mmol_l: Total cholesterol, mmol/L.
        hdl_mmol_l: HDL cholesterol, mmol/L.
        diabetes: 1 with diabetes. Part of the fitted model, but patients with diabetes have
            `score2_diabetes`.
        region: Risk region of the patient's country: low, moderate, high or very_high.

    Returns:
        Risk of a first fatal or non-fatal cardiovascular event within 10 years, percent, float64.

    Raises:
        ValueError: An unknown region, or a male, smoker or diabetes other than 0 and 1.

    Example:
        A man and a woman of 50 who smoke.

        >>> score2(50, [1, 0], 1, 140, 5.5, 1.3, region="low").round(1)
        array([5.9, 4.2])
    """
    terms = _conventional_terms(
        age, smoker, sbp_mmhg, total_chol_mmol_l, hdl_mmol_l, diabetes=diabetes
    )
    return _recalibrated_percent(SCORE2, terms, male, region)


def score2_op(
    age: ArrayLike,
    male: ArrayLike,
    smoker: ArrayLike,
    sbp_mmhg: ArrayLike,
    total_chol_mmol_l: ArrayLike,
    hdl_mmol_l: ArrayLike,
    *,
    diabetes: ArrayLike = False,
    region: str,
) -> np.ndarray:
    """Returns the ten-year risk by SCORE2-OP, meant for ages 70 to 89, with or without diabetes.

    Arguments, result and errors are those of `score2`.

    Example:
        >>> score2_op([75, 85], 0, 0, 150, 6, 1.4, region="high").round(1)
        array([22.2, 44.7])
    """
    terms = {
        "a": _floats(age) - 73,
        "k": _zeros_and_ones("smoker", smoker),
        "s": _floats(sbp_mmhg) - 150,
        "t": _floats(total_chol_mmol_l) - 6,
        "h": _floats(hdl_mmol_l) - 1.4,
        "m": _zeros_and_ones("diabetes", diabetes),
    }
    return _recalibrated_percent(SCORE2_OP, terms, male, region)


def score2_diabetes(
    age: ArrayLike,
    male: ArrayLike,
    smoker: ArrayLike,
    sbp_mmhg: ArrayLike,
    total_chol_mmol_l: ArrayLike,
    hdl_mmol_l: ArrayLike,
    age_at_diagnosis: ArrayLike,
    hba1c_mmol_mol: ArrayLike,
    egfr: ArrayLike,
    *,
    region: str,
) -> np.ndarray:
    """Returns the ten-year risk by SCORE2-Diabetes, meant for ages 40 to 69 with type 2 diabetes.

    The first six arguments and the region are those of `score2`.

    Args:
        age: Years.
        male: 1 for men, 0 for women.
        smoker: 1 for current smokers.
        sbp_mmhg: Systolic blood pressure, mmHg.
        total_chol_mmol_l: Total cholesterol, mmol/L.
        hdl_mmol_l: HDL cholesterol, mmol/L.
        age_at_diagnosis: Age when diabetes was diagnosed, years.
        hba1c_mmol_mol: Glycated haemoglobin, mmol/mol (IFCC).
        egfr: Estimated glomerular filtration rate, mL/min/1.73 m2, above 0.
        region: One of `REGIONS`, as in `score2`.

    Returns:
        Risk in percent, float64; NaN where an input is NaN.

    Raises:
        ValueError: As `score2`, and for an eGFR of 0 or below.

    Example:
        >>> score2_diabetes(60, 1, 0, 140, 5.5, 1.3, 50, 50, [90, 45], region="moderate").round(1)
        array([12.7, 17.1])
    """
    filtration = _floats(egfr)
    if np.any(filtration <= 0):
        raise ValueError("egfr must be above 0 mL/min/1.73 m2: its logarithm is taken.")
    terms = _conventional_terms(
        age, smoker, sbp_mmhg, total_chol_mmol_l, hdl_mmol_l, diabetes=True
    ) | {
        "d": (_floats(age_at_diagnosis) - 50) / 5,
        "g": (_floats(hba1c_mmol_mol) - 31) / 9.34,
        "e": (np.log(filtration) - 4.5) / 0.15,
    }
    return _recalibrated_percent(SCORE2_DIABETES, terms, male, region)


def cumulative_hazard(
    model: RiskModel, terms: Mapping[str, np.ndarray], male: ArrayLike
) -> np.ndarray:
    """Returns the ten-year cumulative hazard H before recalibration; 1 - exp(-H) is the risk.

    Args:
        model: The published model.
        terms: Scaled value of each single-letter term of `model.coefficients`.
        male: 1 for men, 0 for women.
    """
    men = _zeros_and_ones("male", male)
    predictor = 0.0
    for term, pair in model.coefficients.items():
        value = np.prod(np.broadcast_arrays(*(terms[factor] for factor in term.split("*"))), axis=0)
        predictor = predictor + _of_sex(men, pair) * value
    return -np.log(_of_sex(men, model.survival)) * np.exp(predictor - _of_sex(men, model.mean))


def cholesterol_mmol_l_from_mg_dl(mg_dl: ArrayLike) -> np.ndarray:
    """Returns cholesterol (total or HDL) in mmol/L from mg/dL."""
    return _floats(mg_dl) / MG_DL_PER_MMOL_L


def hba1c_mmol_mol_from_percent(percent: ArrayLike) -> np.ndarray:
    """Returns glycated haemoglobin in mmol/mol (IFCC) from percent (NGSP)."""
    return 10.929 * (_floats(percent) - 2.15)


def _conventional_terms(age, smoker, sbp_mmhg, total_chol_mmol_l, hdl_mmol_l, *, diabetes):
    return {
        "a": (_floats(age) - 60) / 5,
        "k": _zeros_and_ones("smoker", smoker),
        "s": (_floats(sbp_mmhg) - 120) / 20,
        "t": _floats(total_chol_mmol_l) - 6,
        "h": (_floats(hdl_mmol_l) - 1.3) / 0.5,
        "m": _zeros_and_ones("diabetes", diabetes),
    }


def _recalibrated_percent(model, terms, male, region):
    if region not in model.scales:
        raise ValueError(f"Unknown region {region!r}. Choose one of {', '.join(REGIONS)}.")
    men = _zeros_and_ones("male", male)
    hazard = cumulative_hazard(model, terms, men)
    of_men, of_women = model.scales[region]
    scale1, scale2 = (_of_sex(men, pair) for pair in zip(of_men, of_women, strict=True))
    # The papers take ln(-ln(1 - u)) of the uncalibrated risk u, which is ln H: using H directly
    # loses no digits at small risks.
    return -100 * np.expm1(-np.exp(scale1 + scale2 * np.log(hazard)))


def _of_sex(men, pair):
    # A weighted sum rather than np.where, so that an unknown sex (NaN) stays unknown.
    return men * pair[0] + (1 - men) * pair[1]


def _floats(values):
    return np.asarray(values, dtype=np.float64)


def _zeros_and_ones(name, values):
    numbers = _floats(values)
    other = numbers[~(np.isnan(numbers) | (numbers == 0) | (numbers == 1))]
    if other.size:
        raise ValueError(f"{name} must be 0 or 1 (or NaN when unknown), found {other.flat[0]:g}.")
    return numbers
