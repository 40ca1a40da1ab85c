"""Folders that hold one encoder, and the encoder of any checkpoint."""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from clef_jax import files, stores
from clef_jax.checkpoints.items import params_sha256, stored_shapes
from clef_jax.checkpoints.meta import (
    ARRAYS,
    CHECKPOINTS,
    CheckpointError,
    best_step,
    read_meta,
    reading,
    remedy,
    require_whole,
    steps_in,
)
from clef_jax.checkpoints.quiet import quiet_orbax
from clef_jax.checkpoints.room import require_room
from clef_jax.checkpoints.upgrades import encoder_item

CLASSIFIER = "classifier.npz"
_HEAD = "head"


def save_encoder(
    folder: str | pathlib.Path,
    params: Any,
    meta: Mapping[str, Any],
    *,
    classifier: Mapping[str, np.ndarray] | None = None,
    head: Any = None,
) -> None:
    """Writes an encoder checkpoint folder, which appears once it is whole.

    Args:
        folder: Must not exist yet.
        params: Nested dict of float32 arrays.
        meta: JSON record: `format_version`, `model`, `preprocessing`, `provenance`, ….
        classifier: `kernel` and `bias` of a classifier to keep with it.
        head: Parameters of a head that was trained with it, nested float32 arrays.

    Raises:
        CheckpointError: The folder exists.
        NoRoom: The disk has no room for it.
    """
    stores.require_local(folder)
    path = pathlib.Path(folder).resolve()
    if path.exists():
        raise CheckpointError(f"{path}: exists already; choose another folder or remove it")
    arrays = {"encoder": params} if head is None else {"encoder": params, _HEAD: head}
    require_room(path.parent, arrays)
    items = ocp.args.Composite(
        **{name: ocp.args.StandardSave(item) for name, item in arrays.items()},
        meta=ocp.args.JsonSave(dict(meta)),
    )
    with files.replacing_folder(path) as unfinished:
        # The folder is renamed as a whole, beside which Orbax is to leave none of its own.
        in_place = ocp.path.atomicity.CommitFileTemporaryPath
        with _checkpointer(temporary_path_class=in_place) as checkpointer:
            checkpointer.save(unfinished, items)
        if classifier is not None:
            kernel, bias = classifier["kernel"], classifier["bias"]
            np.savez(unfinished / CLASSIFIER, kernel=kernel, bias=bias)
        files.write_sums(unfinished, unfinished.rglob("*"))


def load_params(folder: str | pathlib.Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns an encoder's parameters, as numpy arrays, and its meta record.

    Args:
        folder: An encoder folder, one step of a run, or a run's workdir or `checkpoints/`, of which
            the best step by validation loss, else the newest, is taken. A run's moving average is
            preferred to its last weights.

    Raises:
        CheckpointError: There is no checkpoint there, it is damaged, or a later release wrote it.
            No other step is taken in the place of a damaged one, as it would embed differently.
    """
    path = _checkpoint_in(stores.absolute(folder))
    item = "ema" if (path / "ema").is_dir() else encoder_item(path)
    require_whole(path, skip=ARRAYS - {item})
    meta = read_meta(path)
    params = _read_item(path, item)
    _require_saved(path, params, meta)
    return params, meta


def load_head_params(folder: str | pathlib.Path) -> dict[str, Any]:
    """Returns the parameters of the head that an encoder's folder holds, as numpy arrays.

    Raises:
        CheckpointError: It holds none, or is damaged.
    """
    path = stores.absolute(folder)
    if not (path / _HEAD).is_dir():
        raise CheckpointError(
            f"{folder}: holds no head, which is what predicts; `clef-jax finetune` trains one"
        )
    require_whole(path, skip=ARRAYS - {_HEAD})
    return _read_item(path, _HEAD)


def _read_item(path: pathlib.Path, item: str) -> dict[str, Any]:
    with reading(path), _checkpointer() as checkpointer:
        shapes = stored_shapes(path / item)
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
        items = {item: ocp.args.PyTreeRestore(shapes, restore_args=as_numpy)}
        return checkpointer.restore(path, ocp.args.Composite(**items))[item]


def _require_saved(path: pathlib.Path, params: Any, meta: Mapping[str, Any]) -> None:
    """Raises CheckpointError unless weights are those whose hash a run noted; others note none."""
    saved = meta.get("weights_sha256")
    if saved is not None and (found := params_sha256(params)) != saved:
        raise CheckpointError(
            f"{path}: its weights have the SHA-256 {found}, but weights_sha256 of its meta record "
            f"is {saved}: they are not those that the run saved; {remedy(path)}"
        )


def _checkpointer(**options: Any) -> ocp.Checkpointer:
    quiet_orbax()
    return ocp.Checkpointer(ocp.CompositeCheckpointHandler(), **options)


def _checkpoint_in(folder: pathlib.Path) -> pathlib.Path:
    if (folder / encoder_item(folder)).is_dir() and (folder / "meta").is_dir():
        return folder
    runs = folder / CHECKPOINTS if (folder / CHECKPOINTS).is_dir() else folder
    steps = steps_in(runs)
    if not steps:
        raise CheckpointError(
            f"{folder}: no checkpoint here; expected an encoder folder (encoder/ and meta/) as "
            "`clef-jax convert` writes it, or the workdir of a pretraining run"
        )
    newest = runs / str(steps[-1])
    require_whole(newest, skip=ARRAYS)
    best = best_step(read_meta(newest))
    return runs / str(best) if best in steps else newest
