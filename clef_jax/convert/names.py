"""The original's parameter names and shapes, and which of ours each one is."""

import re
from collections.abc import Iterator

from clef_jax.models import ResNeXt1DConfig

# Keys beside the encoder that the original's other training methods store: why each may be ignored.
IGNORED_RULES = {
    "momentum encoder of MoCo": re.compile(r"backbone_k\."),
    "target encoder of BYOL": re.compile(r"backbone_target\."),
    "negatives queue of MoCo": re.compile(r"(queue|queue_ptr)$"),
    "predictor of BYOL": re.compile(r"predictor\."),
}
BATCH_NORM_RULE = "BatchNorm entry, which the encoder never uses"
BATCH_NORM_INITIAL = {
    "weight": 1.0,
    "bias": 0.0,
    "running_mean": 0.0,
    "running_var": 1.0,
    "num_batches_tracked": 0,
}
STEM_WEIGHT = "first_conv.conv.weight"
HEAD_WEIGHT, HEAD_BIAS = "dense.weight", "dense.bias"


def _layers(config: ResNeXt1DConfig) -> Iterator[tuple[str, tuple[str, ...], tuple[int, ...]]]:
    """Yields the torch name, our path and the torch weight shape of every layer that is used."""
    taps, channels = config.kernel_size, config.stem_width
    yield "first_conv.conv", ("stem",), (channels, config.in_channels, taps)
    for stage, (width, blocks) in enumerate(
        zip(config.stage_widths, config.stage_blocks, strict=True)
    ):
        middle = int(width * config.ratio)
        groups = width // config.group_width
        for block in range(blocks):
            torch_block = f"stage_list.{stage}.block_list.{block}"
            ours = f"stage{stage}_block{block}"
            for name, shape in (
                ("conv1.conv", (middle, channels, 1)),
                ("conv2.conv", (middle, middle // groups, taps)),
                ("conv3.conv", (width, middle, 1)),
                ("se_fc1", (width // 2, width)),
                ("se_fc2", (width, width // 2)),
            ):
                yield f"{torch_block}.{name}", (ours, name.split(".")[0]), shape
            channels = width


def used_parameters(config: ResNeXt1DConfig) -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
    """Returns torch name -> (path in our params, torch shape) of every parameter that is used."""
    table = {}
    for name, path, shape in _layers(config):
        table[f"{name}.weight"] = ((*path, "kernel"), shape)
        table[f"{name}.bias"] = ((*path, "bias"), shape[:1])
    return table


def batch_norm_entries(config: ResNeXt1DConfig) -> dict[str, tuple[int, ...]]:
    """Returns torch name -> shape of every BatchNorm entry: present in files, never used."""
    norms = {"first_bn": config.stem_width}
    channels = config.stem_width
    for stage, (width, blocks) in enumerate(
        zip(config.stage_widths, config.stage_blocks, strict=True)
    ):
        middle = int(width * config.ratio)
        for block in range(blocks):
            torch_block = f"stage_list.{stage}.block_list.{block}"
            norms |= {f"{torch_block}.bn1": channels}
            norms |= {f"{torch_block}.bn2": middle, f"{torch_block}.bn3": middle}
            channels = width
    return {
        f"{norm}.{entry}": () if entry == "num_batches_tracked" else (features,)
        for norm, features in norms.items()
        for entry in BATCH_NORM_INITIAL
    }
