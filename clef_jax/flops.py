"""Analytic arithmetic of the encoder, and what devices can do at their best."""

from clef_jax.models.registry import EncoderConfig


def forward_flops(config: EncoderConfig, samples: int) -> int:
    """Returns the operations of one view's forward pass, a multiply-add counted as two.

    Convolutions and linear maps only: everything else is below one per cent of them.
    """
    length = -(-samples // 2)
    total = length * config.kernel_size * config.in_channels * config.stem_width
    channels = config.stem_width
    for width, blocks in zip(config.stage_widths, config.stage_blocks, strict=True):
        middle = int(width * config.ratio)
        group = middle // (width // config.group_width)
        for block in range(blocks):
            total += length * channels * middle
            if block == 0:
                length = -(-length // 2)
            total += length * config.kernel_size * group * middle
            total += length * middle * width + width * width
            channels = width
    return 2 * total


def train_flops(config: EncoderConfig, samples: int) -> int:
    """Returns the operations of training on one record: two views, forward and twice backward."""
    return 6 * forward_flops(config, samples)


# Dense peak of one chip by the vendors' data sheets, FLOP/s. For float32, what float32 products
# compute at by default: TF32 on GPUs, three bfloat16 passes fewer on none.
_PEAKS = (
    ("H200", {"bfloat16": 989e12}),
    ("H100", {"bfloat16": 989e12}),
    ("A100", {"bfloat16": 312e12}),
    ("TPU v6", {"bfloat16": 918e12}),
    ("TPU v5p", {"bfloat16": 459e12}),
    ("TPU v5", {"bfloat16": 197e12}),
    ("TPU v4", {"bfloat16": 275e12}),
)


def peak_flops(device_kind: str, dtype: str) -> float | None:
    """Returns a device's peak rate, or None where it is not known (CPUs among them)."""
    for name, peaks in _PEAKS:
        if name.lower() in device_kind.lower():
            return peaks.get(dtype)
    return None
