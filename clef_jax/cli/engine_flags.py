"""The flags that say what writes shards: processes of this machine, or Apache Beam's workers."""

import functools
import shlex

from absl import flags

from clef_jax.cli.arguments import UsageError
from clef_jax.data.shards import beam
from clef_jax.data.shards.write import Engine

_ENGINE = flags.DEFINE_enum(
    "engine", "local", ["local", "beam"], "Processes of this machine, or Apache Beam's workers."
)
_WORKERS = flags.DEFINE_integer("workers", None, "Processes of --engine=local; default: one a CPU.")
_BEAM = flags.DEFINE_string(
    "beam_options",
    None,
    "Of --engine=beam, in one text: '--runner=FlinkRunner --flink_master=HOST:8081'; default: "
    "Beam's DirectRunner, on this machine.",
)


def engine() -> Engine | None:
    """Returns the engine that the command line names, None for processes of this machine.

    Raises:
        UsageError: An option belongs to the other engine.
        WriteError: Apache Beam is not installed, or it knows no such option.
    """
    local = _ENGINE.value == "local"
    if not local and _WORKERS.value is not None:
        raise UsageError(
            "--workers belongs to --engine=local; with --engine=beam the runner's own "
            "--beam_options say how many, of the DirectRunner "
            "'--direct_num_workers=4 --direct_running_mode=multi_processing'"
        )
    if local and _BEAM.value is not None:
        raise UsageError("--beam_options belongs to --engine=beam")
    if local:
        return None
    options = beam.read_options(shlex.split(_BEAM.value or ""))
    return functools.partial(beam.write_on_beam, options=options)


def workers() -> int | None:
    """Returns the number of processes that the command line names, if any."""
    return _WORKERS.value
