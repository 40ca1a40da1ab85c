"""Analytic arithmetic and memory traffic of the encoder."""

from clef_jax.models.encoder_config import EncoderConfig, LayerCost

# A training record is two views, each forward, and backward for inputs and for weights.
_VIEWS, _PASSES = 2, 3
# Bytes a step moves for each parameter, in float32: read forward and backward, gradient written;
# AdamW reads gradient, parameter and two moments and writes the last three.
_STEP_BYTES_PER_PARAMETER = 4 * (2 + 1 + 4 + 3)


def forward_flops(config: EncoderConfig, samples: int) -> int:
    """Returns the operations of one view's forward pass, a multiply-add counted as two.

    Convolutions and linear maps only: everything else is below one per cent of them.
    """
    return sum(layer.flops for layer in config.layer_costs(samples))


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
    layers = config.layer_costs(samples)
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
        for layer in config.layer_costs(samples)
    )


def mfu(config: EncoderConfig, samples: int, *, records_per_s: float, flops_per_s: float) -> float:
    """Returns the share of `flops_per_s` that training at `records_per_s` needs.

    Recomputed activations and arithmetic that an algorithm adds do not count as use.
    """
    return records_per_s * train_flops(config, samples) / flops_per_s
