"""clef-jax convert: weights from and to PyTorch."""

import argparse
import os

from clef_jax.cli.arguments import UsageError


def add_command(commands) -> None:
    """Adds the command to the parser."""
    convert = commands.add_parser("convert", help="convert weights from or to PyTorch")
    convert.add_argument(
        "input", metavar="FILE", help="clef_small.ckpt, ...; a DIR with --to_torch"
    )
    convert.add_argument("--out", required=True, help="folder to write; a file with --to_torch")
    convert.add_argument(
        "--to_torch", action="store_true", help="write a file that the original project loads"
    )
    convert.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from clef_jax.convert import convert_to_folder, export_to_torch, report_lines

    if arguments.to_torch:
        config = export_to_torch(arguments.input, arguments.out)
        print(f"{arguments.out}: {config.name}, for the original project with strict=True")
        return 0
    if os.path.isdir(arguments.input):
        raise UsageError(
            f"{arguments.input}: is a folder; expected a PyTorch file, or with --to_torch an "
            "encoder's folder"
        )
    config, report, meta = convert_to_folder(arguments.input, arguments.out)
    print("\n".join(report_lines(config, report, meta)))
    print(f"written: {arguments.out}")
    return 0
