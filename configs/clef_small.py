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
    config.rows_at_once = 0  # Records that a device encodes at once, to save memory; 0, all.
    config.tune = True  # On a GPU or TPU, measure once how to convolve there: two minutes at most.
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

    config.method = ConfigDict()
    config.method.name = "clef"  # Or simclr. Options that are unset are the preset's.
    config.method.preset = config_dict.placeholder(str)  # Of clef: released (its default) or paper.
    config.method.temperature = config_dict.placeholder(float)  # Divides the cosine similarities.
    config.method.floor = config_dict.placeholder(float)  # Dissimilarity of patients of equal risk.
    config.method.weighting = config_dict.placeholder(str)  # Of negatives: softmax or direct.
    config.method.completeness_weighting = config_dict.placeholder(bool)  # By c_i c_k as well.
    config.method.unknown_risk = config_dict.placeholder(str)  # Is zero, or the batch's mean.
    config.method.combine = config_dict.placeholder(str)  # The two parts: mean or sum.

    config.learning_rate = 1e-4  # At its greatest; of AdamW.
    config.weight_decay = 5e-4  # Of AdamW.
    config.schedule = "warm_restarts"  # Or warmup_cosine.
    config.warmup_steps = 1000  # Of warmup_cosine.
    config.clip_norm = config_dict.placeholder(float)  # Greatest gradient norm; unset, any.
    config.ema_decay = config_dict.placeholder(float)  # Of a moving average of the weights.
    config.shard_state = False  # Each device holds a part of weights and moments, to save memory.

    config.log_steps = 50  # Steps from one row of metrics.jsonl to the next.
    config.checkpoint_steps = 1000  # Steps from one checkpoint to the next.
    config.keep_checkpoints = 3  # The latest; the best is kept besides.
    config.patience = 0  # Evaluations without a better loss before the run ends; 0 never.
    config.tensorboard = False  # Write event files too.
    config.profile = ""  # START:STOP, steps whose trace goes to RUN/profile, without STOP.

    # Steps from one evaluation to the next, and at the end; 0, at the end only; -1, never.
    config.evaluators = ConfigDict()
    config.evaluators.validation = 1000  # Loss of the validation patients; ranks checkpoints.
    config.evaluators.probe = -1  # What a linear map reads of them: age, risk; effective rank.
    config.evaluators.map = 0  # Picture of their embeddings, plots/embedding_map.png.
    return config
