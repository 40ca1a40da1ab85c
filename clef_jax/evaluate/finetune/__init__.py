"""Fine-tuning an encoder for a task, on the step and loop of pretraining; and predicting."""

from clef_jax.evaluate.finetune.inputs import Inputs
from clef_jax.evaluate.finetune.options import FinetuneError, Options, reference_options
from clef_jax.evaluate.finetune.predict import predict_to_table
from clef_jax.evaluate.finetune.run import FinetuneResult, finetune
from clef_jax.evaluate.finetune.saved import TrainedHead, load_head

__all__ = [
    "FinetuneError",
    "FinetuneResult",
    "Inputs",
    "Options",
    "TrainedHead",
    "finetune",
    "load_head",
    "predict_to_table",
    "reference_options",
]
