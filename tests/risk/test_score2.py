"""SCORE2, SCORE2-OP and SCORE2-Diabetes against published and independently computed risks."""

import math

import numpy as np
import pytest

from clef_jax import risk
from clef_jax.risk.score2 import (
    SCORE2,
    SCORE2_DIABETES,
    SCORE2_OP,
    cholesterol_mmol_l_from_mg_dl,
    cumulative_hazard,
    hba1c_mmol_mol_from_percent,
)

MALE, FEMALE = 1, 0

# (sex, region, age, smoker, SBP, TC, HDL, uncalibrated %, risk %)
SCORE2_VECTORS = [
    (MALE, "low", 50, 1, 140, 5.5, 1.3, 4.9531, 5.9133),
    (MALE, "very_high", 50, 1, 140, 5.5, 1.3, 4.9531, 14.0486),
    (FEMALE, "low", 50, 1, 140, 5.5, 1.3, 3.1894, 4.2155),
    (FEMALE, "very_high", 50, 1, 140, 5.5, 1.3, 3.1894, 13.7005),
    (MALE, "low", 50, 1, 140, 6.3, 1.4, 5.4098, 6.3143),
    (FEMALE, "low", 50, 1, 140, 6.3, 1.4, 3.3163, 4.3319),
    (MALE, "moderate", 50, 1, 140, 6.3, 1.4, 5.4098, 8.1066),
    (FEMALE, "high", 50, 1, 140, 6.3, 1.4, 3.3163, 7.1264),
    (MALE, "low", 45, 0, 110, 5.0, 2.0, 0.4990, 1.0717),
    (MALE, "high", 48, 1, 160, 8.0, 2.0, 6.2311, 10.0288),
    (MALE, "low", 55, 0, 140, 5.5, 1.3, 3.3828, 4.4534),
    (MALE, "moderate", 60, 1, 140, 5.2, 1.2, 8.7127, 11.8019),
    (FEMALE, "moderate", 60, 0, 140, 5.2, 1.2, 2.9678, 4.8029),
]
SCORE2_OP_VECTORS = [
    (MALE, "low", 75, 1, 140, 5.5, 1.3, 29.6588, 18.5621),
    (FEMALE, "low", 75, 1, 140, 5.5, 1.3, 24.4241, 15.1580),
    (MALE, "low", 75, 0, 140, 5.5, 1.3, 22.8832, 13.3395),
    (FEMALE, "moderate", 75, 1, 140, 5.5, 1.3, 24.4241, 19.9966),
    (MALE, "very_high", 75, 1, 140, 6.0, 1.3, 30.9112, 40.7811),
]
# (sex, region, age, smoker, SBP, TC, HDL, age at diagnosis, HbA1c, eGFR, uncalibrated %, risk %)
DIABETES_VECTORS = [
    (MALE, "moderate", 60, 0, 140, 5.5, 1.3, 60, 50, 90, 7.9275, 10.9562),
    (MALE, "moderate", 60, 0, 140, 5.5, 1.3, 50, 70, 60, 14.0532, 17.1864),
    (FEMALE, "very_high", 60, 0, 140, 5.5, 1.3, 50, 70, 60, 10.6502, 34.0146),
    (MALE, "low", 65, 0, 160, 6.5, 1.0, 40, 64, 60, 27.1409, 21.2899),
]


@pytest.mark.parametrize("vector", SCORE2_VECTORS)
def test_score2_vectors(vector):
    male, region, age, *factors, _, expected = vector
    assert abs(float(risk.score2(age, male, *factors, region=region)) - expected) < 5.1e-5


@pytest.mark.parametrize("vector", SCORE2_OP_VECTORS)
def test_score2_op_vectors(vector):
    male, region, age, *factors, _, expected = vector
    assert abs(float(risk.score2_op(age, male, *factors, region=region)) - expected) < 5.1e-5


@pytest.mark.parametrize("vector", DIABETES_VECTORS)
def test_score2_diabetes_vectors(vector):
    male, region, age, *factors, _, expected = vector
    assert abs(float(risk.score2_diabetes(age, male, *factors, region=region)) - expected) < 5.1e-5


def _recalibrate(uncalibrated_percent, scale1, scale2):
    """The papers' own form of the recalibration, from the rounded uncalibrated percentage."""
    inner = math.log(-math.log(1 - uncalibrated_percent / 100))
    return 100 * (1 - math.exp(-math.exp(scale1 + scale2 * inner)))


@pytest.mark.parametrize("model", [SCORE2, SCORE2_OP, SCORE2_DIABETES])
def test_tables_uncalibrated_column_leads_to_its_risk_column(model):
    vectors = {
        id(SCORE2): SCORE2_VECTORS,
        id(SCORE2_OP): SCORE2_OP_VECTORS,
        id(SCORE2_DIABETES): DIABETES_VECTORS,
    }[id(model)]
    for vector in vectors:
        scale1, scale2 = model.scales[vector[1]][0 if vector[0] == MALE else 1]
        assert _recalibrate(vector[-2], scale1, scale2) == pytest.approx(vector[-1], abs=2e-3)


@pytest.mark.parametrize(("male", "expected"), [(MALE, 0.0395), (FEMALE, 0.0224)])
def test_reference_person_has_baseline_risk_under_70(male, expected):
    at_centre = dict.fromkeys("akstmh", 0.0)
    hazard = cumulative_hazard(SCORE2, at_centre, male)
    assert -math.expm1(-hazard) == pytest.approx(expected, abs=1e-15)
    scale1, scale2 = SCORE2.scales["low"][0 if male else 1]
    assert risk.score2(60, male, 0, 120, 6, 1.3, region="low") == pytest.approx(
        _recalibrate(100 * expected, scale1, scale2), rel=1e-12
    )


@pytest.mark.parametrize(
    ("male", "survival", "mean"), [(MALE, 0.7576, 0.0929), (FEMALE, 0.8082, 0.2290)]
)
def test_reference_person_has_baseline_risk_over_70(male, survival, mean):
    scale1, scale2 = SCORE2_OP.scales["high"][0 if male else 1]
    uncalibrated = 100 * (1 - survival ** math.exp(-mean))
    assert risk.score2_op(73, male, 0, 150, 6, 1.4, region="high") == pytest.approx(
        _recalibrate(uncalibrated, scale1, scale2), rel=1e-12
    )


@pytest.mark.parametrize("male", [MALE, FEMALE])
@pytest.mark.parametrize("region", risk.REGIONS)
def test_risk_rises_and_falls_with_its_factors(male, region):
    age, smoker, sbp, chol, hdl = np.meshgrid(
        np.arange(40, 70), [0, 1], np.linspace(100, 180, 9), np.linspace(3, 9, 7),
        np.linspace(0.7, 2.5, 7), indexing="ij",
    )  # fmt: skip
    risks = risk.score2(age, male, smoker, sbp, chol, hdl, region=region)
    assert np.all((risks > 0) & (risks < 100))
    for axis in (1, 2, 3):
        assert np.all(np.diff(risks, axis=axis) > 0)
    assert np.all(np.diff(risks, axis=4) < 0)


def test_vectorised_equals_one_by_one_and_broadcasts():
    ages = np.array([[45.0], [55.0], [65.0]])
    male = np.array([0, 1, 1, 0])
    together = risk.score2(ages, male, 1, 131, 5.7, 1.1, diabetes=[0, 0, 1, 1], region="high")
    assert together.shape == (3, 4)
    assert together.dtype == np.float64
    for row in range(3):
        for column in range(4):
            alone = risk.score2(
                ages[row, 0], male[column], 1, 131, 5.7, 1.1, diabetes=column > 1, region="high"
            )
            assert together[row, column] == alone


@pytest.mark.parametrize("unknown", range(9))
def test_nan_in_any_input_gives_nan_in_that_place(unknown):
    inputs = [np.array([60.0, 60.0]) for _ in range(9)]
    for position, value in enumerate((60, 1, 0, 140, 5.5, 1.3, 50, 70, 60)):
        inputs[position][:] = value
    inputs[unknown][0] = np.nan
    risks = risk.score2_diabetes(*inputs, region="moderate")
    assert np.isnan(risks[0])
    assert risks[1] == pytest.approx(17.1864, abs=5.1e-5)
    if unknown < 6:
        for score in (risk.score2, risk.score2_op):
            assert np.array_equal(np.isnan(score(*inputs[:6], region="low")), [True, False])


def test_unknown_diabetes_gives_nan():
    risks = risk.score2_op(75, 1, 0, 140, 5.5, 1.3, diabetes=[np.nan, 0.0], region="low")
    assert np.array_equal(np.isnan(risks), [True, False])


def test_tiny_and_large_risks_keep_their_digits():
    tiny = risk.score2(20, FEMALE, 0, 90, 3, 3, region="low")
    hazard = cumulative_hazard(
        SCORE2, {"a": -8.0, "k": 0, "s": -1.5, "t": -3.0, "h": 3.4, "m": 0}, FEMALE
    )
    exponent = math.exp(-0.7380 + 0.7019 * math.log(hazard))
    assert tiny == pytest.approx(100 * exponent * (1 - exponent / 2), rel=1e-6)
    assert risk.score2_op(105, MALE, 1, 220, 9, 0.5, diabetes=1, region="moderate") <= 100


def test_unknown_region_lists_the_four():
    with pytest.raises(ValueError, match="'middle'.*low, moderate, high, very_high"):
        risk.score2(50, 1, 0, 120, 5, 1.3, region="middle")


@pytest.mark.parametrize("name", ["male", "smoker", "diabetes"])
def test_codes_other_than_0_and_1_are_refused(name):
    arguments = {"male": 1, "smoker": 0, "diabetes": 0} | {name: [1, 2]}
    with pytest.raises(ValueError, match=f"{name} must be 0 or 1.*found 2"):
        risk.score2(
            50, arguments["male"], arguments["smoker"], 120, 5, 1.3,
            diabetes=arguments["diabetes"], region="low",
        )  # fmt: skip


def test_egfr_of_zero_is_refused():
    with pytest.raises(ValueError, match="egfr must be above 0"):
        risk.score2_diabetes(60, 1, 0, 140, 5.5, 1.3, 50, 70, [60, 0], region="low")


def test_unit_conversions():
    # 200 mg/dL is 5.17 mmol/L; HbA1c 6.5 % is 48 mmol/mol and 10 % is 86 mmol/mol.
    assert cholesterol_mmol_l_from_mg_dl(200) == pytest.approx(5.172, abs=5e-4)
    assert np.allclose(hba1c_mmol_mol_from_percent([6.5, 10]), [48, 86], atol=0.5)
