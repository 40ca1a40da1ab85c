"""The options of methods: filled from settings, checked, and refused by name."""

import abc
import dataclasses
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Literal

import flax.linen as nn
import numpy as np

from clef_jax.methods.method import Method, MethodError


@dataclasses.dataclass(frozen=True)
class Options(abc.ABC):
    """A method's options: a frozen dataclass derived from this, with the method's own defaults.

    An option is a bool, int, float, str or Literal by its annotation, to which `fill_options` holds
    what is set; further limits are for `__post_init__`, see `require`.

    Attributes:
        PRESETS: Named sets of options, each by the values that it gives them.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    @abc.abstractmethod
    def create(self, encoder: nn.Module, noise: np.ndarray) -> Method:
        """Returns the method that learns `encoder` of one lead.

        Args:
            encoder: `x [N, T, 1] -> embeddings [N, D]`.
            noise: The bank, `[4, leads of the montage, M]`.
        """


def fill_options(kind: type[Options], name: str, settings: Mapping[str, Any]) -> Options:
    """Returns options of a kind: those that are set, else the preset's, else the defaults.

    Args:
        kind: The class of options.
        name: The method's name, for messages.
        settings: `preset` and options by name; None means unset.

    Raises:
        MethodError: An option or a preset is unknown, or a value impossible.
    """
    given = {key: value for key, value in settings.items() if value is not None}
    preset = given.pop("preset", None)
    known = [field.name for field in dataclasses.fields(kind)]
    if unknown := sorted(given.keys() - set(known)):
        raise MethodError(
            f"method.{unknown[0]} is {given[unknown[0]]!r}, but {name} has no such option; it has "
            f"{', '.join(known)}"
        )
    for option, annotation in typing.get_type_hints(kind).items():
        if option in given:
            _require_type(option, given[option], annotation)
    if preset is None:
        return kind(**given)
    if not kind.PRESETS:
        raise MethodError(f"method.preset is {preset!r}, but {name} has no presets; leave it unset")
    require_choice("preset", preset, kind.PRESETS)
    return kind(**{**kind.PRESETS[preset], **given})


_TYPES = {bool: "True or False", int: "a whole number", float: "a number", str: "a word"}


def _require_type(option: str, value: Any, annotation: Any) -> None:
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        # One that may be None, which stands for unset and does not come here.
        (annotation,) = set(typing.get_args(annotation)) - {types.NoneType}
    if typing.get_origin(annotation) is Literal:
        require_choice(option, value, typing.get_args(annotation))
        return
    possible = (int, float) if annotation is float else annotation
    fits = isinstance(value, possible) and isinstance(value, bool) == (annotation is bool)
    require(option, value, fits, _TYPES[annotation])


def require(option: str, value: Any, possible: bool, expected: str) -> None:
    """Raises MethodError unless `possible`, saying what was `expected`."""
    if not possible:
        raise MethodError(f"method.{option} is {value!r}; it must be {expected}")


def require_choice(option: str, value: Any, choices: Collection[str]) -> None:
    """Raises MethodError unless the value is one of `choices`."""
    if value not in tuple(choices):  # A value from a file may be a list, which no set takes.
        raise MethodError(f"method.{option} is {value!r}; choose one of {', '.join(choices)}")
