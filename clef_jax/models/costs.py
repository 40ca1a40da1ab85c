"""Analytic arithmetic and memory traffic of the encoder."""

import dataclasses
from collections.abc import Iterator

from clef_jax.models.registry import EncoderConfig

# A training record is two views, each forward, and backward for inputs and for weights.
_VIEWS, _PASSES = 2, 3
# Bytes a step moves for each parameter, in float32: read forward and backward, gradient written;
# AdamW reads gradient, parameter and two moments and writes the last three.
_STEP_BYTES_PER_PARAMETER = 4 * (2 + 1 + 4 + 3)


@dataclasses.dataclass(frozen=True)
class LayerCost:
    """What the forward pass of one layer costs for one view.

    Attributes:
        name: `stem`, or the block's and the layer's, as in the parameters.
        flops: Operations, a multiply-add counted as two.
        elements: Activations read and written.
        parameters: Weights and biases.
    """

    name: str
    flops: int
    elements: int
    parameters: int


def layer_costs(config: EncoderConfig, samples: int) -> Iterator[LayerCost]:
    """Yields the convolutions and linear maps of the encoder for one view of `samples`.

    Activation functions, biases and pooling are counted with their layer's output, as if fused:
    what remains is each operand once. Squeeze-excite reads its input twice, as its scale depends
    on all of it.
    """
    length = -(-samples // 2)
    taps, stem = config.kernel_size, config.stem_width

    def dense(name: str, length: int, inputs: int, outputs: int) -> LayerCost:
        moved = length * (inputs + outputs)
        return LayerCost(name, 2 * length * inputs * outputs, moved, (inputs + 1) * outputs)

    yield LayerCost(
        "stem",
        2 * length * taps * config.in_channels * stem,
        samples * config.in_channels + length * stem,
        (taps * config.in_channels + 1) * stem,
    )
    channels = stem
    for stage, (width, blocks) in enumerate(
        zip(config.stage_widths, config.stage_blocks, strict=True)
    ):
        middle = int(width * config.ratio)
        per_group = middle // (width // config.group_width)
        for block in range(blocks):
            name = f"stage{stage}_block{block}"
            yield dense(f"{name}/conv1", length, channels, middle)
            before, length = length, -(-length // 2) if block == 0 else length
            yield LayerCost(
                f"{name}/conv2",
                2 * length * taps * per_group * middle,
                (before + length) * middle,
                (taps * per_group + 1) * middle,
            )
            yield dense(f"{name}/conv3", length, middle, width)
            yield dense(f"{name}/se_fc1", 1, width, width // 2)
            yield dense(f"{name}/se_fc2", 1, width // 2, width)
            yield LayerCost(f"{name}/sum", 0, before * channels + 3 * length * width, 0)
            channels = width


def forward_flops(config: EncoderConfig, samples: int) -> int:
    """Returns the operations of one view's forward pass, a multiply-add counted as two.

    Convolutions and linear maps only: everything else is below one per cent of them.
    """
    return sum(layer.flops for layer in layer_costs(config, samples))


def train_flops(config: EncoderConfig, samples: int) -> int:
    """Returns the operations of training on one record: two views, forward and twice backward."""
    return _VIEWS * _PASSES * forward_flops(config, samples)


def train_bytes(config: EncoderConfig, samples: int, batch_size: int, itemsize: int) -> int:
    """Returns the least memory traffic of one training step, in bytes.

    Args:
        config: The encoder.
        samples: Samples of a view.
        batch_size: Records on one device.
        itemsize: Bytes of an activation: 4 for float32, 2 for bfloat16.
    """
    layers = layer_costs(config, samples)
    return sum(_train_bytes_of(layer, batch_size, itemsize) for layer in layers)


def _train_bytes_of(layer: LayerCost, batch_size: int, itemsize: int) -> int:
    activations = _VIEWS * batch_size * _PASSES * layer.elements * itemsize
    return activations + _STEP_BYTES_PER_PARAMETER * layer.parameters


def roofline_seconds(
    config: EncoderConfig,
    samples: int,
    batch_size: int,
    itemsize: int,
    *,
    flops_per_s: float,
    bytes_per_s: float,
) -> float:
    """Returns the least duration of a training step on a device with these two ceilings.

    Every layer is bound by arithmetic or by memory, whichever takes longer; layers follow each
    other. Arguments are those of `train_bytes`.
    """
    return sum(
        max(
            _VIEWS * batch_size * _PASSES * layer.flops / flops_per_s,
            _train_bytes_of(layer, batch_size, itemsize) / bytes_per_s,
        )
        for layer in layer_costs(config, samples)
    )


def mfu(config: EncoderConfig, samples: int, *, records_per_s: float, flops_per_s: float) -> float:
    """Returns the share of `flops_per_s` that training at `records_per_s` needs.

    Recomputed activations and arithmetic that an algorithm adds do not count as use.
    """
    return records_per_s * train_flops(config, samples) / flops_per_s
