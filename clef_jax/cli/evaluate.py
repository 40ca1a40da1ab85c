"""clef-jax evaluate: tasks put to encoders and to what needs none, into a folder of results."""

import argparse
import os
import pathlib
import shlex
import sys

from clef_jax.cli.arguments import UsageError, count, names, readers, shares
from clef_jax.cli.window_tables import add_hints, hints_of

SOME_NOT_RUN = 3
# The original's lead; both limb leads, for those who have one of them.
_LEADS = {"reference": ("II",), "clean": ("I", "II")}


def add_command(commands) -> None:
    """Adds the command to the parser."""
    evaluate = commands.add_parser(
        "evaluate",
        help="put tasks to encoders and to baselines",
        description="Puts a task of the suite, or a table of your own, to encoders, and to "
        "baselines beside them. The folder --out gets results.parquet, predictions.parquet, "
        "comparisons.parquet, tasks.json and summary.json; a killed run goes on where it stopped. "
        f"Exit code {SOME_NOT_RUN}: some tasks could not be run, or some files not be read, each "
        "with the reason in summary.json or errors.csv.",
    )
    _add_what(evaluate)
    _add_how(evaluate)
    evaluate.add_argument("--out", required=True, metavar="R", help="folder of results")
    evaluate.add_argument(
        "--workers",
        type=readers,
        default=min(os.cpu_count() or 1, 16),
        metavar="N",
        help="reading processes; 0 reads in the main one (default: one for each core, at most 16)",
    )
    evaluate.set_defaults(run=_run)


def _add_what(evaluate: argparse.ArgumentParser) -> None:
    """Adds what is asked, of which recordings."""
    what = evaluate.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--task", metavar="NAME", help="a task, a dataset (ptbxl), a pattern (*/sbp), or 'all'"
    )
    what.add_argument(
        "--table",
        metavar="CSV",
        help="a table with the column file, label columns, and if known patient, split, lead, "
        "start_s, age, sex, site",
    )
    evaluate.add_argument(
        "--root",
        metavar="DIR",
        help="of the dataset, or of several; of a table's files (default: the table's own folder)",
    )
    evaluate.add_argument(
        "--label", type=names, metavar="A[,B]", help="label columns of --table (default: all)"
    )
    evaluate.add_argument(
        "--kind",
        choices=("binary", "multilabel", "multiclass", "regression"),
        help="of the labels of --table (default: by their values)",
    )
    add_hints(evaluate)


def _add_how(evaluate: argparse.ArgumentParser) -> None:
    """Adds who is asked, and how."""
    evaluate.add_argument(
        "--weights",
        required=True,
        action="append",
        metavar="DIR",
        help="converted or pretrained; again for each to compare; 'random' for untrained encoders",
    )
    evaluate.add_argument(
        "--mode",
        choices=("probe", "finetune", "frozen", "scratch"),
        default="probe",
        help="linear probes of embeddings; or training all weights, a head alone, or all from "
        "random ones (default: probe)",
    )
    evaluate.add_argument(
        "--preset",
        choices=tuple(_LEADS),
        default="clean",
        help="'reference' does all as the original, mistakes included (default: clean)",
    )
    evaluate.add_argument(
        "--lead",
        type=names,
        metavar="I[,II]",
        help="each evaluated by itself (default: I,II; of the reference II)",
    )
    evaluate.add_argument(
        "--fraction",
        type=shares,
        default=(1.0,),
        metavar="F[,F]",
        help="shares of the training patients to learn from, such as 0.01,0.1,1 (default: 1)",
    )
    evaluate.add_argument(
        "--seeds",
        type=count,
        default=3,
        metavar="N",
        help="untrained encoders, and trainings of others (default: 3)",
    )


def _run(arguments: argparse.Namespace) -> int:
    try:
        import sklearn  # noqa: F401
    except ImportError:
        raise UsageError("evaluating needs scikit-learn: pip install 'clef-jax[eval]'") from None
    from clef_jax.evaluate.asking.encoders import contestants
    from clef_jax.evaluate.asking.run import Choices, evaluate
    from clef_jax.hardware.compiling import keep_programs

    tasks = _tasks(arguments)
    keep_programs()
    choices = Choices(
        mode=arguments.mode,
        preset=arguments.preset,
        leads=arguments.lead or _LEADS[arguments.preset],
        fractions=arguments.fraction,
        seeds=arguments.seeds,
        workers=arguments.workers,
    )
    summary = evaluate(
        tasks,
        arguments.root or "",
        contestants(arguments.weights, arguments.seeds),
        choices,
        pathlib.Path(arguments.out),
        command=shlex.join(["clef-jax", *sys.argv[1:]]),
    )
    for done in summary.done:
        print(f"done: {done['task']}, lead {done['lead']}")
    for left in summary.not_run:
        print(f"not run: {left['task']}: {left['reason']}", file=sys.stderr)
    print(
        f"{arguments.out}: results of {len(summary.done)} questions; {len(summary.not_run)} tasks "
        f"not run; {summary.unreadable} examples unreadable; {summary.seconds:.0f} s"
    )
    if summary.unreadable:
        print(f"these examples: {arguments.out}/errors.csv", file=sys.stderr)
    return SOME_NOT_RUN if summary.not_run or summary.unreadable else 0


def _tasks(arguments: argparse.Namespace):
    """Returns the tasks asked for; flags of tables are refused beside a task."""
    from clef_jax.data.recordings.recording import Hints
    from clef_jax.evaluate.datasets.suite import find_tasks
    from clef_jax.evaluate.datasets.user_table import user_task

    hints = hints_of(arguments)
    if arguments.table is not None:
        kind = arguments.kind
        return [user_task(arguments.table, labels=arguments.label, kind=kind, hints=hints)]
    if arguments.root is None:
        raise UsageError("--task needs --root: the folder of its dataset, or of several")
    if hints != Hints() or arguments.label or arguments.kind:
        raise UsageError(
            "--label, --kind, --fs, --lead_names and --units are for --table; a task knows its own"
        )
    return find_tasks(arguments.task)
