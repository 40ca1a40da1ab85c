"""Ways to learn an encoder, each an options class that creates a `Method`."""

from clef_jax.methods.method import Method, MethodError, row_keys
from clef_jax.methods.registry import METHODS, describe_options, read_options

__all__ = ["METHODS", "Method", "MethodError", "describe_options", "read_options", "row_keys"]
