"""What `tuning` found on a user's devices: a file for each jaxlib and each of `Conditions`.

    {"kind": "grouped convolutions", "format_version": 1, "jaxlib": "0.10.2",
     "device": "NVIDIA H100 80GB HBM3", "dtype": "bfloat16", "views": 128, "samples": 5000,
     "algorithms": {"c4x8 s1 k16": ["pack", "pack", "conv:4"]}}

lies in `convolutions` within `hardware.caches.cache_folder()`.
"""

import importlib.metadata
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from absl import logging

from clef_jax.errors import ClefError
from clef_jax.files import write_json
from clef_jax.hardware.caches import cache_folder
from clef_jax.ops.grouped_conv.passes import Passes

_KIND, _FORMAT = "grouped convolutions", 1


class TunedTableError(ClefError):
    """A file is no table of algorithms for these conditions; the message names it and says why."""


class Conditions(NamedTuple):
    """What algorithms were measured under, and are good for.

    Attributes:
        device: Name of the device, see `hardware.caches.device_name`.
        dtype: Name of the type computed in.
        views: Views that a device computes at once.
        samples: Samples of a view.
    """

    device: str
    dtype: str
    views: int
    samples: int


def table_path(conditions: Conditions) -> pathlib.Path:
    """Returns where the table for these conditions is kept."""
    device = re.sub(r"[^A-Za-z0-9.]+", "_", conditions.device)
    name = (
        f"{device}-jaxlib_{importlib.metadata.version('jaxlib')}-{conditions.dtype}"
        f"-{conditions.views}x{conditions.samples}.json"
    )
    return cache_folder() / "convolutions" / name


def find_table(conditions: Conditions) -> dict[str, list[str]]:
    """Returns the algorithms of layers by their names, as `choice.using` takes them.

    None where nothing has been measured, or could be kept. A file that cannot be read, is damaged,
    or another's, is warned of and left alone, as what it lacks can be measured again.
    """
    try:
        return read_table(table_path(conditions), conditions)
    except FileNotFoundError:
        pass
    except OSError as error:
        logging.warning("the table of algorithms cannot be read and is ignored: %s", error)
    except TunedTableError as error:
        logging.warning("%s; it is ignored, and `clef-jax tune` writes it anew", error)
    return {}


def read_table(path: pathlib.Path, conditions: Conditions) -> dict[str, list[str]]:
    """Returns the algorithms in a file.

    Raises:
        TunedTableError: It holds anything else, or was measured with another jaxlib or under
            other conditions.
        OSError: It does not exist, or cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TunedTableError(f"{path}: is no JSON ({error})") from None
    if not isinstance(content, dict):
        raise TunedTableError(f"{path}: expected an object with the algorithms of layers")
    for key, expected in _head(conditions).items():
        if content.get(key) != expected:
            raise TunedTableError(f"{path}: {key} is {content.get(key)!r}, expected {expected!r}")
    algorithms = content.get("algorithms")
    if not isinstance(algorithms, dict):
        raise TunedTableError(f"{path}: has no algorithms")
    for layer, texts in algorithms.items():
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise TunedTableError(f"{path}: {layer}: expected three algorithms, found {texts!r}")
        try:
            Passes.parse(*texts)
        except ValueError as error:
            raise TunedTableError(f"{path}: {layer}: {error}") from None
    return algorithms


def write_table(conditions: Conditions, algorithms: Mapping[str, Sequence[str]]) -> pathlib.Path:
    """Adds algorithms to the table kept, in the place of a damaged one, and returns its file.

    Raises:
        OSError: There is no cache folder, or it cannot be written.
    """
    path = table_path(conditions)
    path.parent.mkdir(parents=True, exist_ok=True)
    known = find_table(conditions)
    entries = known | {layer: list(texts) for layer, texts in algorithms.items()}
    write_json(path, _head(conditions) | {"algorithms": entries})
    return path


def _head(conditions: Conditions) -> dict[str, Any]:
    return {
        "kind": _KIND,
        "format_version": _FORMAT,
        "jaxlib": importlib.metadata.version("jaxlib"),
    } | conditions._asdict()
