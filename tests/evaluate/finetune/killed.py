"""A fine-tuning in a process of its own, for tests that kill it: `-m … FOLDER`."""

import sys

from tests.evaluate.finetune.cohort import LONG, beats, inputs_of, tiny_encoder


def fine_tune(folder, options):
    from clef_jax.evaluate.finetune import finetune

    return finetune(tiny_encoder(), inputs_of(*beats(160)), options, folder, seeds=(3,))


if __name__ == "__main__":
    fine_tune(sys.argv[1], LONG)
