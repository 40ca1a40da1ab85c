"""How a pass is cut into products: outputs in blocks, each a Toeplitz matrix times its window.

A block of outputs that follow each other sees one window of the input. With the taps laid out as a
Toeplitz matrix, the block is that matrix times the window: a product as high and as deep as a
matrix unit wants, however few channels a group has. A stride is a shift between the matrix's rows,
so that no pass multiplies the zeros which a strided convolution's input gradient is padded with.
"""

import dataclasses
from collections.abc import Callable

from clef_jax.ops.grouped_conv.folding import Geometry

# Of a matrix unit: the depth of one product, and the rows that one instruction feeds into it.
_DEPTH = 128
_ROWS = 16
# Setting a window into the unit takes about as long as feeding so many rows (v5e's schedules).
_SETTING = 32
# More outputs than that are never better at 16 taps.
_MOST = 16


@dataclasses.dataclass(frozen=True)
class Blocks:
    """The windows of one pass, and where its matrix has its taps. Samples are those of its input.

    Block i's window is the `reach` samples from `i * span - before` on. Row o of the matrix makes
    the block's output o: from sample `shifts[o]` of the window on it has the taps of its phase,
    `phases[o % len(phases)]`.

    Attributes:
        outputs: Outputs of one block.
        span: Samples from one window's start to the next one's.
        reach: Samples of a window.
        before: Samples by which the first window precedes the input.
        phases: Taps of the rows, as numbers of the kernel's taps in the order of the window.
        shifts: Where the rows' taps start.
    """

    outputs: int
    span: int
    reach: int
    before: int
    phases: tuple[range, ...]
    shifts: tuple[int, ...]


def forward_blocks(samples: int, taps: int, stride: int, block: int) -> Blocks:
    """Returns the blocks of a convolution of `samples` with SAME padding, of `block` outputs."""
    return Blocks(
        outputs=block,
        span=block * stride,
        reach=(block - 1) * stride + taps,
        before=Geometry(samples, taps, stride, groups=1, block=1).padding[0],
        phases=(range(taps),),
        shifts=tuple(stride * o for o in range(block)),
    )


def input_gradient_blocks(samples: int, taps: int, stride: int, block: int) -> Blocks:
    """Returns the blocks of that convolution's input gradient, of `block * stride` outputs.

    Its input is the cotangent dy, and output s is the sum of `dy[t] kernel[k]` over all t and k
    with `s + padding == t * stride + k`: every stride-th tap, the later ones with the earlier t.
    `taps` are no fewer than `stride`.
    """
    padding = Geometry(samples, taps, stride, groups=1, block=1).padding[0]
    phases = tuple(range((s + padding) % stride, taps, stride)[::-1] for s in range(stride))
    firsts = [(s + padding - phase[0]) // stride for s, phase in enumerate(phases)]
    before = -min(firsts)
    shifts = tuple(firsts[o % stride] + before + o // stride for o in range(block * stride))
    return Blocks(
        outputs=block * stride,
        span=block,
        reach=max(shift + len(phases[o % stride]) for o, shift in enumerate(shifts)),
        before=before,
        phases=phases,
        shifts=shifts,
    )


def cheapest(make: Callable[[int], Blocks], outputs: int, channels: int) -> Blocks:
    """Returns the blocks of `make(block)` that keep a matrix unit busy for the shortest time.

    Longer blocks multiply more of the matrix's zeros, shorter ones set more windows.

    Args:
        make: Blocks by the length that is to be chosen.
        outputs: Outputs over all blocks.
        channels: Channels that go into one product, and come out of it.
    """

    def time(blocks: Blocks) -> int:
        windows = -(-blocks.reach * channels // _DEPTH)
        rows = -(-blocks.outputs * channels // _ROWS) * _ROWS
        return -(-outputs // blocks.outputs) * windows * (rows + _SETTING)

    return min(map(make, range(1, _MOST + 1)), key=time)
