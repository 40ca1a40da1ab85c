"""Two noisy views of each record, drawn together among those of all others: CLEF and SimCLR."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from clef_jax import losses
from clef_jax.methods.augment import augment_batch
from clef_jax.methods.method import Batch, Method, Metrics, Params
from clef_jax.methods.options import Options, require


@dataclasses.dataclass(frozen=True)
class CLEF(Options):
    """Options of the risk-weighted contrast, `losses.clef_loss`, which describes them.

    Raises:
        MethodError: A value is impossible.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = losses.PRESETS

    temperature: float = 0.07
    floor: float = 0.2
    weighting: Literal["softmax", "direct"] = "softmax"
    completeness_weighting: bool = False
    unknown_risk: Literal["zero", "mean"] = "zero"
    combine: Literal["mean", "sum"] = "mean"

    def __post_init__(self):
        _require_temperature(self.temperature)
        require("floor", self.floor, 0 <= self.floor <= 1, "from 0 to 1")

    def create(self, encoder: nn.Module, noise: np.ndarray) -> Method:
        """Returns the method for an encoder of one lead; noise `[4, leads of the montage, M]`."""
        needs = {"risk"} | ({"completeness"} if self.completeness_weighting else set())

        def compare(outputs: Mapping[str, jax.Array], axis_name: str | None):
            risk = outputs["risk"]
            loss, parts = losses.clef_loss(
                _by_view(outputs["z"]),
                risk,
                outputs.get("completeness"),
                axis_name=axis_name,
                **dataclasses.asdict(self),
            )
            known = jnp.mean(jnp.isfinite(risk))
            if axis_name is not None:
                known = lax.pmean(known, axis_name)
            return loss, {**parts, "known_risk": known}

        return _method_of_views(encoder, noise, frozenset(needs), compare)


@dataclasses.dataclass(frozen=True)
class SimCLR(Options):
    """Options of the contrast without risk, `losses.simclr_loss`.

    Raises:
        MethodError: A value is impossible.
    """

    temperature: float = 0.07

    def __post_init__(self):
        _require_temperature(self.temperature)

    def create(self, encoder: nn.Module, noise: np.ndarray) -> Method:
        """Returns the method for an encoder of one lead; noise `[4, leads of the montage, M]`."""

        def compare(outputs: Mapping[str, jax.Array], axis_name: str | None):
            z = _by_view(outputs["z"])
            return losses.simclr_loss(z, temperature=self.temperature, axis_name=axis_name)

        return _method_of_views(encoder, noise, frozenset(), compare)


def _method_of_views(
    encoder: nn.Module,
    noise: np.ndarray,
    needs: frozenset[str],
    compare: Callable[[Mapping[str, jax.Array], str | None], tuple[jax.Array, Metrics]],
) -> Method:
    """Returns the method of two augmented views whose embeddings `z [b, 2, D]` are compared."""

    def init(key: jax.Array, example: jax.Array, encoder_params: Any) -> tuple[Params, tuple]:
        if encoder_params is None:
            encoder_params = encoder.init(key, example)["params"]
        return {"encoder": encoder_params}, ()

    def encode(params: Params, carried: Any, batch: Batch, constants: Any, keys: jax.Array):
        del carried
        x = augment_batch(keys, batch, constants["noise"])
        z = cast(jax.Array, encoder.apply({"params": params["encoder"]}, x))
        return {"z": z.reshape(-1, 2, z.shape[-1]), **{name: batch[name] for name in needs}}

    def loss(params: Params, carried: Any, outputs: Any, axis_name: str | None):
        del params, carried
        return compare(outputs, axis_name)

    return Method(
        needs=needs,
        dtype=encoder.dtype,
        constants={"noise": noise},
        init=init,
        encode=encode,
        loss=loss,
    )


def _by_view(z: jax.Array) -> jax.Array:
    """Returns `z [b, 2, D]` as the losses take it, `[2b, D]`."""
    return z.reshape(-1, z.shape[-1])


def _require_temperature(temperature: float) -> None:
    require("temperature", temperature, 0 < temperature < math.inf, "above 0")
