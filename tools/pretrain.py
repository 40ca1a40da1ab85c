"""Pretrains an encoder from shards; running the same command again continues where it stopped."""

import json
import pathlib
import sys

# Configurations import each other as `configs.…`, from the root of the clone.
_ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(_ROOT))

from absl import flags, logging
from ml_collections import config_flags

from clef_jax.cli import tool
from clef_jax.hardware import allocator

# A file need not list all methods' options, nor all evaluators; `tool.run` refuses other keys.
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Configuration file.", lock_config=False, accept_new_attributes=True
)
_SHARDS = flags.DEFINE_string("shards", None, "Folder written by tools/write_shards.py.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of this run.")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "host:port of process 0, if several.")
_PROCESSES = flags.DEFINE_integer("processes", 1, "Number of processes.")
_PROCESS = flags.DEFINE_integer("process", 0, "Number of this process.")


def _unlisted() -> tool.Unlisted:
    from clef_jax.train.settings import RENAMED, describe_unlisted

    return tool.Unlisted(describe_unlisted(), RENAMED)


def main():
    """Runs or continues the run, and prints its report."""
    if allocator.steps_run_on_cpu():
        allocator.keep_freed_memory()
    # Imported only now: reading processes import this file too, and do without jax; and jax must
    # not start its devices before the processes have joined.
    from clef_jax import hosts
    from clef_jax.hardware.compiling import keep_programs

    keep_programs()
    hosts.initialize(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    logging.set_verbosity(logging.WARNING)  # Orbax reports every step of every save as info.
    import jax

    from clef_jax.train.pretrain import pretrain

    report = pretrain(_CONFIG.value, _SHARDS.value, _WORKDIR.value)
    if jax.process_index() == 0:
        print(json.dumps(report, indent=2))


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "shards", "workdir"])
    tool.run(main, example_config=str(_ROOT / "configs" / "clef_small.py"), unlisted=_unlisted)
