"""What a WFDB header says beyond what every recording does."""

import dataclasses

from clef_jax.data.recordings.recording import Header


@dataclasses.dataclass(frozen=True)
class Channel:
    """One signal line of a WFDB header: where its samples are and what they mean.

    Attributes:
        file: Name of the signal file, beside the header.
        storage: WFDB's number of the storage format; 0 where no samples are stored.
        samples_per_frame: Its samples in each frame, the unit in which WFDB counts time.
        skew: Frames by which it is late in the file.
        byte_offset: Where its samples begin in the file.
        gain: Digital units per physical unit.
        baseline: Digital value of 0.
        units: The physical unit.
        initial: Digital value before the first sample, of formats that store differences.
        label: What is recorded, as the header says it.
    """

    file: str
    storage: int
    samples_per_frame: int
    skew: int
    byte_offset: int
    gain: float
    baseline: int
    units: str
    initial: int
    label: str


@dataclasses.dataclass(frozen=True)
class Segment:
    """A stretch of a multi-segment record.

    Attributes:
        path: The record that holds it, without suffix; None for a gap.
        frames: Its length. A first segment without length holds no samples: it names the leads of
            a record whose segments each have some of them (WFDB's variable layout).
    """

    path: str | None
    frames: int


@dataclasses.dataclass(frozen=True)
class WfdbHeader(Header):
    """A recording and where in which files its channels are.

    Attributes:
        channels: How each lead is stored.
        samples_per_frame: Samples at `fs` in a frame.
        segments: What a multi-segment record consists of, in order.
    """

    channels: tuple[Channel, ...] = dataclasses.field(default=(), repr=False)
    samples_per_frame: int = 1
    segments: tuple[Segment, ...] = dataclasses.field(default=(), repr=False)
