"""Pretrains an encoder from shards; running the same command again continues where it stopped."""

import json
import os
import pathlib
import sys

# Configurations import each other as `configs.…`, from the root of the clone.
_ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(_ROOT))
_EXAMPLE = str(_ROOT / "configs" / "clef_small.py")

from absl import flags, logging
from ml_collections import config_flags

from clef_jax.cli import tool
from clef_jax.hardware import allocator

# A file need not list all methods' options, nor all evaluators; `tool.run` refuses other keys.
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Configuration file.", lock_config=False, accept_new_attributes=True
)
_SHARDS = flags.DEFINE_string("shards", None, "From tools/write_shards.py: folder, or gs://…")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of this run, or gs://…")
_CHECK = flags.DEFINE_string(
    "check", None, "Devices, v5e:4x4 or h100: says if the run fits and compiles; runs nothing."
)
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, if several.")
_PROCESSES = flags.DEFINE_integer("processes", None, "How many, where no cluster says it.")
_PROCESS = flags.DEFINE_integer("process", None, "Which this is, where no cluster says it.")


def _unlisted() -> tool.Unlisted:
    from clef_jax.train.settings import RENAMED, describe_unlisted

    return tool.Unlisted(describe_unlisted(), RENAMED)


def _check():
    """Prints what the compiler of other devices says of the run."""
    # Described devices need none of this machine's, which may be held by another process.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from clef_jax.train.check import check_run

    report = check_run(_CONFIG.value, _CHECK.value)
    print(json.dumps(report, indent=2))
    print(report["summary"], file=sys.stderr)


def main():
    """Runs or continues the run, and prints its report."""
    if _CHECK.value:
        return _check()
    if allocator.steps_run_on_cpu():
        allocator.keep_freed_memory()
    # Imported late: reading processes do without jax, and its devices start once all have joined.
    from clef_jax.cluster.enter import in_place
    from clef_jax.hardware.compiling import keep_programs

    with in_place(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value):
        keep_programs()
        logging.set_verbosity(logging.WARNING)  # Orbax reports every step of every save as info.
        import jax

        from clef_jax.train.pretrain import pretrain

        report = pretrain(_CONFIG.value, _SHARDS.value, _WORKDIR.value)
        if jax.process_index() == 0:
            print(json.dumps(report, indent=2))


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    flags.register_multi_flags_validator(
        ["shards", "workdir", "check"],
        lambda given: given["check"] or (given["shards"] and given["workdir"]),
        "--shards and --workdir are needed (or --check=DEVICES, which runs nothing)",
    )
    stored = ("shards", "workdir", "config.init")
    tool.run(main, example_config=_EXAMPLE, unlisted=_unlisted, in_stores=stored)
