"""The grouped layers that kernels are for."""

from clef_jax.models.resnext1d_config import SIZES

# Of ten seconds at 500 Hz, after the stem.
SAMPLES = 2500


def layers():
    """Each (channels of a group, groups, stride, samples) of the three sizes' grouped layers."""
    found = {}
    for config in SIZES:
        samples = SAMPLES
        for width, depth in zip(config.stage_widths, config.stage_blocks, strict=True):
            groups = width // config.group_width
            channels = int(width * config.ratio) // groups
            found[channels, groups, 2, samples] = None
            samples = -(-samples // 2)
            if depth > 1:
                found[channels, groups, 1, samples] = None
    return list(found)
