import numpy as np

from clef_jax.evaluate.learned.tasks import TASKS

COLUMNS = {
    "age": np.float32([40, np.nan, 61]),
    "male": np.float32([1, 0, np.nan]),
    "risk": np.float32([5, 0, np.nan]),
}
ANSWERS = {
    "age": [40, np.nan, 61],
    "sex": [1, 0, np.nan],
    "risk": [1.6094379, -np.inf, np.nan],  # A risk of 0 has no logarithm: unknown.
}


def test_tasks_ask_what_they_are_called():
    tasks = {task.name: task for task in TASKS}
    assert len(tasks) == len(TASKS)
    for name, answers in ANSWERS.items():
        task = tasks[name]
        target = task.target({column: COLUMNS[column] for column in task.columns})
        assert target.dtype == np.float64
        np.testing.assert_allclose(target, answers)
