"""The evaluators by name. A new one is a module with a function that makes it, and a line here."""

import dataclasses

from clef_jax.train.evaluators.embedded import make_map, make_probe
from clef_jax.train.evaluators.evaluator import AT_THE_END, Kind
from clef_jax.train.evaluators.validation import make_validation

# In the order in which they are asked: the loss comes first, as it may end the run, at which the
# others are due. All releases had a period for it.
EVALUATORS = {
    "validation": Kind(make_validation, before=dataclasses.MISSING),
    "probe": Kind(make_probe),
    "map": Kind(make_map, before=AT_THE_END),
}
