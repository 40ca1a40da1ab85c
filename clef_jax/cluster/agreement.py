"""Whether all processes of a run begin with the same: each says what it found, and all compare."""

import collections
import contextlib
import hashlib
import itertools
import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
from jax._src import distributed

from clef_jax.errors import ClefError
from clef_jax.nested import flatten

# Whether the others are alive is JAX's to find; this is no limit but that there must be one.
_LONG_MS = 24 * 3600 * 1000
# Longer values are told by their hash.
_SHOWN = 24
_agreements = itertools.count()


class ProcessesDiffer(ClefError):
    """Processes of a run would begin with different things; the message says which has what."""


class OtherProcessFailed(ClefError):
    """Another process of the run cannot begin; the message says which, and why."""


@contextlib.contextmanager
def agreement() -> Iterator[dict[str, Any]]:
    """Has all processes find the same in a block, or none goes on after it.

    To be entered by every process of the run, the same number of times.

    Yields:
        A dictionary that the block fills with what it found: nested, of JSON's types.

    Raises:
        ProcessesDiffer: They found different things. Raised on every process.
        OtherProcessFailed: Another process left its block by an error.

    Example:
        >>> with agreement() as found:  # Alone, one agrees with oneself.
        ...     found["seed"] = 42
    """
    found: dict[str, Any] = {}
    key = f"clef_jax/agreement/{next(_agreements)}"
    try:
        yield found
    except Exception as error:
        kind = "" if isinstance(error, ClefError) else f"{type(error).__name__}: "
        _say(key, {"error": f"{kind}{error}"})
        raise
    _say(key, {"found": found})
    said = _hear(key)
    failed = [f"{one['process']}: {one['error']}" for one in said if "error" in one]
    if failed:
        raise OtherProcessFailed("; ".join(failed))
    if odd := odd_ones({one["process"]: one["found"] for one in said}):
        raise ProcessesDiffer(
            f"all processes of a run must begin with the same, but {'; '.join(odd)}"
        )


def odd_ones(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns a phrase for each process that found other things than most others.

    Args:
        found: By the process's name, nested.

    Example:
        >>> odd_ones({"process 0": {"seed": 1}, "process 1": {"seed": 2}, "process 2": {"seed": 2}})
        ['process 0 has seed 1 where others have 2']
    """
    flat = {process: flatten(one) for process, one in found.items()}
    differing = collections.defaultdict(list)
    for key in sorted({key for one in flat.values() for key in one}):
        values = [json.dumps(one.get(key)) for one in flat.values()]
        usual = max(values, key=values.count)  # Of two, the first process's.
        for process, value in zip(flat, values, strict=True):
            if value != usual:
                phrase = f"{key} {_short(value)} where others have {_short(usual)}"
                differing[process].append(phrase)
    return [f"{process} has {', '.join(phrases)}" for process, phrases in differing.items()]


def _short(text: str) -> str:
    """Returns a long value, such as a list or a hash, by its beginning and a hash of all of it."""
    if len(text) <= _SHOWN:
        return text
    return f"{text[:8]}… ({hashlib.sha256(text.encode()).hexdigest()[:8]})"


def _say(key: str, what: Mapping[str, Any]) -> None:
    if (client := distributed.global_state.client) is not None:
        process = jax.process_index()
        who = {"process": f"process {process} on {socket.gethostname()}"}
        client.key_value_set(f"{key}/{process}", json.dumps({**who, **what}))


def _hear(key: str) -> Sequence[Mapping[str, Any]]:
    client = distributed.global_state.client
    if client is None:
        return []
    return [
        json.loads(client.blocking_key_value_get(f"{key}/{process}", _LONG_MS))
        for process in range(jax.process_count())
    ]
