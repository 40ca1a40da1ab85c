"""Downstream tasks, in the order in which reports answer them.

Another task is a file beside these and a line here.
"""

from clef_jax.evaluate.learned.tasks.demographics import AGE, SEX
from clef_jax.evaluate.learned.tasks.risk import LOG_RISK
from clef_jax.evaluate.learned.tasks.task import Task

TASKS = (
    AGE,
    SEX,
    LOG_RISK,
)

__all__ = ["TASKS", "Task"]
