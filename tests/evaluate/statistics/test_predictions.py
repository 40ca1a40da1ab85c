"""Tables of predictions that cannot be scored are refused in words."""

import numpy as np
import pandas as pd
import pytest

from clef_jax.evaluate.statistics.predictions import PredictionsError, check_predictions, scored
from tests.predicted import LABELS, predicted


@pytest.mark.parametrize("kind", LABELS)
def test_what_models_say_is_accepted(kind):
    check_predictions(predicted(kind, patients=5, seeds=(0, 1)), kind)


def changed(**columns):
    def change(predictions):
        row = predictions.index[3]
        for name, value in columns.items():
            predictions.loc[row, name] = value
        return predictions

    return change


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("ordinal", changed(), "expected one of multilabel"),
        ("binary", lambda p: p.drop(columns=["seed", "split"]), "lack the columns seed, split"),
        ("binary", lambda p: pd.concat([p, p.assign(task="b")]), "2 tasks at once"),
        ("binary", lambda p: pd.concat([p, p.iloc[[0]]]), "predicted more than once"),
        ("binary", changed(patient="other", example="validation-00000"), "more than"),
        ("binary", changed(score=1.2), "no probability from 0 to 1; examples 'validation-00003'"),
        ("binary", changed(score=-np.inf), "not finite"),
        ("binary", changed(score=np.nan), "without a score, though others"),
        ("binary", changed(target=2.0), "other than 0, 1 and unknown"),
        ("binary", changed(split="dev"), "not of train, validation, test"),
        ("binary", changed(model=None), "without model"),
        ("binary", lambda p: pd.concat([p, p.assign(label="AFL")]), "2 labels in a binary task"),
        ("multiclass", lambda p: p.drop(index=p.index[3]), "without some classes"),
    ],
)
def test_what_cannot_be_scored_is_said(kind, change, message):
    predictions = change(predicted(kind if kind in LABELS else "binary", patients=8))
    with pytest.raises(PredictionsError, match=message):
        check_predictions(predictions, kind)


def test_arrays_are_by_example_whatever_the_order_of_rows():
    predictions = predicted("multilabel", patients=12, seed=1)
    arrays = scored(predictions, "multilabel", LABELS["multilabel"], "test")
    again = scored(predictions[::-1], "multilabel", LABELS["multilabel"], "test")
    assert (arrays.example == again.example).all() and (arrays.score == again.score).all()
    assert arrays.attributes.equals(again.attributes)
    for row in predictions.query("split == 'test'").itertuples():
        at, column = (
            np.flatnonzero(arrays.example == row.example)[0],
            arrays.labels.index(row.label),
        )
        assert arrays.score[at, column] == row.score and arrays.patient[at] == row.patient
        assert arrays.target[at, column] == row.target
        assert arrays.attributes["age"][at] == row.age
