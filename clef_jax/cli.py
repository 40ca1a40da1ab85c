"""The installed command `clef-jax`: embed, info, convert.

Reading processes import this module when they start, so only the commands import jax.
"""

import argparse
import dataclasses
import json
import math
import os
import sys
import textwrap
from collections.abc import Sequence

import clef_jax

SOME_FAILED = 3


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise argparse.ArgumentTypeError("expected names separated by commas, such as I,II")
    return names


def _count(text: str, least: int = 1) -> int:
    value = int(text) if text.strip().isdecimal() else -1
    if value < least:
        raise argparse.ArgumentTypeError(f"expected a whole number from {least}, got {text!r}")
    return value


def _readers(text: str) -> int:
    return _count(text, least=0)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="clef-jax", description="Embeddings of ECG recordings from CLEF weights."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {clef_jax.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_embed(commands)
    _add_info(commands)
    _add_convert(commands)
    return parser


def _add_embed(commands) -> None:
    embed = commands.add_parser(
        "embed",
        help="embed recordings into a Parquet table",
        description="Embeds every recording into a table with the columns file, record, lead, "
        "start_s, fs, quality, embedding. Recordings that the table holds already are skipped. "
        f"Exit code {SOME_FAILED}: some recordings failed; they are listed in OUT.errors.csv. "
        "Tables found beside recordings (CSV, TSV) are skipped: listed there, but no failure.",
    )
    embed.add_argument(
        "paths",
        nargs="+",
        metavar="FILE|DIR|GLOB",
        help="WFDB, EDF or DICOM files, folders of them, shards folders; CSV, TSV, NPY and "
        "MATLAB files without a WFDB header with --fs",
    )
    embed.add_argument("--weights", required=True, metavar="DIR", help="converted or pretrained")
    embed.add_argument("--out", required=True, metavar="E.parquet", help="the table to write")
    embed.add_argument(
        "--lead",
        type=_names,
        metavar="I[,II,...]",
        help="lead to embed, or several in order of preference, or 'all' (default: I, or the only "
        "lead of a recording that does not name it)",
    )
    embed.add_argument("--window", type=_positive, default=10.0, metavar="S", help="seconds")
    embed.add_argument("--stride", type=_positive, metavar="S", help="seconds (default: --window)")
    embed.add_argument("--pad", action="store_true", help="pad recordings shorter than a window")
    embed.add_argument(
        "--fs", type=_positive, metavar="HZ", help="sampling rate of CSV, TSV, NPY, MAT files"
    )
    embed.add_argument(
        "--lead_names", type=_names, metavar="I,II,...", help="leads of files that do not name them"
    )
    embed.add_argument(
        "--units",
        choices=("mV", "uV", "V"),
        help="of CSV, TSV, NPY, MAT files that name none (default: mV)",
    )
    embed.add_argument(
        "--batch_size", type=_count, metavar="N", help="default: 8 on a CPU, else 64"
    )
    embed.add_argument(
        "--workers",
        type=_readers,
        default=min(os.cpu_count() or 1, 16),
        metavar="N",
        help="reading processes; 0 reads in the main one (default: one for each core, at most 16)",
    )
    embed.add_argument("--overwrite", action="store_true", help="embed again what the table holds")
    embed.set_defaults(run=_embed)


def _add_info(commands) -> None:
    info = commands.add_parser("info", help="describe a checkpoint and check its fingerprint")
    info.add_argument("folder", metavar="DIR")
    info.set_defaults(run=_info)


def _add_convert(commands) -> None:
    convert = commands.add_parser("convert", help="convert weights from or to PyTorch")
    convert.add_argument(
        "input", metavar="FILE", help="clef_small.ckpt, ...; a DIR with --to_torch"
    )
    convert.add_argument("--out", required=True, help="folder to write; a file with --to_torch")
    convert.add_argument(
        "--to_torch", action="store_true", help="write a file that the original project loads"
    )
    convert.set_defaults(run=_convert)


def _embed(arguments: argparse.Namespace) -> int:
    from clef_jax.data.windows.cut import WindowSettings
    from clef_jax.data.windows.sources import Request
    from clef_jax.inference import load_encoder
    from clef_jax.inference.run import embed_to_table, errors_path

    if not arguments.out.endswith(".parquet"):
        raise ValueError(f"--out is {arguments.out}; expected a name that ends with .parquet")
    encoder = load_encoder(arguments.weights)
    settings = WindowSettings(
        leads=arguments.lead,
        window_s=arguments.window,
        stride_s=arguments.window if arguments.stride is None else arguments.stride,
        pad=arguments.pad,
        channels=encoder.config.in_channels,
    )
    summary = embed_to_table(
        encoder,
        arguments.paths,
        arguments.out,
        Request(settings, arguments.fs, arguments.lead_names, arguments.units),
        batch_size=arguments.batch_size,
        workers=arguments.workers,
        overwrite=arguments.overwrite,
    )
    failed = [failure for failure in summary.failures if not failure.skipped]
    flags = ", ".join(f"{count} {flag}" for flag, count in sorted(summary.flags.items()))
    print(
        f"{summary.found} recordings found: {summary.embedded} embedded ({summary.rows} rows: "
        f"{flags or 'none'}), {summary.skipped} skipped as embedded before, "
        f"{len(failed)} failed; {summary.seconds:.1f} s"
    )
    if summary.rows_in_table:
        print(f"{arguments.out}: {summary.rows_in_table} rows")
    else:
        print(f"{arguments.out}: not written, as nothing is embedded")
    for failure in failed[:5]:
        print(f"failed: {failure.error}", file=sys.stderr)
    if tables := len(summary.failures) - len(failed):
        print(f"{tables} files skipped as tables, not recordings", file=sys.stderr)
    if summary.failures:
        print(f"all of them: {errors_path(arguments.out)}", file=sys.stderr)
    return SOME_FAILED if failed else 0


def _info(arguments: argparse.Namespace) -> int:
    import jax

    from clef_jax.data.signals.spec import recipe
    from clef_jax.inference import fingerprints_agree, load_encoder

    encoder = load_encoder(arguments.folder)
    count = sum(leaf.size for leaf in jax.tree.leaves(encoder.params))
    print(
        f"{encoder.config.name}: {count:,} parameters, {encoder.config.embedding_dim}-d embedding"
    )
    print(json.dumps(dataclasses.asdict(encoder.config)))
    print(f"preprocessing: {json.dumps(encoder.preprocessing.to_dict())}")
    written = encoder.meta["preprocessing"]["version"]
    if written != encoder.preprocessing.version:
        print(f"trained on version {written}: the same for recordings at 500 Hz")
    print(f"in Python:\n\n{textwrap.indent(recipe(encoder.preprocessing), '    ')}")
    print(f"provenance: {json.dumps(encoder.meta.get('provenance', {}), indent=2)}")
    print(f"written by: {json.dumps(encoder.meta.get('versions', {}))}")
    if encoder.classifier is not None:
        print(f"classifier: {encoder.classifier['bias'].size} classes")
    stored = encoder.meta.get("fingerprint")
    if not stored:
        print(f"fingerprint: none stored; computed {encoder.fingerprint}")
    elif fingerprints_agree(encoder.fingerprint, stored):
        print("fingerprint: computed as stored")
    else:
        print(
            f"{arguments.folder}: fingerprint {encoder.fingerprint} computed, {stored} stored: the "
            "weights or their computation changed; convert them again and compare",
            file=sys.stderr,
        )
        return 1
    return 0


def _convert(arguments: argparse.Namespace) -> int:
    from clef_jax.convert import convert_to_folder, export_to_torch, report_lines

    if arguments.to_torch:
        config = export_to_torch(arguments.input, arguments.out)
        print(f"{arguments.out}: {config.name}, for the original project with strict=True")
        return 0
    if os.path.isdir(arguments.input):
        raise ValueError(
            f"{arguments.input}: is a folder; expected a PyTorch file, or with --to_torch an "
            "encoder's folder"
        )
    config, report, meta = convert_to_folder(arguments.input, arguments.out)
    print("\n".join(report_lines(config, report, meta)))
    print(f"written: {arguments.out}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, 1 after an error, or 3 where some recordings failed.

    Raises:
        SystemExit: The arguments are wrong (2), or ask for help or the version (0).
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        return arguments.run(arguments)
    except (ValueError, OSError) as error:
        print(f"clef-jax {arguments.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            f"clef-jax {arguments.command}: interrupted; the same command goes on where it stopped",
            file=sys.stderr,
        )
        return 130


if __name__ == "__main__":
    sys.exit(main())
