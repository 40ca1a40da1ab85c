r"""Chooses the algorithm of every grouped convolution by measuring them on this machine.

    python -m benchmarks.tune_grouped_conv
    python -m benchmarks.tune_grouped_conv --dtype bfloat16 --views 256

Times every pass of every layer of the three sizes with every algorithm, prints one line a pass, and
writes the winners into `clef_jax/ops/grouped_conv/table.py` under this backend and type; entries of
other backends and types stay. `clef-jax tune` does the same for one user's devices, within a time.
Takes about six minutes on two cores.
"""

import json
import os
import pathlib

import jax
from absl import app, flags

from clef_jax.data.signals.spec import CLEF_V2
from clef_jax.files import replacing
from clef_jax.hardware import allocator
from clef_jax.models import get_config
from clef_jax.ops.grouped_conv import table, tuning

_SIZES = flags.DEFINE_list("sizes", "clef_small,clef_medium,clef_large", "Sizes to tune for.")
_DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Type to compute in.")
_VIEWS = flags.DEFINE_integer("views", None, "Views on the device; by default 128 for small, else "
                              "16, and 8 times that on accelerators.")  # fmt: skip
_QUICK = flags.DEFINE_bool("quick", False, "One layer, two rounds, nothing written.")


def write_table(platform: str, dtype: str, entries: dict[str, list[str]]) -> None:
    """Merges entries into the module that holds the table."""
    known = {p: {d: dict(e) for d, e in t.items()} for p, t in table.TABLE.items()}
    known.setdefault(platform, {}).setdefault(dtype, {}).update(entries)
    path = pathlib.Path(table.__file__)
    head = path.read_text().split("TABLE = ")[0]
    with replacing(os.fspath(path)) as temporary:
        pathlib.Path(temporary).write_text(f"{head}TABLE = {_one_line_a_layer(known)}\n")


def _one_line_a_layer(table: dict) -> str:
    lines = ["{"]
    for platform, of_type in table.items():
        lines.append(f'    "{platform}": {{')
        for dtype, of_layer in of_type.items():
            lines.append(f'        "{dtype}": {{')
            lines += [f'            "{k}": {json.dumps(v)},' for k, v in of_layer.items()]
            lines.append("        },")
        lines.append("    },")
    return "\n".join([*lines, "}"])


def main(argv: list[str]) -> None:
    """Measures, prints, writes."""
    del argv
    allocator.keep_freed_memory()
    accelerated = jax.default_backend() != "cpu"
    entries: dict[str, list[str]] = {}
    for size in _SIZES.value:
        views = _VIEWS.value or (128 if size == "clef_small" else 16) * (8 if accelerated else 1)
        convolutions = get_config(size).convolutions(CLEF_V2.samples)
        untuned = [c for c in convolutions if str(c.layer) not in entries]
        rounds = {"rounds": 2} if _QUICK.value else {}
        for finding in tuning.tune(untuned, views=views, dtype=_DTYPE.value, **rounds):
            entries[str(finding.layer)] = [str(algorithm) for algorithm in finding.best]
            print(finding)
            for name, seconds in finding.seconds.items():
                ranked = sorted(seconds.items(), key=lambda item: item[1])[:4]
                shown = ", ".join(f"{text} {1e3 * s:.2f}" for text, s in ranked)
                print(f"    {name:16} ms: {shown}", flush=True)
            if _QUICK.value:
                return
    write_table(tuning.platform(), _DTYPE.value, entries)


if __name__ == "__main__":
    app.run(main)
