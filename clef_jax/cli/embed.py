"""clef-jax embed: recordings into a table of embeddings."""

import argparse
import os
import sys

from clef_jax.cli.arguments import UsageError, count, names, positive, readers

SOME_FAILED = 3


def add_command(commands) -> None:
    """Adds the command to the parser."""
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
        help="recordings (WFDB, EDF, DICOM ...), folders of them, shards folders; with --fs also "
        "files without a rate of their own (CSV, NPY, MATLAB ...)",
    )
    embed.add_argument("--weights", required=True, metavar="DIR", help="converted or pretrained")
    embed.add_argument("--out", required=True, metavar="E.parquet", help="the table to write")
    embed.add_argument(
        "--lead",
        type=names,
        metavar="I[,II,...]",
        help="lead to embed, or several in order of preference, or 'all' (default: I, or the only "
        "lead of a recording that does not name it)",
    )
    embed.add_argument(
        "--window", type=positive, metavar="S", help="seconds (default: the encoder's, 10)"
    )
    embed.add_argument("--stride", type=positive, metavar="S", help="seconds (default: --window)")
    embed.add_argument("--pad", action="store_true", help="pad recordings shorter than a window")
    embed.add_argument("--fs", type=positive, metavar="HZ", help="sampling rate of files without")
    embed.add_argument(
        "--lead_names", type=names, metavar="I,II,...", help="leads of files that do not name them"
    )
    embed.add_argument(
        "--units",
        choices=("mV", "uV", "V"),
        help="of such files that name none (default: mV)",
    )
    embed.add_argument(
        "--batch_size",
        type=count,
        metavar="N",
        help="windows that a device embeds at once (default: 8 on a CPU, else 64)",
    )
    embed.add_argument(
        "--workers",
        type=readers,
        default=min(os.cpu_count() or 1, 16),
        metavar="N",
        help="reading processes; 0 reads in the main one (default: one for each core, at most 16)",
    )
    embed.add_argument("--overwrite", action="store_true", help="embed again what the table holds")
    embed.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from clef_jax.data.recordings.recording import Hints
    from clef_jax.data.windows.cut import WindowSettings
    from clef_jax.data.windows.pool import Request
    from clef_jax.hardware.compiling import keep_programs
    from clef_jax.inference import load_encoder
    from clef_jax.inference.run import embed_to_table, errors_path

    if not arguments.out.endswith(".parquet"):
        raise UsageError(f"--out is {arguments.out}; expected a name that ends with .parquet")
    keep_programs()
    encoder = load_encoder(arguments.weights)
    settings = WindowSettings(
        preprocessing=encoder.preprocessing,
        leads=arguments.lead,
        window_s=arguments.window,
        stride_s=arguments.stride,
        pad=arguments.pad,
        channels=encoder.config.in_channels,
    )
    report = embed_to_table(
        encoder,
        arguments.paths,
        arguments.out,
        Request(settings, Hints(arguments.fs, arguments.lead_names, arguments.units)),
        batch_size=arguments.batch_size,
        workers=arguments.workers,
        overwrite=arguments.overwrite,
    )
    failed = [failure for failure in report.failures if not failure.skipped]
    flags = ", ".join(f"{count} {flag}" for flag, count in sorted(report.flags.items()))
    print(
        f"{report.found} recordings found: {report.embedded} embedded ({report.rows} rows: "
        f"{flags or 'none'}), {report.skipped} skipped as embedded before, "
        f"{len(failed)} failed; {report.seconds:.1f} s"
    )
    if report.rows_in_table:
        print(f"{arguments.out}: {report.rows_in_table} rows")
    else:
        print(f"{arguments.out}: not written, as nothing is embedded")
    for failure in failed[:5]:
        print(f"failed: {failure.error}", file=sys.stderr)
    if tables := len(report.failures) - len(failed):
        print(f"{tables} files skipped as tables, not recordings", file=sys.stderr)
    if report.failures:
        print(f"all of them: {errors_path(arguments.out)}", file=sys.stderr)
    return SOME_FAILED if failed else 0
