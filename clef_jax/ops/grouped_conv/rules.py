"""Which algorithm suits a layer on a platform, by reasoning and by what compilers were seen to do.

Where nothing is shown to beat it, a pass is XLA's own (`native`).
"""

from clef_jax.ops.grouped_conv.layers import Layer
from clef_jax.ops.grouped_conv.passes import Passes

PLAIN = Passes.parse("native")
# A table and most rules hold for training's batches, not for the few outputs of a single view,
# where work that depends on the kernel alone is not worth while.
FEW = 256


def rule(platform: str, layer: Layer, outputs: int, *, kernels: bool = False) -> Passes:
    """Returns the algorithms of a layer.

    Args:
        platform: As `lax.platform_dependent` names it: cpu, tpu, cuda, rocm.
        layer: The layer.
        outputs: Number of output samples over the whole batch.
        kernels: Whether our own kernels take the arrays (`kernels.suits`).
    """
    if platform == "cpu":
        return _cpu(layer, outputs)
    if platform == "tpu":
        return Passes.parse("kernel") if kernels else _tpu(layer)
    return _gpu(layer)


def _cpu(layer: Layer, outputs: int) -> Passes:
    if layer.groups == 1:
        # Dense: XLA's own passes are good, but the input gradient of a strided one, which the stem
        # does not need, convolves zeros.
        return Passes.parse("native", "conv:1" if layer.stride > 1 else "native", "native")
    if layer.group_channels >= 16 and outputs >= FEW:
        # Enough channels that the products outweigh the transforms.
        return Passes.parse("fourier:24")
    # XLA unfolds the windows of a grouped convolution slowly, once for every so many outputs as a
    # group has channels: fewer windows of more channels pay until a group has 32.
    block = max(1, 32 // (layer.group_channels * layer.stride))
    return Passes.parse(f"conv:{block}")


def _tpu(layer: Layer) -> Passes:
    if layer.groups == 1:
        return PLAIN
    if layer.group_channels < 16:
        return Passes.parse("conv:8" if layer.stride == 1 else "conv:4")
    if layer.stride > 1:
        return Passes.parse("native", "conv:1", "conv:1")
    return Passes.parse("conv:4" if layer.group_channels < 32 else "native")


def _gpu(layer: Layer) -> Passes:
    if layer.groups > 1 and layer.group_channels < 16:
        return Passes.parse("pack")
    return PLAIN
