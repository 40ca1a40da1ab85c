"""Values of arguments, checked where they are parsed."""

import argparse
import math
from collections.abc import Mapping
from typing import Any

from clef_jax.errors import ClefError
from clef_jax.stores import is_stored


class UsageError(ClefError):
    """The command line asks for something that there is not; the message says what there is."""


def names(text: str) -> tuple[str, ...]:
    """Returns names separated by commas."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise argparse.ArgumentTypeError("expected names separated by commas, such as I,II")
    return names


def count(text: str, least: int = 1) -> int:
    """Returns a whole number from `least` on."""
    value = int(text) if text.strip().isdecimal() else -1
    if value < least:
        raise argparse.ArgumentTypeError(f"expected a whole number from {least}, got {text!r}")
    return value


def readers(text: str) -> int:
    """Returns a number of reading processes."""
    return count(text, least=0)


def positive(text: str) -> float:
    """Returns a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def shares(text: str) -> tuple[float, ...]:
    """Returns shares above 0, at most 1, separated by commas, the smallest first."""
    found = sorted({positive(part) for part in names(text)})
    if found[-1] > 1:
        raise argparse.ArgumentTypeError(f"expected shares of at most 1, got {text!r}")
    return tuple(found)


def require_disks(values: Mapping[str, Any]) -> None:
    """Raises UsageError where a value is a URL, but a file or folder is expected.

    Args:
        values: By the argument's name: a text, several of them, or anything else.
    """
    for name, value in values.items():
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, str) and is_stored(one):
                raise UsageError(
                    f"{name} {one}: is in a store, where this command neither reads nor writes; "
                    "give it a folder of this machine and copy from or to there by the store's own "
                    f"tool: gcloud storage cp --recursive {one} FOLDER, or the other way round"
                )
