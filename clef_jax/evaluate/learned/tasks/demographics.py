"""Age and sex: what an ECG tells of anybody."""

import numpy as np

from clef_jax.evaluate.learned.tasks.task import Task

AGE = Task("age", "Age", "R²", ("age",), lambda columns: columns["age"].astype(np.float64))
SEX = Task("sex", "Sex", "AUC", ("male",), lambda columns: columns["male"].astype(np.float64))
