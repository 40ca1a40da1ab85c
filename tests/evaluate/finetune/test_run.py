"""Whole fine-tunings of a tiny encoder: what is found, kept, chosen, and refused."""

import dataclasses

import jax
import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from clef_jax.checkpoints.meta import CheckpointError
from clef_jax.checkpoints.patients import patient_hashes, patients_in
from clef_jax.evaluate.finetune import FinetuneError, finetune, load_head
from clef_jax.evaluate.finetune.thresholds import youden_threshold
from clef_jax.evaluate.statistics import evaluate_predictions
from clef_jax.inference import load_encoder
from tests.evaluate.finetune.cohort import QUICK, THOROUGH, beats, inputs_of, tiny_encoder


def of_split(result, split="test"):
    rows = result.predictions[result.predictions.split == split]
    return rows.target.to_numpy(), rows.score.to_numpy()


@pytest.fixture(scope="module")
def planted():
    return inputs_of(*beats(400), lead="II", task="width")


@pytest.fixture(scope="module")
def found(planted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finetuned")
    return finetune(tiny_encoder(), planted, QUICK, folder, temperature=lambda *_: 2.0)


def interval(result):
    """Returns the 95 % interval of the AUROC on test, over seeds and patients."""
    about = {"task": "width", "preset": "clean", "lead": "II", "mode": "finetune", "model": "tiny"}
    results = evaluate_predictions(result.predictions.assign(**about, fraction=1.0), "binary")
    (row,) = results[(results["metric"] == "auroc") & (results["seed"] == -1)].itertuples()
    return row.low, row.high


def test_a_planted_signal_is_found(found):
    target, score = of_split(found)
    assert len(target) == 100 and roc_auc_score(target, score) > 0.9
    assert interval(found)[0] > 0.5
    rows = found.history.dropna(subset="validation/auroc")
    best = rows["validation/auroc"].max()
    assert best > 0.9 and rows.step.tolist() == [7 * n for n in range(1, len(rows) + 1)]
    # The best epoch's weights are those that predict.
    assert roc_auc_score(*of_split(found, "validation")) == pytest.approx(best)
    assert np.allclose(rows["validation/selection"], 1 - rows["validation/auroc"])


def test_permuted_labels_are_not_found(planted, tmp_path):
    labels = np.random.default_rng(5).permutation(planted.labels)
    shuffled = dataclasses.replace(planted, labels=labels)
    result = finetune(tiny_encoder(), shuffled, QUICK, tmp_path)
    # Three standard errors about chance.
    assert abs(roc_auc_score(*of_split(result)) - 0.5) < 3 * np.sqrt(1 / 12 * (1 / 50 + 1 / 50))
    low, high = interval(result)
    assert low < 0.5 < high


def test_the_saved_head_predicts_the_same_and_is_an_encoder_besides(found, planted):
    head = load_head(found.best)
    assert found.heads == (found.best,) and found.best.name == "head"
    assert (head.targets.classes, head.lead, head.preparation) == (("wide",), "II", None)
    assert (head.run["task"], head.run["options"]["epochs"], head.temperature) == (
        "width",
        8,
        (2.0,),
    )
    rows = planted.rows("test")
    outputs = head.forward(planted.x[rows][..., None]).embedding
    np.testing.assert_array_equal(head.scores(outputs)[:, 0], of_split(found)[1])
    np.testing.assert_allclose(head.scores(outputs), 1 / (1 + np.exp(-outputs / 2)), rtol=1e-6)
    encoder = load_encoder(found.best)
    jax.tree.map(np.testing.assert_array_equal, encoder.params, head.params["encoder"])
    assert encoder.fingerprint == encoder.meta["fingerprint"] != tiny_encoder().fingerprint
    assert patients_in(encoder.meta) is None  # As of the one that it started from.


def test_the_threshold_is_validations(found):
    head = load_head(found.best)
    target, score = of_split(found, "validation")
    assert head.thresholds == (youden_threshold(score, target),)
    positives = head.positives(np.array([[0.0], [head.thresholds[0]], [1.0], [np.nan]]))
    np.testing.assert_array_equal(positives[:, 0], [0, 1, 1, np.nan])


def test_where_validation_has_one_class_the_loss_chooses(planted, tmp_path):
    labels = np.where((planted.split == "validation")[:, None], 1.0, planted.labels)
    inputs = dataclasses.replace(planted, labels=labels)
    options = dataclasses.replace(QUICK, epochs=3)
    result = finetune(tiny_encoder(), inputs, options, tmp_path, temperature=lambda *_: 1.0)
    rows = result.history.dropna(subset="validation/loss")
    assert "validation/auroc" not in rows and len(rows) == 3
    np.testing.assert_array_equal(rows["validation/selection"], rows["validation/loss"])
    head = load_head(result.best)
    assert np.isnan(head.thresholds).all()
    target, score = of_split(result, "validation")
    # The epoch of the least loss is the one that predicts.
    assert log_loss(target, score, labels=[0, 1]) == pytest.approx(rows["validation/loss"].min())


def test_an_encoder_without_a_head_or_with_a_damaged_one_is_refused(found, weights, tmp_path):
    with pytest.raises(CheckpointError, match="holds no head.*clef-jax finetune"):
        load_head(weights)


def test_what_is_finished_is_not_done_again_and_another_is_refused(found, planted):
    folder = found.best.parent.parent
    before = (found.best / "SHA256SUMS").stat().st_mtime_ns
    again = finetune(tiny_encoder(), planted, QUICK, folder, temperature=lambda *_: 2.0)
    assert again.predictions.equals(found.predictions) and again.history.equals(found.history)
    assert (found.best / "SHA256SUMS").stat().st_mtime_ns == before
    assert not (found.best.parent / "checkpoints").exists()
    changed = dataclasses.replace(QUICK, weight_decay=0.5)
    expected = "another fine-tuning.*options.weight_decay was 0.01, now 0.5"
    with pytest.raises(FinetuneError, match=expected):
        finetune(tiny_encoder(), planted, changed, folder)
    with pytest.raises(FinetuneError, match="encoder was"):
        finetune(tiny_encoder(1), planted, QUICK, folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed",
    [
        {"mode": "frozen", "head": "attention", "learning_rate": 0.1, "epochs": 20},
        {"mode": "scratch", "head": "stages", "select_by": "loss"},
        {"augment": True, "sampling": "balanced", "loss": "focal", "dropout": 0.1},
    ],
)
def test_every_mode_finds_it(planted, tmp_path, changed):
    from clef_jax.data.noise.simulated import simulate_noise_bank

    noise = simulate_noise_bank(0, 60.0, 500.0) if "augment" in changed else None
    options = dataclasses.replace(QUICK, **changed)
    result = finetune(tiny_encoder(), planted, options, tmp_path, seeds=(0, 1), noise=noise)
    assert len(result.heads) == 2 and result.predictions.seed.nunique() == 2
    tested = result.predictions[result.predictions.split == "test"]
    aurocs = [roc_auc_score(rows.target, rows.score) for _, rows in tested.groupby("seed")]
    assert min(aurocs) > 0.8
    # Of trainings that get no patient wrong there is no interval.
    assert aurocs == [1, 1] or interval(result)[0] > 0.5
    encoder = load_head(result.best).params["encoder"]
    same = jax.tree.map(
        lambda a, b: np.array_equal(a, b), jax.device_get(encoder), tiny_encoder().params
    )
    assert all(jax.tree.leaves(same)) == (options.mode == "frozen")
    shown = patient_hashes(planted.patient[planted.split != "test"])
    seen = patients_in(load_encoder(result.best).meta)
    assert seen == (shown if options.mode == "scratch" else None)


@pytest.mark.slow
def test_classes_and_values_are_found_too(tmp_path):
    x, wide = beats(400)
    shown = np.where(np.arange(400) % 3, wide, 2.0)
    x[shown == 2] = np.random.default_rng(1).normal(size=(np.sum(shown == 2), x.shape[1]))
    inputs = inputs_of(x, shown, "multiclass", ("narrow", "wide", "noise"))
    result = finetune(tiny_encoder(), inputs, THOROUGH, tmp_path / "classes")
    rows = result.predictions[result.predictions.split == "test"]
    probability = rows.score.to_numpy().reshape(-1, 3)
    np.testing.assert_allclose(probability.sum(1), 1)
    assert log_loss(rows.target.to_numpy().reshape(-1, 3).argmax(1), probability) < 0.7
    x, wide = beats(400)
    for loss in ("absolute", "gaussian"):
        options = dataclasses.replace(THOROUGH, loss=loss)
        inputs = inputs_of(x, 60 + 30 * wide, "regression", ("rate",), unit="bpm")
        result = finetune(tiny_encoder(), inputs, options, tmp_path / loss)
        target, score = of_split(result)
        assert np.abs(score - target).mean() < 10  # 15 by the mean.
        assert load_head(result.best).targets.unit == "bpm"


def test_bad_inputs_are_refused_by_name(planted):
    x, labels = planted.x, planted.labels
    for changed, said in (
        ({"labels": labels * 2}, "0, 1 or NaN; found 2"),
        ({"labels": labels[:9]}, r"labels must be \[400, 1\] beside x, found \[9, 1\]"),
        ({"x": x[..., None]}, r"x must be \[N, T\], one lead"),
        ({"kind": "ordinal"}, "kind is 'ordinal'"),
        ({"split": np.full(400, "train")}, "no example of the validation split"),
        ({"split": np.where(planted.split == "test", "held", "train")}, "split is 'held'"),
        ({"example": np.repeat(planted.example[:200], 2)}, "200 examples are there twice"),
    ):
        with pytest.raises(FinetuneError, match=said):
            dataclasses.replace(planted, **changed)


def test_what_cannot_be_learnt_is_refused_before_training(planted, tmp_path):
    constant = inputs_of(planted.x, np.full(400, 3.0), "regression", ("age",))
    with pytest.raises(FinetuneError, match="target age: all training examples have the same"):
        finetune(tiny_encoder(), constant, QUICK, tmp_path)
    with pytest.raises(FinetuneError, match="no noise bank is given"):
        finetune(tiny_encoder(), planted, dataclasses.replace(QUICK, augment=True), tmp_path)
    longer = dataclasses.replace(planted, x=np.repeat(planted.x, 2, axis=1))
    with pytest.raises(FinetuneError, match="1000 samples long, but 500 by the encoder's own"):
        finetune(tiny_encoder(), longer, QUICK, tmp_path)
    several = inputs_of(planted.x, np.hstack([planted.labels] * 2), "multilabel", ("a", "b"))
    balanced = dataclasses.replace(QUICK, sampling="balanced")
    with pytest.raises(FinetuneError, match="sampling is 'balanced', but the task is multilabel"):
        finetune(tiny_encoder(), several, balanced, tmp_path)
