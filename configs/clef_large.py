"""CLEF-large: 296,301,312 parameters, 2,048-d embedding, the published recipe in bfloat16.

    python tools/pretrain.py --config configs/clef_large.py --shards SHARDS --workdir RUN

Cost: 72.5 GFLOP a record and step, a third more with `remat`; 100 epochs of MIMIC-IV-ECG's 161,352
patients are 1.2 EFLOP, 3.2 hours of a device that sustains 100 TFLOP/s. Parameters, gradients and
AdamW's moments take 4.7 GB on every device; with `shard_state`, of D devices each holds one in D of
parameters and moments, 3.6 GB before.
"""

from ml_collections import ConfigDict

from configs import clef_small


def get_config() -> ConfigDict:
    config = clef_small.get_config()
    config.model = "clef_large"
    config.dtype = "bfloat16"
    config.remat = True
    return config
