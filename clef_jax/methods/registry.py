"""The methods by name. A new one is a module with a class of options, and a line here."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from clef_jax.methods import contrastive
from clef_jax.methods.options import Options, fill_options, require_choice

METHODS: dict[str, type[Options]] = {
    "clef": contrastive.CLEF,
    "simclr": contrastive.SimCLR,
}


def read_options(settings: Mapping[str, Any]) -> Options:
    """Returns the options of a method, whose `create` makes the method.

    Args:
        settings: `name`, one of `METHODS`; `preset`; and the method's options by name, which bend
            the preset one by one. None means unset.

    Raises:
        MethodError: The method, the preset or an option is unknown, or a value impossible.

    Example:
        >>> read_options({"name": "simclr", "temperature": 0.1})
        SimCLR(temperature=0.1)
    """
    name = settings["name"]
    require_choice("name", name, METHODS)
    others = {key: value for key, value in settings.items() if key != "name"}
    return fill_options(METHODS[name], name, others)


def describe_options() -> dict[str, str]:
    """Returns every option that a method has by its name, and which have it with what default.

    Example:
        >>> describe_options()["floor"]
        'Of clef (0.2 unless set).'
    """
    found: dict[str, list[str]] = {}
    for name, kind in METHODS.items():
        for field in dataclasses.fields(kind):
            found.setdefault(field.name, []).append(f"{name} ({field.default!r} unless set)")
    return {option: f"Of {', '.join(methods)}." for option, methods in found.items()}
