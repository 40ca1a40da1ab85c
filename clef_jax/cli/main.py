"""The installed command `clef-jax`.

Reading processes import this module when they start, so only the commands import jax.
"""

import argparse
import sys
from collections.abc import Sequence

import clef_jax
from clef_jax.cli import (
    convert,
    embed,
    evaluate,
    finetune,
    info,
    predict,
    report,
    tasks,
    tune,
)
from clef_jax.cli.arguments import require_disks
from clef_jax.cli.ending import line_of


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="clef-jax", description="Embeddings of ECG recordings from CLEF weights."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {clef_jax.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for command in (embed, info, convert, tune, tasks, evaluate, report, finetune, predict):
        command.add_command(commands)
    return parser


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
        require_disks(vars(arguments))
        return arguments.run(arguments)
    except Exception as error:
        if (line := line_of(error)) is None:
            raise
        print(f"clef-jax {arguments.command}: {line}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            f"clef-jax {arguments.command}: interrupted; the same command goes on where it stopped",
            file=sys.stderr,
        )
        return 130


if __name__ == "__main__":
    sys.exit(main())
