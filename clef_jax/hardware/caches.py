"""Where this project keeps what it found out about a user's devices."""

import os
import pathlib


def cache_folder() -> pathlib.Path:
    """Returns `$XDG_CACHE_HOME/clef_jax`, by default `~/.cache/clef_jax`; it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (pathlib.Path(base) if base else pathlib.Path.home() / ".cache") / "clef_jax"
