"""CLEF-medium: 30,587,632 parameters, 1,024-d embedding, the published recipe in bfloat16.

    python tools/pretrain.py --config configs/clef_medium.py --shards SHARDS --workdir RUN

Cost: 13.7 GFLOP a record and step; 100 epochs of MIMIC-IV-ECG's 161,352 patients are 221 PFLOP,
which a device that sustains 100 TFLOP/s does in 37 minutes.
"""

from ml_collections import ConfigDict

from configs import clef_small


def get_config() -> ConfigDict:
    config = clef_small.get_config()
    config.model = "clef_medium"
    config.dtype = "bfloat16"
    return config
