"""Which inputs and outputs of a convolution meet in the products of its kernel's gradient.

Time is cut into blocks of `SPAN` inputs. One product pairs a block's inputs, as columns, with all
outputs that see any of them, as rows; pairs that are equally far apart are of the same tap.
"""

import dataclasses
from typing import Any

SPAN = 8
# Blocks of a step, whose products are summed before memory sees them: a v5e has four matrix units.
STEP = 4


@dataclasses.dataclass(frozen=True)
class Pairing:
    """The pairs of a SAME convolution.

    Attributes:
        samples: Inputs.
        taps: Taps K, no fewer than `stride`.
        stride: Step between outputs, in samples; divides `SPAN`.
        padding: Zeros before the inputs.
    """

    samples: int
    taps: int
    stride: int
    padding: int

    @property
    def outputs(self) -> int:
        """Outputs, `ceil(samples / stride)`."""
        return -(-self.samples // self.stride)

    @property
    def steps(self) -> int:
        """Steps, of which the last may go beyond the inputs."""
        return -(-self.samples // (STEP * SPAN))

    def first_row(self, block: Any) -> Any:
        """Returns the output of a block's first row, which may be before or beyond all outputs."""
        return block * (SPAN // self.stride) - (self.taps - 1 - self.padding) // self.stride

    @property
    def rows(self) -> int:
        """Outputs that see a block."""
        return (SPAN - 1 + self.padding) // self.stride - self.first_row(0) + 1

    def tap(self, row: int) -> int:
        """Returns the tap of a row and a block's first input, which may be no tap of the kernel."""
        return self.padding - (self.first_row(0) + row) * self.stride

    def rows_seeing(self, start: int, stop: int) -> range:
        """Returns the rows that see any of a block's inputs from start to stop."""
        seeing = [
            row
            for row in range(self.rows)
            if self.tap(row) + stop > 0 and self.tap(row) + start < self.taps
        ]
        return range(seeing[0], seeing[-1] + 1)

    def inside(self) -> range:
        """Returns the steps none of whose inputs and rows are padding."""
        inside = [
            step
            for step in range(self.steps)
            if self.first_row(step * STEP) >= 0
            and self.first_row(step * STEP + STEP - 1) + self.rows <= self.outputs
            and (step + 1) * STEP * SPAN <= self.samples
        ]
        return range(inside[0], inside[-1] + 1) if inside else range(0)
