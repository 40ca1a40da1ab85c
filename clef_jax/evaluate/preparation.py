"""How a task's recordings become an encoder's inputs, as a value."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Preparation:
    """What is done to a window of a recording before an encoder sees it.

    Attributes:
        fs: Rate that the encoder sees, Hz.
        samples: Length that it sees.
        resampling: How the rate is changed.
        assumed_fs: What the file's rate is taken for, Hz; its own when None (Q1).
        band_hz: Pass band; None for no filter.
        band_first: Whether the filter comes before resampling.
        scale: Of what the mean and the standard deviation are taken; "none" for no scaling.
        minmax_record: Whether all leads together are brought to [-3, 3] before the filter.
        missing: What becomes of missing samples.
        window: Which window is taken.
        short: How a recording shorter than the window is padded, after or before scaling.
    """

    fs: float = 500.0
    samples: int = 5000
    resampling: Literal["polyphase", "fourier"] = "polyphase"
    assumed_fs: float | None = None
    band_hz: tuple[float, float] | None = (0.67, 40.0)
    band_first: bool = False
    scale: Literal["window", "record", "train", "none"] = "window"
    minmax_record: bool = False
    missing: Literal["lines", "zeros", "drop"] = "lines"
    window: Literal["given", "random", "first valid"] = "given"
    short: Literal["zeros before", "zeros after"] = "zeros before"
