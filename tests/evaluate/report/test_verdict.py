"""Verdicts: the best model, its bar, and words that claim no more than the statistics do."""

import pytest

from clef_jax.evaluate.report.answers import read_answers
from clef_jax.evaluate.report.verdict import Entry, judge
from tests.runs_of_evaluation import task, write_run


def verdict_on(folder, kind, models, patients=120, **arguments):
    tasks = {kind: task(kind, models=models, patients=patients, fractions=(1.0,), **arguments)}
    run = write_run(folder / "R", tasks, resamples=60, permutations=100)
    (answers,) = read_answers([str(run)])
    return judge(answers, len(answers.comparisons))


@pytest.mark.parametrize(
    ("kind", "models", "words"),
    [
        ("binary", (("a", "probe", 4.0), ("random a", "probe", 0.5)), "above its bar"),
        ("binary", (("a", "probe", 0.5), ("random a", "probe", 4.0)), "below its bar"),
        ("regression", (("a", "finetune", 4.0), ("a", "scratch", 0.1)), "better than its bar"),
        ("regression", (("a", "probe", 0.1), ("mean", "baseline", 4.0)), "worse than its bar"),
        ("binary", (("a", "probe", 1.0), ("b", "probe", 2.0)), "no bar was run"),
        ("binary", (("a", "finetune", 2.0), ("random a", "probe", 1.0)), "not compared with"),
    ],
)  # fmt: skip
def test_words_say_what_the_interval_and_the_test_say(tmp_path, kind, models, words):
    assert verdict_on(tmp_path, kind, models).words.startswith(words)


def test_a_bar_learned_from_the_same_share_of_the_patients(tmp_path):
    models = (("a", "finetune", 2.0), ("plain", "baseline", 1.0))
    predictions = task("binary", models=models, patients=120, fractions=(0.1, 1.0))
    whole = (predictions["model"] == "a") & (predictions["fraction"] == 1)
    run = write_run(tmp_path / "R", {"binary": predictions[~whole]}, resamples=20, permutations=20)
    (answers,) = read_answers([str(run)])
    verdict = judge(answers, len(answers.comparisons))
    assert verdict.score["fraction"] == verdict.bar_score["fraction"] == 0.1
    assert verdict.difference["fraction"] == 0.1


def test_twins_are_not_told_apart(tmp_path):
    verdict = verdict_on(tmp_path, "binary", (("a", "probe", 2.0), ("random a", "probe", 2.0)))
    low, high = verdict.difference["low"], verdict.difference["high"]
    assert low < 0 < high and verdict.words == "not to be told apart from its bar"


def test_bars_are_those_that_learned_nothing_before():
    bars = [
        ("random", "probe"),
        ("random clef_small", "frozen"),
        ("x", "scratch"),
        ("x", "baseline"),
    ]
    assert all(Entry(*entry).is_bar for entry in bars)
    others = [("randomised", "probe"), ("clef_small", "finetune"), ("clef_small", "frozen")]
    assert not any(Entry(*entry).is_bar for entry in others)


def test_flagged_labels_are_doubted(tmp_path):
    verdict = verdict_on(
        tmp_path, "multilabel", (("a", "probe", 3.0), ("random a", "probe", 1.0)), prevalence=0.02
    )
    assert any("labels are flagged for few" in doubt for doubt in verdict.doubts)
