"""Where this project keeps what it found out about a user's devices."""

import os
import pathlib


def cache_folder() -> pathlib.Path:
    """Returns `$XDG_CACHE_HOME/clef_jax`, by default `~/.cache/clef_jax`; it need not exist.

    By the XDG Base Directory Specification, which has relative paths ignored.
    """
    given = pathlib.Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (given if given.is_absolute() else pathlib.Path.home() / ".cache") / "clef_jax"
