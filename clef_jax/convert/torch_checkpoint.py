"""Checkpoint files of PyTorch and Lightning: reading without unpickling objects, and writing."""

import hashlib
import os
import pickle
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from clef_jax.convert.state_dict import (
    PREFIX,
    ConversionError,
    Report,
    from_state_dict,
    to_state_dict,
)
from clef_jax.files import only_writer, open_regular, replacing
from clef_jax.models import ResNeXt1DConfig

# MD5 of the released files (Zenodo record 17572734) as a third party recorded them. They could not
# be checked against the files, so a difference is a warning and no error.
KNOWN_MD5 = {
    "clef_small": "de76ebbf1024e5774309c1d12d6970eb",
    "clef_medium": "781eed16d190ef97733994cd2d01d1ff",
    "clef_large": "07c494e85c9c17ddf34d8e679e02b0e0",
}
# The third file is spelled clef_largel.ckpt where it is published.
_RELEASED_NAMES = {
    "clef_small.ckpt": "clef_small",
    "clef_medium.ckpt": "clef_medium",
    "clef_large.ckpt": "clef_large",
    "clef_largel.ckpt": "clef_large",
}
_RESAVE = (
    "If you trust its source, write its tensors alone with a current PyTorch, then convert: "
    "torch.save(torch.load(FILE, map_location='cpu', weights_only=False)['state_dict'], NEW)"
)


def _import_torch():
    try:
        import torch
    except ImportError as error:
        raise ConversionError(
            "reading PyTorch checkpoints needs torch: pip install 'clef-jax[convert]'"
        ) from error
    return torch


def _numpy_scalars() -> list:
    """Globals that Lightning and ECGFounder files hold among their metrics: numbers, no code."""
    scalar = np.float64(0).__reduce__()[0]
    dtypes = {type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4", "?")}
    return [
        np.dtype,
        *dtypes,
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
    ]


def _check_container(path: str) -> None:
    """Refuses early what torch would answer with an obscure error, or read in an unsafe format."""
    with open_regular(path) as stream:
        start = stream.read(4)
    if not start.startswith(b"PK"):
        raise ConversionError(
            f"{path}: not a zip-format PyTorch checkpoint (it begins with {start!r}). Files "
            f"written before PyTorch 1.6 are refused, and so are other formats. {_RESAVE}"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ConversionError(
            f"{path}: truncated or damaged ({os.path.getsize(path):,} bytes): {error}. Download it "
            "again and compare its size and MD5 with those published"
        ) from error
    if not any(name.endswith("data.pkl") for name in members):
        raise ConversionError(
            f"{path}: a zip archive without data.pkl, so no PyTorch checkpoint; it holds "
            f"{', '.join(members[:5])}. Give the .ckpt or .pth file itself"
        )


def _load(path: str) -> Mapping:
    """Returns the file's content with memory-mapped tensors; nothing but tensors is unpickled."""
    torch = _import_torch()
    _check_container(path)
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        reason = next((line for line in str(error).splitlines() if "GLOBAL" in line), str(error))
        raise ConversionError(
            f"{path}: refused, because it holds objects other than tensors, and loading those can "
            f"run any code: {reason.strip()} {_RESAVE}"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise ConversionError(
            f"{path}: damaged, PyTorch cannot read it: {str(error).splitlines()[0]}. Download it "
            "again and compare its size and MD5 with those published"
        ) from error
    if not isinstance(content, Mapping):
        raise ConversionError(
            f"{path}: holds a {type(content).__name__}, expected a state dict or a Lightning "
            "checkpoint with the entry 'state_dict'"
        )
    return content


def _tensors(content: Mapping, path: str) -> Mapping:
    state_dict = content.get("state_dict", content)
    if not isinstance(state_dict, Mapping):
        raise ConversionError(
            f"{path}: its entry 'state_dict' is a {type(state_dict).__name__}, expected a mapping "
            "of names to tensors"
        )
    others = [str(key) for key, value in state_dict.items() if not hasattr(value, "detach")]
    if others or not state_dict:
        raise ConversionError(
            f"{path}: expected a state dict or a Lightning checkpoint with the entry 'state_dict'; "
            f"found {len(state_dict)} entries, of which {len(others)} are no tensors: "
            f"{', '.join(others[:10])}"
        )
    if odd := [f"{key!r} is {what}" for key, x in state_dict.items() if (what := _oddity(key, x))]:
        raise ConversionError(
            f"{path}: expected names with plain tensors, found {len(odd)} others: "
            f"{', '.join(odd[:10])}. Save the weights dense and dequantised, from where they are "
            "loaded"
        )
    return state_dict


def _oddity(name: Any, tensor: Any) -> str | None:
    """Returns what a tensor is that numpy cannot take as it is, or None."""
    kinds = {
        "no name": not isinstance(name, str),
        "nested": tensor.is_nested,
        "quantised": tensor.is_quantized,
        "a tensor without data (device meta)": tensor.is_meta,
        f"of the layout {tensor.layout}": str(tensor.layout) != "torch.strided",
        "lazily conjugated or negated": tensor.is_conj() or tensor.is_neg(),
        f"of the type {tensor.dtype}": "float4" in str(tensor.dtype),
    }
    return next((what for what, is_so in kinds.items() if is_so), None)


def _digests(path: str) -> dict:
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as stream:
        while block := stream.read(1 << 22):
            sha256.update(block)
            md5.update(block)
    return {
        "file": os.path.basename(path),
        "bytes": os.path.getsize(path),
        "sha256": sha256.hexdigest(),
        "md5": md5.hexdigest(),
    }


def _md5_warnings(source: dict, config: ResNeXt1DConfig) -> list[str]:
    released = _RELEASED_NAMES.get(source["file"])
    if released is None or source["md5"] == KNOWN_MD5[released]:
        return []
    return [
        f"{source['file']} is named like a released file of {released}, but its MD5 is "
        f"{source['md5']} and that of the released file was recorded as {KNOWN_MD5[released]}. The "
        f"weights are complete and of the size {config.name}, yet they may be others than "
        "published: compare with the MD5 on the download page"
    ]


def read_torch_checkpoint(path: str | os.PathLike) -> tuple[ResNeXt1DConfig, dict, Report]:
    """Reads a Lightning checkpoint or a bare state dict, strictly and without running its pickles.

    Tensors are memory-mapped, so optimiser state on disk is never read, let alone copied.

    Args:
        path: A .ckpt or .pth file in PyTorch's zip format.

    Returns:
        The detected size, the params (nested dict of float32 arrays) and a report.

    Raises:
        ConversionError: The file is damaged, holds objects other than tensors, or its weights are
            not exactly those of a known encoder.
        FileNotFoundError: There is no such file.

    Example:
        >>> config, params, report = read_torch_checkpoint("clef_small.ckpt")
        >>> params["stem"]["kernel"].shape
        (16, 1, 32)
    """
    path = os.fspath(path)
    content = _load(path)
    try:
        config, params, report = from_state_dict(_tensors(content, path))
    except ConversionError as error:
        raise ConversionError(
            f"{path}: {error}" if path not in str(error) else str(error)
        ) from None
    report.source.update(_digests(path))
    report.warnings.extend(_md5_warnings(report.source, config))
    return config, params, report


def write_torch_checkpoint(
    path: str | os.PathLike, config: ResNeXt1DConfig, params: Mapping
) -> None:
    """Writes a checkpoint that the original project loads with strict=True.

    Args:
        path: The file to write; replaced as a whole if it exists.
        config: Shape of the encoder.
        params: Its parameters.

    Example:
        >>> from clef_jax import load_encoder
        >>> encoder = load_encoder("weights/clef_small")
        >>> write_torch_checkpoint("mine.ckpt", encoder.config, encoder.params)
    """
    torch = _import_torch()
    state_dict = {
        PREFIX + name: torch.from_numpy(array)
        for name, array in to_state_dict(config, params).items()
    }
    # To a stream, as torch does not say of a file why it could not be written.
    with only_writer(path), replacing(path) as temporary, open(temporary, "wb") as stream:
        torch.save({"state_dict": state_dict, "epoch": 0, "global_step": 0}, stream)
