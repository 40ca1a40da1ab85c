"""What a grouped convolution is, as far as its algorithms depend on it."""

from typing import NamedTuple


class Layer(NamedTuple):
    """What the choice depends on: channels of one group's input, groups, stride and taps."""

    group_channels: int
    groups: int
    stride: int
    taps: int

    def __str__(self) -> str:
        return f"c{self.group_channels}x{self.groups} s{self.stride} k{self.taps}"


class Convolution(NamedTuple):
    """A grouped convolution of an encoder.

    Attributes:
        layer: What its algorithms depend on.
        samples: Input length T.
        width: Output channels.
    """

    layer: Layer
    samples: int
    width: int

    @property
    def outputs(self) -> int:
        """Output samples of one view."""
        return -(-self.samples // self.layer.stride)

    @property
    def multiplications(self) -> int:
        """Products of one view's forward pass."""
        return self.outputs * self.width * self.layer.taps * self.layer.group_channels
