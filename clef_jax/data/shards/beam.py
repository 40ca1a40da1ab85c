"""Shards written by Apache Beam, by whatever runs its pipelines: this machine or a cluster.

Listing, plan and merge stay with `write_shards`, in the process that starts the pipeline. What the
pipeline maps is the function that worker processes of one machine call, one shard a time, so that
the files are the same. All workers must find recordings and shards under the same paths.
"""

import contextlib
import dataclasses
import functools
import logging
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from clef_jax.data.shards.parts import PARTS, is_finished
from clef_jax.data.shards.plan import WriteError
from clef_jax.data.shards.task import ShardTask, write_shard

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

_ROW_SCHEMA = pa.schema([(name, pa.string()) for name in ("record", "file", "patient", "study")])


def read_options(options: Sequence[str]) -> "PipelineOptions":
    """Returns Beam's options of a command line's, such as `--runner=FlinkRunner`.

    Raises:
        WriteError: Apache Beam is not installed, or it knows no such option.
    """
    try:
        from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
    except ImportError:
        raise WriteError(
            "--engine=beam needs Apache Beam: pip install 'clef-jax[beam]', on all of its workers"
        ) from None
    found = PipelineOptions(list(options))
    # A cluster may know options that Beam itself does not; without a runner, it is Beam that runs.
    given = found.get_all_options(retain_unknown_options=True)
    unknown = sorted(given.keys() - found.get_all_options().keys())
    if unknown and found.view_as(StandardOptions).runner in (None, "DirectRunner"):
        raise WriteError(
            f"--beam_options: Apache Beam's DirectRunner has no option {', '.join(unknown)}; "
            "correct it, or name the --runner that has it"
        )
    return found


def write_on_beam(tasks: Sequence[ShardTask], options: "PipelineOptions") -> None:
    """Writes the shards of tasks, at least one, all of one set.

    Raises:
        WriteError: As of `write_shard`; the pipeline failed; or its workers wrote elsewhere.
    """
    import apache_beam as beam

    # It would print the traceback of what is raised below.
    logging.getLogger("apache_beam.runners.common").setLevel(logging.CRITICAL)
    out = tasks[0].out
    again = "run the same command again: finished shards are kept"
    with _rows_beside(tasks) as path:
        pipeline = beam.Pipeline(options=options)
        numbered = [
            (number, dataclasses.replace(task, rows=task.rows[:0]))
            for number, task in enumerate(tasks)
        ]
        (
            pipeline
            | "Shards" >> beam.Create(numbered)
            | "Write" >> beam.Map(functools.partial(_write, path))
        )
        try:
            state = pipeline.run().wait_until_finish()
        except WriteError:
            raise
        except Exception as error:
            reason = str(error).strip().rpartition("\n")[-1] or type(error).__name__
            raise WriteError(f"{out}: Apache Beam's pipeline failed: {reason}; {again}") from error
    missing = [task for task in tasks if not is_finished(out, task.shard, task.plan)]
    if missing:
        raise WriteError(
            f"{out}: Apache Beam's pipeline ended ({state}), and {len(missing)} of {len(tasks)} "
            f"shards are not there; its workers must find {out} and {tasks[0].records_folder} "
            f"under these paths; {again}"
        )


@contextlib.contextmanager
def _rows_beside(tasks: Sequence[ShardTask]) -> Iterator[str]:
    """Leaves the tasks' rows in a file beside the parts, a row group each, for as long as it lasts.

    Those of a large set are too many for a pipeline to carry: some runners refuse 10 MB.
    """
    # What a killed run leaves of that name is removed by the next.
    path = os.path.join(tasks[0].out, PARTS, "rows.parquet.tmp")
    try:
        with pq.ParquetWriter(path, _ROW_SCHEMA) as writer:
            for task in tasks:
                rows = pa.Table.from_pandas(task.rows, _ROW_SCHEMA, preserve_index=False)
                writer.write_table(rows, row_group_size=len(task.rows))
        yield path
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _write(path: str, numbered: tuple[int, ShardTask]) -> Any:
    """Runs in a worker."""
    from apache_beam.metrics import Metrics

    number, task = numbered
    with pq.ParquetFile(path) as stored:
        rows = stored.read_row_group(number).to_pandas()
    records = Metrics.counter("write_shards", "records")
    write_shard(dataclasses.replace(task, rows=rows), records.inc)
