"""clef-jax finetune: an encoder and a table of labels into a head that predicts."""

import argparse
import os
import shutil
import sys

from clef_jax.cli.arguments import UsageError, count, names, positive, readers
from clef_jax.cli.window_tables import SOME_FAILED, add_hints, hints_of


def add_command(commands) -> None:
    """Adds the command to the parser."""
    finetune = commands.add_parser(
        "finetune",
        help="train an encoder for the labels of a table",
        description="Trains an encoder for the labels of a table, and writes both as a folder for "
        "`clef-jax predict`. The table has a column file, one or more label columns, and optional "
        "patient, split, lead, start_s; without split, patients are dealt 70/10/20. The same "
        "command goes on where a killed one stopped. "
        f"Exit code {SOME_FAILED}: some files could not be read.",
    )
    finetune.add_argument("--table", required=True, metavar="T.csv", help="CSV or Parquet")
    finetune.add_argument("--weights", required=True, metavar="DIR", help="converted or pretrained")
    finetune.add_argument("--out", required=True, metavar="HEAD", help="folder to write")
    finetune.add_argument(
        "--label", type=names, metavar="A[,B]", help="label columns (default: all others)"
    )
    finetune.add_argument(
        "--kind",
        choices=("binary", "multilabel", "multiclass", "regression"),
        help="of the labels (default: by their values)",
    )
    finetune.add_argument(
        "--root",
        default="",
        metavar="DIR",
        help="that files are relative to (default: the table's own folder)",
    )
    finetune.add_argument("--lead", default="I", help="where the table does not say (default: I)")
    finetune.add_argument(
        "--mode",
        choices=("finetune", "frozen", "scratch"),
        default="finetune",
        help="all weights, the head alone, or all from random ones (default: finetune)",
    )
    finetune.add_argument(
        "--head",
        choices=("linear", "attention", "stages"),
        default="linear",
        help="which features the head reads (default: linear, the embedding)",
    )
    finetune.add_argument("--epochs", type=count, default=30, metavar="N", help="at most")
    finetune.add_argument("--batch_size", type=count, default=64, metavar="N", help="examples")
    finetune.add_argument(
        "--learning_rate",
        type=positive,
        metavar="R",
        help="the head's highest (default: 0.01; 0.001 with --mode scratch)",
    )
    add_hints(finetune)
    finetune.add_argument("--seed", type=readers, default=0, metavar="N", help="of the training")
    finetune.add_argument(
        "--workers",
        type=readers,
        default=min(os.cpu_count() or 1, 16),
        metavar="N",
        help="reading processes; 0 reads in the main one",
    )
    finetune.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from clef_jax.files import only_writer

    out = os.path.normpath(arguments.out)
    if os.path.exists(out):
        raise UsageError(f"--out is {out}, which exists; choose another, or remove it")
    with only_writer(out):
        return _finetune(arguments, out)


def _finetune(arguments: argparse.Namespace, out: str) -> int:
    from clef_jax.evaluate.datasets.user_table import user_task
    from clef_jax.evaluate.finetune import Options, finetune
    from clef_jax.evaluate.finetune.prepared import inputs_of_examples
    from clef_jax.evaluate.metrics.calibration import fit_temperature
    from clef_jax.evaluate.windows.inputs import OwnPreprocessing
    from clef_jax.files import replacing_folder
    from clef_jax.hardware.compiling import keep_programs
    from clef_jax.inference import load_encoder

    options = Options(
        mode=arguments.mode,
        head=arguments.head,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
    )
    keep_programs()
    encoder = load_encoder(arguments.weights)
    task = user_task(
        arguments.table,
        labels=arguments.label,
        kind=arguments.kind,
        hints=hints_of(arguments),
    )
    examples = task.examples(arguments.root, "clean", arguments.lead)
    for note in examples.notes:
        print(note)
    inputs, unread = inputs_of_examples(
        task.info,
        examples,
        OwnPreprocessing(encoder.preprocessing),
        workers=arguments.workers,
    )
    course = f"{out}.run"
    result = finetune(
        encoder,
        inputs,
        options,
        course,
        seeds=(arguments.seed,),
        temperature=lambda target, score: fit_temperature(target, score).value,
    )
    with replacing_folder(out) as unfinished:
        shutil.copytree(result.best, unfinished)
    # Where nothing could be ranked by AUROC there is none.
    metrics = ("validation/auroc", "validation/mae", "validation/loss")
    metric = next(name for name in metrics if name in result.history)
    best = result.history["validation/selection"].idxmin()
    unit = " standard deviations of the training targets" if metric.endswith("mae") else ""
    print(f"{metric}: {result.history.loc[best, metric]:.4f}{unit}; its course is in {course}")
    print(f"written: {out}")
    for one in unread[:5]:
        print(f"left out: {one.error}", file=sys.stderr)
    return SOME_FAILED if unread else 0
