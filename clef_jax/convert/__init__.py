"""Weights from and to the original PyTorch project."""

from clef_jax.convert.folder import convert_to_folder, export_to_torch, report_lines
from clef_jax.convert.state_dict import (
    ConversionError,
    Report,
    from_state_dict,
    to_state_dict,
)
from clef_jax.convert.torch_checkpoint import read_torch_checkpoint, write_torch_checkpoint

__all__ = [
    "ConversionError",
    "Report",
    "convert_to_folder",
    "export_to_torch",
    "from_state_dict",
    "read_torch_checkpoint",
    "report_lines",
    "to_state_dict",
    "write_torch_checkpoint",
]
