"""Where this project keeps what it found out about a user's devices, and what it calls these."""

import os
import pathlib
import platform

import jax


def cache_folder() -> pathlib.Path:
    """Returns `$XDG_CACHE_HOME/clef_jax`, by default `~/.cache/clef_jax`; it need not exist.

    By the XDG Base Directory Specification, which has relative paths ignored.

    Raises:
        FileNotFoundError: The user has no home folder, as some containers' have none.
    """
    given = pathlib.Path(os.environ.get("XDG_CACHE_HOME", ""))
    if given.is_absolute():
        return given / "clef_jax"
    try:
        return pathlib.Path.home() / ".cache" / "clef_jax"
    except RuntimeError as error:
        raise FileNotFoundError(f"no home folder ({error}); set XDG_CACHE_HOME to one") from None


def device_name(device: jax.Device) -> str:
    """Returns a device's kind, or the processor's name where JAX says no more than "cpu"."""
    if device.platform != "cpu":
        return device.device_kind
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
