"""What commands share that write a table of recordings' windows: arguments, and the last words."""

import argparse
import os
import sys

from clef_jax.cli.arguments import UsageError, count, names, positive, readers

SOME_FAILED = 3


def add_paths(command: argparse.ArgumentParser) -> None:
    """Adds the argument that names recordings."""
    command.add_argument(
        "paths",
        nargs="+",
        metavar="FILE|DIR|GLOB",
        help="recordings (WFDB, EDF, DICOM ...), folders of them, shards folders; with --fs also "
        "files without a rate of their own (CSV, NPY, MATLAB ...)",
    )


def add_hints(command: argparse.ArgumentParser) -> None:
    """Adds the arguments that say of recordings what their files do not."""
    command.add_argument("--fs", type=positive, metavar="HZ", help="sampling rate of files without")
    command.add_argument(
        "--lead_names", type=names, metavar="I,II,...", help="leads of files that do not name them"
    )
    command.add_argument(
        "--units",
        choices=("mV", "uV", "V"),
        help="of such files that name none (default: mV)",
    )


def add_reading(command: argparse.ArgumentParser) -> None:
    """Adds the arguments that say how recordings are read, and by how many processes."""
    add_hints(command)
    command.add_argument(
        "--batch_size",
        type=count,
        metavar="N",
        help="windows that a device computes at once (default: 8 on a CPU, else 64)",
    )
    command.add_argument(
        "--workers",
        type=readers,
        default=min(os.cpu_count() or 1, 16),
        metavar="N",
        help="reading processes; 0 reads in the main one (default: one for each core, at most 16)",
    )
    command.add_argument(
        "--overwrite", action="store_true", help="compute again what the table holds"
    )


def hints_of(arguments: argparse.Namespace):
    """Returns what the arguments say of recordings beside their files."""
    from clef_jax.data.recordings.recording import Hints

    return Hints(arguments.fs, arguments.lead_names, arguments.units)


def require_parquet(out: str) -> None:
    """Raises UsageError unless a table's name is that of a Parquet file."""
    if not out.endswith(".parquet"):
        raise UsageError(f"--out is {out}; expected a name that ends with .parquet")


def report_table(report, out: str, done: str) -> int:
    """Prints what became of the recordings, and returns the command's exit code.

    Args:
        report: From `inference.run`.
        out: The table.
        done: What was done to recordings, "embedded" for one.
    """
    from clef_jax.inference.run import errors_path

    failed = [failure for failure in report.failures if not failure.skipped]
    flags = ", ".join(f"{count} {flag}" for flag, count in sorted(report.flags.items()))
    print(
        f"{report.found} recordings found: {report.embedded} {done} ({report.rows} rows: "
        f"{flags or 'none'}), {report.skipped} skipped as {done} before, "
        f"{len(failed)} failed; {report.seconds:.1f} s"
    )
    if report.rows_in_table:
        print(f"{out}: {report.rows_in_table} rows")
    else:
        print(f"{out}: not written, as nothing is {done}")
    for failure in failed[:5]:
        print(f"failed: {failure.error}", file=sys.stderr)
    if tables := len(report.failures) - len(failed):
        print(f"{tables} files skipped as tables, not recordings", file=sys.stderr)
    if report.failures:
        print(f"all of them: {errors_path(out)}", file=sys.stderr)
    return SOME_FAILED if failed else 0
