"""Which algorithm computes which pass of which layer: a measured table, and a rule beside it."""

from typing import NamedTuple

from clef_jax.ops.grouped_conv.passes import Algorithm
from clef_jax.ops.grouped_conv.table import TABLE


class Layer(NamedTuple):
    """What the choice depends on: channels of one group's input, groups, stride and taps."""

    group_channels: int
    groups: int
    stride: int
    taps: int

    def __str__(self) -> str:
        return f"c{self.group_channels}x{self.groups} s{self.stride} k{self.taps}"


class Passes(NamedTuple):
    """The algorithms of a layer's three passes."""

    forward: Algorithm
    input_gradient: Algorithm
    kernel_gradient: Algorithm


# A table is measured at training's batches. It does not hold for the few outputs of a single view,
# where work that depends on the kernel alone is not worth while.
_FEW = 256


def choose(backend: str, dtype: str, layer: Layer, outputs: int) -> Passes:
    """Returns the table's algorithms for a layer, or the rule's where it has no entry.

    Args:
        backend: As `jax.default_backend()`: cpu, gpu, tpu.
        dtype: Name of the type computed in.
        layer: The layer.
        outputs: Number of output samples over the whole batch; few follow the rule.
    """
    entry = TABLE.get(backend, {}).get(dtype, {}).get(str(layer))
    if entry is None or outputs < _FEW:
        return rule(backend, layer, outputs)
    return Passes(*map(Algorithm.parse, entry))


def rule(backend: str, layer: Layer, outputs: int) -> Passes:
    """Returns algorithms that suit a kind of hardware, by reasoning rather than measurement.

    Arguments are those of `choose`.
    """
    native = Algorithm("native")
    if layer.groups == 1:
        # Dense: XLA's own passes are good, but the input gradient of a strided one, which the stem
        # does not need, convolves zeros on CPU.
        strided = backend == "cpu" and layer.stride > 1
        return Passes(native, Algorithm("conv") if strided else native, native)
    if backend == "cpu" and layer.group_channels >= 16 and outputs >= _FEW:
        # Enough channels that the products outweigh the transforms.
        return Passes(*[Algorithm("fourier", 24)] * 3)
    if backend == "cpu":
        # XLA unfolds the windows of a grouped convolution slowly, once for every so many outputs
        # as a group has channels: fewer windows of more channels pay until a group has 32.
        block = max(1, 32 // (layer.group_channels * layer.stride))
        return Passes(*[Algorithm("conv", block)] * 3)
    # One matrix product a group runs at the speed of ordinary products on matrix units, where
    # narrow grouped convolutions, and their weight gradients above all, do not. Blocks of 8 outputs
    # copy the input 2.9 times and spend 1.4 times the arithmetic; shorter ones copy more, longer
    # ones compute more. Groups so narrow that 8 do not fill 128 lanes take 16.
    block = 8 if 8 * layer.group_channels >= 128 else 16
    return Passes(*[Algorithm("matmul", block)] * 3)
