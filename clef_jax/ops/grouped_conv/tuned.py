"""What `tuning` found on a user's devices: a file for each kind of device, jaxlib and type.

    {"kind": "grouped convolutions", "format_version": 1, "device_kind": "NVIDIA H100 80GB HBM3",
     "jaxlib": "0.10.2", "dtype": "bfloat16",
     "algorithms": {"c4x8 s1 k16": ["pack", "pack", "conv:4"]}}

lies in `convolutions` within `hardware.caches.cache_folder()`.
"""

import importlib.metadata
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging

from clef_jax.errors import ClefError
from clef_jax.files import write_json
from clef_jax.hardware.caches import cache_folder
from clef_jax.ops.grouped_conv.passes import Passes

_KIND, _FORMAT = "grouped convolutions", 1


class TunedTableError(ClefError):
    """A file is no table of algorithms for these devices; the message names it and says why."""


def table_path(device_kind: str, dtype: str) -> pathlib.Path:
    """Returns where the table of a kind of device, as JAX names it, and a type is kept."""
    kind = re.sub(r"[^A-Za-z0-9.]+", "_", device_kind)
    name = f"{kind}-jaxlib_{importlib.metadata.version('jaxlib')}-{dtype}.json"
    return cache_folder() / "convolutions" / name


def find_table(device_kind: str, dtype: str) -> dict[str, list[str]]:
    """Returns the algorithms of layers by their names, as `choice.using` takes them.

    None where nothing has been measured. A file that is damaged, or another's, is warned of and
    left alone, as what it lacks can be measured again.
    """
    path = table_path(device_kind, dtype)
    try:
        return read_table(path, device_kind, dtype)
    except FileNotFoundError:
        return {}
    except TunedTableError as error:
        logging.warning("%s; it is ignored, and `clef-jax tune` writes it anew", error)
        return {}


def read_table(path: pathlib.Path, device_kind: str, dtype: str) -> dict[str, list[str]]:
    """Returns the algorithms in a file.

    Raises:
        TunedTableError: It holds anything else, or was measured with other devices, jaxlib, type.
        FileNotFoundError: It does not exist.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TunedTableError(f"{path}: is no JSON ({error})") from None
    if not isinstance(content, dict):
        raise TunedTableError(f"{path}: expected an object with the algorithms of layers")
    for key, expected in _head(device_kind, dtype).items():
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


def write_table(
    device_kind: str, dtype: str, algorithms: Mapping[str, Sequence[str]]
) -> pathlib.Path:
    """Adds algorithms to the table kept, in the place of a damaged one, and returns its file."""
    path = table_path(device_kind, dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    known = find_table(device_kind, dtype)
    entries = known | {layer: list(texts) for layer, texts in algorithms.items()}
    write_json(path, _head(device_kind, dtype) | {"algorithms": entries})
    return path


def _head(device_kind: str, dtype: str) -> dict[str, Any]:
    return {
        "kind": _KIND,
        "format_version": _FORMAT,
        "device_kind": device_kind,
        "jaxlib": importlib.metadata.version("jaxlib"),
        "dtype": dtype,
    }
