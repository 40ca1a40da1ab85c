"""CLEF, a foundation model for single-lead ECG, in JAX."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clef_jax.inference import load_encoder
    from clef_jax.models import create_model, list_models

__version__ = "0.2.0"

# Resolved on first use: the data workers import `clef_jax.data` and must not load jax with it.
_PUBLIC = {
    "create_model": "clef_jax.models",
    "list_models": "clef_jax.models",
    "load_encoder": "clef_jax.inference",
}

__all__ = ["__version__", "create_model", "list_models", "load_encoder"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'clef_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
