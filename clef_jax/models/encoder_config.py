"""What every architecture of an encoder says of itself."""

import abc
import dataclasses
from collections.abc import Iterator

import flax.linen as nn
from jax.typing import DTypeLike

from clef_jax.ops.grouped_conv.layers import Convolution


@dataclasses.dataclass(frozen=True)
class LayerCost:
    """What the forward pass of one layer costs for one view.

    Attributes:
        name: `stem`, or the block's and the layer's, as in the parameters.
        flops: Operations, a multiply-add counted as two.
        elements: Activations read and written.
        parameters: Weights and biases.
    """

    name: str
    flops: int
    elements: int
    parameters: int


@dataclasses.dataclass(frozen=True)
class EncoderConfig(abc.ABC):
    """Shape of one encoder; an architecture's own config is a frozen dataclass derived from it.

    Checkpoints hold its fields as JSON, and the architecture's name. A field that is added later
    needs a default which means what encoders were before it, as theirs lack it.

    Attributes:
        name: Public name of the size.
        in_channels: Leads the encoder sees at once.

    Example:
        >>> from clef_jax.models import get_config
        >>> config = get_config("clef_large")
        >>> config.in_channels, config.embedding_dim, config.layers[-1]
        (1, 2048, 'stage8')
    """

    name: str
    in_channels: int = dataclasses.field(default=1, kw_only=True)

    @property
    @abc.abstractmethod
    def embedding_dim(self) -> int:
        """Length D of the embedding."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the intermediates `[N, T_s, width]` that the module sows."""
        return ()

    @abc.abstractmethod
    def build(self, *, dtype: DTypeLike, remat: bool) -> nn.Module:
        """Returns the Linen module, `x [N, T, C] -> embeddings [N, D]`, for any T.

        Its attribute `dtype` is what it multiplies in; embeddings are float32. See `create_model`.
        """

    def layer_costs(self, samples: int) -> Iterator[LayerCost]:
        """Yields what each layer costs for one view of `samples`; nothing where it is unknown."""
        return iter(())

    def convolutions(self, samples: int) -> Iterator[Convolution]:
        """Yields every grouped convolution for a view of `samples`: what can be tuned."""
        return iter(())
