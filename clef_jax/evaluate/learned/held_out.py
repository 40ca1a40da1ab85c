"""Who is held out of a report: patients that the encoder's own run did not train on."""

from collections.abc import Mapping
from typing import Any

from absl import logging

from clef_jax.data.annotations.annotations import Annotations
from clef_jax.data.annotations.join import annotate, table_paths
from clef_jax.data.shards.store import ShardSet
from clef_jax.errors import ClefError
from clef_jax.evaluate.learned.recordings import ReportError
from clef_jax.evaluate.learned.tasks import TASKS


def annotate_as_run(
    shards: ShardSet,
    meta: Mapping[str, Any],
    *,
    tables: str | None = None,
    validation_fraction: float | None = None,
    labels: str = "",
) -> Annotations:
    """Returns what is known of the records, with the patients held out that the run held out.

    Of shards that are not the run's own nothing tells which of their patients it trained on, of
    which a warning is given.

    Args:
        shards: The records.
        meta: The encoder's record; a converted encoder's tells of no run.
        tables: As `config.annotations`, where the run's tables lie now; as it had them when None.
        validation_fraction: As in the run's configuration when None.
        labels: Tables of what tasks ask for, with commas between them, known to the run or not.

    Raises:
        ReportError: Its tables do not fit, or others are held out than were in the run.
    """
    config = meta.get("config", {})
    if validation_fraction is None:
        validation_fraction = config.get("validation_fraction")
    recorded = config.get("annotations", "")
    paths = table_paths(recorded if tables is None else tables)
    try:
        annotations = annotate(
            shards.annotations,
            shards.keys(),
            (*paths, *table_paths(labels)),
            welcome={column for task in TASKS for column in task.columns},
            validation_fraction=validation_fraction,
        )
    except ClefError as error:
        if tables is not None:
            raise
        raise ReportError(
            f"{error}\nThe run had config.annotations={recorded}; where these tables lie now say "
            "with --annotations, or that there are none, with --annotations="
        ) from error
    if meta.get("shards") == shards.fingerprint:
        _require_same_split(shards, annotations, meta)
    elif "shards" in meta:
        logging.warning(
            "%s: not the shards that the encoder was trained on, so nothing tells which of their "
            "patients it knows; those count as held out that they, tables or a fraction hold out",
            shards.folder,
        )
    return annotations


def _require_same_split(
    shards: ShardSet, annotations: Annotations, meta: Mapping[str, Any]
) -> None:
    # Before annotations stood apart, a run had those of its shards, as part of their fingerprint.
    expected = meta.get("annotations") or shards.annotations.fingerprints(())
    found = annotations.fingerprints(())["split"]
    if found != expected["split"]:
        raise ReportError(
            f"{shards.folder}: other patients are held out now than in the encoder's run, which "
            f"may have trained on some of them: split {found[:12]}, expected "
            f"{expected['split'][:12]}; say with --annotations and --validation_fraction what the "
            "run and its shards had then, or run tools/write_shards.py with that again"
        )
