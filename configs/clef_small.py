"""CLEF-small: 443,184 parameters, 256-d embedding, the published recipe.

    python tools/pretrain.py --config configs/clef_small.py --shards SHARDS --workdir RUN

Cost: 0.35 GFLOP a record and step (two views, forward and backward); 100 epochs of MIMIC-IV-ECG's
161,352 patients, one record each, are 16 million records and 5.7 PFLOP. Expected: the
loss starts near 0.3 at batch 64, as the weights of all negatives sum to less than one.
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.model = "clef_small"  # Or clef_medium, clef_large.
    config.dtype = "float32"  # Of the encoder's products, all 24 bits; or bfloat16 for speed.
    config.remat = False  # Recompute blocks in the backward pass to save memory.
    config.init = ""  # Encoder folder to start from instead of random weights.
    config.seed = 42  # Of weights, order of the records, augmentation.

    config.batch_size = 64  # Records in the global batch; two views each.
    config.epochs = 100  # Times that every patient (or record, with `all`) is seen.
    config.steps = 0  # If set, ends the run there instead of after `epochs`.
    config.records_per_patient = "first"  # Or random (one each epoch), or all.
    config.annotations = ""  # Tables with other risks or a split, with commas between them.
    config.validation_fraction = config_dict.placeholder(float)  # Unset, as annotated.
    config.noise = ""  # NSTDB folder or DATA_noises_real.mat; empty simulates noise.
    config.num_threads = 4  # Batches read at once.
    config.num_workers = 0  # Reading processes besides this one.

    config.objective = ConfigDict()
    config.objective.name = "clef"  # Or simclr.
    config.objective.preset = "released"  # Or paper.
    config.objective.temperature = 0.07  # Divides the cosine similarities.
    config.objective.floor = 0.2  # Dissimilarity of patients of equal risk.

    config.learning_rate = 1e-4  # At its greatest; of AdamW.
    config.weight_decay = 5e-4  # Of AdamW.
    config.schedule = "warm_restarts"  # Or warmup_cosine.
    config.warmup_steps = 1000  # Of warmup_cosine.
    config.clip_norm = config_dict.placeholder(float)  # Greatest gradient norm; unset, any.
    config.ema_decay = config_dict.placeholder(float)  # Of a moving average of the weights.

    config.log_steps = 50  # Steps from one row of metrics.jsonl to the next.
    config.eval_steps = 1000  # Steps from one validation to the next.
    config.checkpoint_steps = 1000  # Steps from one checkpoint to the next.
    config.keep_checkpoints = 3  # The latest; the best is kept besides.
    config.patience = 0  # Evaluations without a better loss before the run ends; 0 never.
    config.tensorboard = False  # Write event files too.
    return config
