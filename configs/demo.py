"""The demo: CLEF-small for a few hundred steps on a small cohort, minutes on two CPU cores.

python tools/pretrain.py --config configs/demo.py --shards demo/shards --workdir demo/run
"""

from ml_collections import ConfigDict

from configs import clef_small


def get_config() -> ConfigDict:
    config = clef_small.get_config()
    config.steps = 120
    config.batch_size = 64
    config.records_per_patient = "random"
    # A few hundred steps need a higher rate than a hundred epochs, and no restarts.
    config.learning_rate = 1e-3
    config.schedule = "warmup_cosine"
    config.warmup_steps = 20
    config.clip_norm = 1.0
    config.log_steps = 10
    config.checkpoint_steps = 60
    config.evaluators.validation = 60
    return config
