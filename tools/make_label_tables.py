"""Makes tables of labels for `clef-jax evaluate --table` from datasets downloaded to one folder.

python tools/make_label_tables.py --root data --out configs/tables
"""

import pathlib
import sys

from absl import flags

from clef_jax.cli import tool
from clef_jax.errors import ClefError
from clef_jax.evaluate.datasets.label_tables import TABLES
from clef_jax.files import only_writer
from clef_jax.tables.files import write_table

ROOT = flags.DEFINE_string("root", None, "Folder of ptb-xl, ludb, cpsc2021.", required=True)
OUT = flags.DEFINE_string("out", None, "Folder to write the tables to.", required=True)


def main():
    """Writes the tables of the datasets that are there, and says which are not."""
    written = 0
    for name, make in TABLES.items():
        path = pathlib.Path(OUT.value) / f"{name}.csv"
        try:
            table = make(ROOT.value)
        except (ClefError, OSError) as error:
            print(f"{name}: not made: {error}", file=sys.stderr)
            continue
        with only_writer(path):
            write_table(table, path)
        written += 1
        print(f"{path}: {len(table):,} examples of {table['patient'].nunique():,} patients")
    if not written:
        sys.exit("make_label_tables: none of the datasets is in --root")


if __name__ == "__main__":
    tool.run(main)
