"""clef-jax tasks: what can be evaluated, what it needs, and how to get it."""

import argparse
import textwrap

_WIDTH = 100
_INDENT = 16


def add_command(commands) -> None:
    """Adds the command to the parser."""
    tasks = commands.add_parser(
        "tasks",
        help="list the tasks of evaluation, what each needs and how to get it",
        description="Lists the tasks. With a NAME it says of each all that is needed to get its "
        "dataset; with --root also which of its files are missing there, and of those that are "
        "there the labels by split.",
    )
    tasks.add_argument(
        "name", nargs="?", metavar="NAME", help="a task, a dataset (ptbxl), or a pattern (*/sbp)"
    )
    tasks.add_argument("--root", metavar="DIR", help="a dataset's folder, or one of several")
    tasks.add_argument(
        "--preset",
        choices=("clean", "reference"),
        default="clean",
        help="whose labels and splits to count (default: clean)",
    )
    tasks.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from clef_jax.evaluate.datasets.suite import find_tasks

    tasks = find_tasks(arguments.name or "all")
    if arguments.name is None:
        _list(tasks, arguments.root)
    else:
        for number, task in enumerate(tasks):
            if number:
                print()
            _describe(task, arguments.root, arguments.preset)
    return 0


def _list(tasks, root: str | None) -> None:
    from clef_jax.evaluate.datasets.suite import missing

    rows = [("task", "kind", "classes", "access", "download", "files" if root else "")]
    absent_of: dict[str, list[str]] = {}
    for task in tasks:
        info = task.info
        state = ""
        if root:
            dataset = info.name.split("/")[0]
            absent_of[dataset] = missing(task, root)
            state = "missing" if absent_of[dataset] else "found"
        classes = str(len(info.classes)) if info.kind.startswith("multi") else ""
        rows.append((info.name, info.kind, classes, info.access, info.download, state))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(padded).rstrip())
    if any(absent_of.values()):
        print(f"\nmissing in {root}")
    for dataset, absent in absent_of.items():
        if absent:
            _tell(dataset, ", ".join(absent))
    print("\nclef-jax tasks NAME tells how to get it, and with --root whether its files are whole.")


def _describe(task, root: str | None, preset: str) -> None:
    info = task.info
    print(info.name)
    classes = ", ".join(info.classes) + (f" ({info.unit})" if info.unit else "")
    files = ", ".join(task.needs)
    if task.apart:
        files += f" ({', '.join(task.apart)} may lie in another folder below --root)"
    facts = {
        "kind": info.kind,
        "predicts": classes,
        "leads": ", ".join(info.leads),
        "dataset": info.source,
        "licence": info.licence,
        "access": info.access,
        "download": info.download,
        "how to get it": info.how_to_get,
        "needs": files,
        "cite": info.citation,
        "original": info.original,
    }
    for name, text in facts.items():
        _tell(name, text)
    if root:
        _tell_state(task, root, preset)


def _tell_state(task, root: str, preset: str) -> None:
    from clef_jax.errors import ClefError
    from clef_jax.evaluate.datasets.suite import missing
    from clef_jax.evaluate.tasks.task import label_counts

    if absent := missing(task, root):
        _tell("missing", f"{', '.join(absent)}: neither in {root} nor in a folder below")
        return
    try:
        examples = task.examples(root, preset, (*task.info.leads, "I")[0])
    except (ClefError, OSError) as error:
        _tell("not usable", str(error))
        return
    _tell("found in", examples.root)
    for split, counts in label_counts(task.info, examples).items():
        people = f"{counts.pop('examples'):,} examples, {counts.pop('patients'):,} patients"
        _tell(split, f"{people}; {', '.join(f'{name} {n:,}' for name, n in counts.items())}")
    for note in examples.notes:
        _tell("note", note)


def _tell(name: str, text: str) -> None:
    """Prints a fact; commands and paths are not broken, so that they can be copied."""
    print(
        textwrap.fill(
            text,
            _WIDTH,
            initial_indent=f"  {name}".ljust(_INDENT),
            subsequent_indent=" " * _INDENT,
            break_long_words=False,
            break_on_hyphens=False,
        )
    )
