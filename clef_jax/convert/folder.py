"""Conversions from file to encoder folder and back, as the commands do them."""

import os
from collections.abc import Mapping

import jax

from clef_jax.checkpoints.encoder import save_encoder
from clef_jax.convert.state_dict import ConversionError, Report
from clef_jax.convert.torch_checkpoint import read_torch_checkpoint, write_torch_checkpoint
from clef_jax.data.signals.spec import SPECS
from clef_jax.files import only_writer
from clef_jax.inference import encoder_meta, load_encoder
from clef_jax.models import ResNeXt1DConfig


def convert_to_folder(
    source: str | os.PathLike, folder: str | os.PathLike
) -> tuple[ResNeXt1DConfig, Report, dict]:
    """Converts a PyTorch checkpoint to an encoder folder for `load_encoder` and pretraining.

    Args:
        source: A released CLEF file, one trained with the original project, or ECGFounder's.
        folder: Where to write; must not exist yet.

    Returns:
        The size, the conversion's report and the folder's meta record.

    Raises:
        ConversionError: The folder exists, or `read_torch_checkpoint` refuses the file.
        LockedError: Another process is writing it.

    Example:
        >>> config, report, meta = convert_to_folder("clef_small.ckpt", "weights/mine")
        >>> report_lines(config, report, meta)[0].split(",")[0]
        'clef_small.ckpt: clef_small'
    """
    folder = os.path.abspath(folder)
    if os.path.exists(folder):
        raise ConversionError(f"{folder}: exists already; choose another folder or remove it")
    config, params, report = read_torch_checkpoint(source)
    with only_writer(folder):
        # As device arrays the weights are neither copied for the fingerprint nor for saving.
        params = jax.device_put(params)
        provenance = {
            "source": report.source,
            "ignored": {rule: len(keys) for rule, keys in report.ignored.items()},
            "cast": report.cast,
            "warnings": report.warnings,
        }
        meta = encoder_meta(config, params, provenance, report.preprocessing)
        save_encoder(folder, params, meta, classifier=report.classifier)
    return config, report, meta


def export_to_torch(folder: str | os.PathLike, target: str | os.PathLike) -> ResNeXt1DConfig:
    """Writes an encoder folder, or a pretraining workdir's encoder, as a file for the original.

    Returns:
        The size.

    Raises:
        ConversionError: The encoder is of an architecture that the original does not have.

    Example:
        >>> export_to_torch("weights/clef_small", "mine.ckpt").name
        'clef_small'
    """
    encoder = load_encoder(folder)
    if not isinstance(encoder.config, ResNeXt1DConfig):
        raise ConversionError(
            f"{folder}: holds {encoder.config.name}, which the original project does not have; "
            "expected a ResNeXt1D encoder"
        )
    write_torch_checkpoint(target, encoder.config, encoder.params)
    return encoder.config


def report_lines(config: ResNeXt1DConfig, report: Report, meta: Mapping) -> list[str]:
    """Returns the conversion's report as lines for a terminal.

    Example:
        >>> config, report, meta = convert_to_folder("clef_small.ckpt", "weights/reported")
        >>> [line for line in report_lines(config, report, meta) if "preprocessing" in line]
        ['preprocessing clef_v2']
    """
    source = report.source
    lines = [
        f"{source['file']}: {config.name}, {report.parameters:,} parameters used, "
        f"{config.in_channels} input channel(s), {source['bytes']:,} bytes",
        f"sha256 {source['sha256']}",
        f"md5 {source['md5']}",
        f"fingerprint {meta['fingerprint']}",
    ]
    lines += [f"ignored {len(keys)} keys: {rule}" for rule, keys in report.ignored.items()]
    (name,) = (name for name, spec in SPECS.items() if spec == report.preprocessing)
    lines.append(f"preprocessing {name}")
    if report.cast:
        lines.append(f"cast to float32: {', '.join(report.cast)}")
    if report.classifier is not None:
        lines.append(f"classifier kept: {report.classifier['bias'].size} classes")
    return lines + [f"WARNING: {warning}" for warning in report.warnings]
