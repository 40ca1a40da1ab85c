"""clef-jax embed: recordings into a table of embeddings."""

import argparse

from clef_jax.cli.arguments import names, positive
from clef_jax.cli.window_tables import (
    SOME_FAILED,
    add_paths,
    add_reading,
    hints_of,
    report_table,
    require_parquet,
)


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
    add_paths(embed)
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
    add_reading(embed)
    embed.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from clef_jax.data.windows.cut import WindowSettings
    from clef_jax.data.windows.pool import Request
    from clef_jax.hardware.compiling import keep_programs
    from clef_jax.inference import load_encoder
    from clef_jax.inference.run import embed_to_table

    require_parquet(arguments.out)
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
        Request(settings, hints_of(arguments)),
        batch_size=arguments.batch_size,
        workers=arguments.workers,
        overwrite=arguments.overwrite,
    )
    return report_table(report, arguments.out, "embedded")
