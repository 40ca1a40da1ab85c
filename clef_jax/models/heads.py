"""Heads: what reads an encoder's features for a task, and the two as one network."""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from clef_jax.models.encoder_config import EncoderConfig
from clef_jax.models.resnext1d import Linear

HeadKind = Literal["linear", "attention", "stages"]


class EncoderWithHead(nn.Module):
    """An encoder and a linear map of its features. `x [N, T, C] -> outputs [N, outputs]`.

    Parameters are `encoder`, as the encoder alone has them, and `head`. It is applied as an encoder
    is, with outputs in the place of the embedding.

    Attributes:
        config: The encoder's.
        outputs: How many numbers the head gives.
        kind: Which features it maps: "linear" the embedding, "attention" a weighted mean over the
            time of the last stage, whose weights are learnt, "stages" the means of all stages.
        dropout: Share of the features that training leaves out.
        dtype: What the encoder multiplies in; the head does in float32, or wider as `x` is.

    Example:
        >>> import jax
        >>> from clef_jax.models import get_config
        >>> model = EncoderWithHead(get_config("clef_small"), outputs=3, kind="stages")
        >>> x = jnp.zeros((2, 500, 1))
        >>> shapes = jax.eval_shape(model.init, jax.random.key(0), x)["params"]
        >>> sorted(shapes)
        ['encoder', 'head']
        >>> shapes["head"]["output"]["kernel"].shape
        (672, 3)
    """

    config: EncoderConfig
    outputs: int
    kind: HeadKind = "linear"
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """Returns the outputs `[N, outputs]`.

        Args:
            x: `[N, T, C]`.
            keys: A random key for each row `[N]`, by which training leaves features out.
        """
        encoder = self.config.build(dtype=self.dtype, remat=False).clone(parent=None)
        if self.is_initializing():
            params = self.param("encoder", lambda key: encoder.init(key, x)["params"])
        else:
            # Not by `param`, which would trace the initial weights again to compare their shapes.
            params = self.variables["params"]["encoder"]
        embedding, state = encoder.apply({"params": params}, x, mutable=["intermediates"])
        sown = state.get("intermediates", {})
        stages = [sown[name][0] for name in self.config.layers]
        head = Head(self.outputs, self.kind, self.dropout, name="head")
        return head(embedding, stages, keys)


class Head(nn.Module):
    """A linear map of an encoder's features; attributes as of `EncoderWithHead`."""

    outputs: int
    kind: HeadKind
    dropout: float

    @nn.compact
    def __call__(
        self, embedding: jax.Array, stages: list[jax.Array], keys: jax.Array | None
    ) -> jax.Array:
        """Returns the outputs `[N, outputs]`.

        Args:
            embedding: `[N, D]`.
            stages: What the encoder's stages give, `[N, T_s, width]`, the last one last.
            keys: As of `EncoderWithHead`.
        """
        features = self._features(embedding, stages)
        if keys is not None and self.dropout:
            features = _drop(keys, features, self.dropout)
        return Linear(self.outputs, dtype=features.dtype, name="output")(features)

    def _features(self, embedding: jax.Array, stages: list[jax.Array]) -> jax.Array:
        match self.kind:
            case "linear":
                return embedding
            case "stages":
                return jnp.concatenate([_wide(stage).mean(axis=1) for stage in stages], axis=1)
        last = _wide(stages[-1])
        # Zeros, so that it begins as the mean over time.
        query = self.param("query", nn.initializers.zeros, (last.shape[-1],))
        share = jax.nn.softmax(jnp.einsum("ntw,w->nt", last, query), axis=1)
        return jnp.einsum("nt,ntw->nw", share, last)


def _drop(keys: jax.Array, features: jax.Array, rate: float) -> jax.Array:
    """Returns features of which each row, by its key, lacks some, and the others make up."""

    def keep(key: jax.Array) -> Any:
        return jax.random.bernoulli(key, 1 - rate, features.shape[1:])

    return jnp.where(jax.vmap(keep)(keys), features / (1 - rate), 0)


def _wide(x: jax.Array) -> jax.Array:
    return x.astype(np.promote_types(x.dtype, jnp.float32))
