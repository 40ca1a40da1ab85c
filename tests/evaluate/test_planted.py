"""A signal that is there is found in every mode, and one that is not in none.

Labels are whether the T wave is inverted, mistaken for a few. Whether they are found is told by the
95 % interval of the AUROC, as a report tells it.
"""

import pandas as pd
import pytest

from clef_jax.evaluate.asking.encoders import contestants
from clef_jax.evaluate.asking.run import Choices, evaluate
from tests.evaluate.cohorts import info, planted, task, write_cohort

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Folder of 300 patients, a fifth of them tested, and their table."""
    folder = tmp_path_factory.mktemp("cohort")
    return folder, write_cohort(folder, patients=300)


@pytest.mark.parametrize("mode", ["probe", "frozen", "finetune"])
def test_the_interval_excludes_chance_for_planted_labels_alone(cohort, weights, tmp_path, mode):
    labels = {
        "planted": planted(*cohort),
        "permuted": planted(*cohort, permuted=True),
    }
    tasks = [task(examples, info(name=name)) for name, examples in labels.items()]
    choices = Choices(mode=mode, leads=("II",), seeds=2, workers=0)
    summary = evaluate(tasks, "", contestants([weights], seeds=1), choices, tmp_path / "R")
    assert not summary.not_run
    results = pd.read_parquet(tmp_path / "R" / "results.parquet")
    of_test = results[(results["metric"] == "auroc") & (results["seed"] == -1)]
    rows = of_test[of_test["mode"] == mode].set_index("task")
    assert rows["n"].eq(60).all()
    assert rows.loc["planted", "low"] > 0.5
    assert rows.loc["permuted", "low"] < 0.5 < rows.loc["permuted", "high"]
    # Nor do those who see no more than the rate find either.
    of_rate = of_test[of_test["model"] == "heart rate"].set_index("task")
    assert (of_rate["low"] < 0.5).all() and set(of_rate.index) == set(labels)
