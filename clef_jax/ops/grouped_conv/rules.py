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
    """Returns what suits XLA on TPU, where our own kernels do not take the arrays.

    By the schedules that libtpu compiles for v5e in bfloat16, 128 views (of narrow layers 512), ms
    by the compiler of forward / input gradient / kernel gradient:

        c4x8 s1, T 313     native .075 .075 .233   conv:8 .056 .056 .064   pack   .115 .115 .102
        c4x4 s2, T 2500    native .173 .502 .516   conv:4 .154 .156 .159   conv:1 .296 .171 .420
        c16x10 s1, T 313   native .072 .078 .120   conv:4 .076 .063 .070   pack   .092 .092 .110
        c16x10 s2, T 313   native .020 .073 .061   conv:2 .054 .050 .050   conv:1 .040 .043 .053
        c16x25 s1, T 157   native   –  .065 .153   conv:4   –  .094 .095
        c16x64 s1, T 40    native .059 .085 .148   conv:4 .086 .087 .100
        c48x16 s1, T 79    native   –  .107 .177   conv:2   –  .200 .140
        c48x32 s1, T 20    native   –  .116 .101   conv:2   –  .150 .109
        c48x16 s2, T 157   native   –  .225 .186   conv:1   –  .166 .154

    A whole block of 160 channels, forwards and backwards, takes .370 by plain convolutions, .286
    folded in all passes, and .329 where the kernel gradient alone is folded.
    """
    if layer.groups == 1:
        return PLAIN
    channels = layer.group_channels * layer.stride
    if layer.group_channels < 16:
        # The matrix unit is fed windows, and there are fewer of them the more a window holds.
        return Passes.parse(f"conv:{-(-32 // channels)}")
    folded = f"conv:{-(-64 // channels)}"
    if layer.stride > 1:
        # The plain input gradient convolves the zeros between outputs.
        return Passes.parse("native", "conv:1", folded)
    if layer.group_channels * layer.groups <= 160:
        return Passes.parse(folded)
    return Passes.parse("native", "native", folded)


def _gpu(layer: Layer) -> Passes:
    """Returns what suits XLA on GPUs.

    By what XLA compiles for H100 in bfloat16, each kernel taken to run at the ceilings measured of
    memory and of arithmetic (2.37 TB/s, 748 TFLOP/s), modelled ms of forward / input gradient /
    kernel gradient:

        c4x8 s1, T 313, 2048 views    native .08 .08 .18   pack .08 .08 .18
        c4x8 s2, T 625, 2048 views    native   – .13 .27   pack   – .13 .27   conv:1 – .17 .27
        c16x10 s2, T 313, 512 views   native   – .08 .17   pack   – .13 .17   conv:1 – .11 .17
        c16x25 s1, T 157, 512 views   native .12 .12 .28   pack .18 .17 .28
        c48x16 s2, T 157, 128 views   native   – .06 .11   pack   – .09 .11   conv:1 – .07 .11

    Packed groups of 4 cost no more and have dense kernels, with a true backward one, in the place
    of grouped ones: the step of clef_small at 1,024 records is modelled at 15.5 ms packed and 16.0
    plain, of clef_medium at 256 at 28.0 and 26.4.
    """
    if layer.groups > 1 and layer.group_channels < 16:
        return Passes.parse("pack")
    return PLAIN
