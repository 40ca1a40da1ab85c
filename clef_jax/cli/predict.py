"""clef-jax predict: recordings into a table of predictions."""

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
    predict = commands.add_parser(
        "predict",
        help="predict from recordings into a Parquet table",
        description="Writes what a head, trained by `clef-jax finetune`, says of every window, "
        "into a table with the columns file, record, lead, start_s, fs, quality, label, score "
        "(a probability, calibrated unless classes exclude each other, or a value in its unit), "
        "positive (by the threshold chosen on "
        "validation). Recordings that the table holds already are skipped. "
        f"Exit code {SOME_FAILED}: some recordings failed; they are listed in OUT.errors.csv. "
        "Not a medical device.",
    )
    add_paths(predict)
    predict.add_argument("--weights", required=True, metavar="HEAD", help="fine-tuned")
    predict.add_argument("--out", required=True, metavar="P.parquet", help="the table to write")
    predict.add_argument(
        "--lead",
        type=names,
        metavar="I[,II,...]",
        help="lead to predict from, or several in order of preference, or 'all' (default: the one "
        "that the head was trained on)",
    )
    predict.add_argument(
        "--stride", type=positive, metavar="S", help="seconds (default: a window's length)"
    )
    predict.add_argument("--pad", action="store_true", help="pad recordings shorter than a window")
    add_reading(predict)
    predict.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from clef_jax.evaluate.finetune import load_head, predict_to_table
    from clef_jax.hardware.compiling import keep_programs

    require_parquet(arguments.out)
    keep_programs()
    report = predict_to_table(
        load_head(arguments.weights),
        arguments.paths,
        arguments.out,
        leads=arguments.lead,
        stride_s=arguments.stride,
        pad=arguments.pad,
        hints=hints_of(arguments),
        batch_size=arguments.batch_size,
        workers=arguments.workers,
        overwrite=arguments.overwrite,
    )
    return report_table(report, arguments.out, "predicted")
