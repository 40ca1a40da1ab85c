"""Settings in nested dicts, to be compared and named one by one."""

from collections.abc import Mapping
from typing import Any


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the entries by their keys joined with dots: {"method.name": "clef", …}."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        inner = isinstance(value, Mapping)
        flat |= flatten(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what `flatten` was given."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *outer, name = key.split(".")
        inner = nested
        for part in outer:
            inner = inner.setdefault(part, {})
        inner[name] = value
    return nested
