"""Shape of one residual block, and how its kernels part it into tiles of 128 views and chunks."""

import dataclasses
import math

LANES = 128
# Outputs computed by one product with the taps.
UNIT = 8
# Outputs computed by straight-line code: enough that one product fills another's wait.
SPAN = 4 * UNIT
# Rows of a bfloat16 register; channels of narrower groups share one, block-diagonally.
ROWS = 16
_CHUNK_BYTES = 2 * 2**20


@dataclasses.dataclass(frozen=True)
class Geometry:
    """One block's shape.

    Attributes:
        views: Rows N of the batch.
        samples: Length T of the input.
        channels: Channels C of the input.
        middle: Channels between the 1x1 convolutions.
        width: Channels of the output.
        groups: Groups of the convolution over time.
        taps: Its length K.
        stride: Its stride, 1 or 2.
        activate: Whether the input goes through the activation first.
    """

    views: int
    samples: int
    channels: int
    middle: int
    width: int
    groups: int
    taps: int
    stride: int
    activate: bool

    @property
    def outputs(self) -> int:
        """Length of the output."""
        return -(-self.samples // self.stride)

    @property
    def before(self) -> int:
        """Zeros before the first sample, by XLA's SAME padding."""
        return max(0, (self.outputs - 1) * self.stride + self.taps - self.samples) // 2

    @property
    def wide(self) -> int:
        """Channels that the convolution over time mixes at once: a group, or several narrow."""
        return max(self.middle // self.groups, ROWS)

    @property
    def packs(self) -> int:
        """How many times `wide` channels there are."""
        return self.middle // self.wide

    @property
    def chunks(self) -> int:
        """Parts of time that are loaded one after another."""
        row = max(self.channels * self.stride, self.width) * LANES * 2
        spans = -(-self.outputs // SPAN)
        return -(-spans // max(1, _CHUNK_BYTES // (row * SPAN)))

    @property
    def chunk(self) -> int:
        """Outputs of a chunk."""
        return SPAN * -(-self.outputs // (SPAN * self.chunks))

    @property
    def chunk_samples(self) -> int:
        """Input samples of a chunk."""
        return self.chunk * self.stride

    @property
    def window(self) -> int:
        """Samples that a unit of outputs depends on."""
        return (UNIT - 1) * self.stride + self.taps

    @property
    def reached(self) -> range:
        """Outputs that a unit of samples contributes to, counted from the unit's first output."""
        first = -((self.taps - 1 - self.before) // self.stride)
        return range(first, (UNIT * self.stride - 1 + self.before) // self.stride + 1)

    @property
    def earlier(self) -> int:
        """How many of them are before the unit."""
        return -self.reached.start

    @property
    def later(self) -> int:
        """How many of them are after the unit."""
        return self.reached.stop - UNIT

    @property
    def offset(self) -> int:
        """Channels of zeros before those of the shortcut."""
        return (self.width - self.channels) // 2

    def together(self, channels: int) -> int:
        """Returns how many samples of so many channels share one 128-deep product."""
        return 2 ** int(math.log2(min(UNIT, max(1, LANES // channels))))

    @property
    def vmem_bytes(self) -> int:
        """About what a kernel keeps in a core's fast memory, in bfloat16: the one with more."""
        x, y = self.chunk_samples * self.channels, self.chunk * self.width
        recent = (self.before + 2 * self.chunk_samples) * self.middle
        # What a step moves is there twice.
        forward = self.chunks * self.chunk * (self.width + self.channels) + 2 * x + 2 * y
        backward = self.chunks * (self.chunk_samples + self.chunk) * self.middle + 4 * x + 3 * y
        taps = UNIT * self.window * self.wide * self.middle
        maps = self.middle * (
            self.channels * self.together(self.channels) ** 2
            + self.width * self.together(self.width) ** 2
        )
        # Each array of weights twice, as the next tile's are prefetched, and float32 gradients.
        weights = (taps + maps + self.width**2) * (2 * 2 * 2 + 2 * 4)
        return (recent + max(forward, backward)) * LANES * 2 + weights

    @property
    def vmem_limit(self) -> int:
        """What the compiler may use: a third more, for what it keeps for itself."""
        return self.vmem_bytes * 4 // 3
