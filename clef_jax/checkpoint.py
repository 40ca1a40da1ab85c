"""Checkpoints on disk: resumable ones of a run, and folders that hold one encoder.

The only module that knows Orbax. A checkpoint is a folder of items: `params`, `meta` (JSON), and
in a run's checkpoints `rest` (optimiser state, step) and, where the run keeps a moving average,
`ema`. Checksums of their files lie beside them and are compared before anything is used. A folder
is written under a temporary name and renamed, so a killed process leaves whole ones only.
"""

import hashlib
import math
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh

from clef_jax import files, hosts
from clef_jax.checkpoint_folder import (
    ARRAYS,
    FORMAT_VERSION,
    CheckpointError,
    read_meta,
    reading,
    require_whole,
    set_damaged_aside,
    steps_in,
    validation_loss,
)
from clef_jax.train.state import TrainState

__all__ = [
    "FORMAT_VERSION",
    "CheckpointError",
    "Checkpoints",
    "leaf_types",
    "load_params",
    "params_sha256",
    "save_encoder",
]

CHECKPOINTS = "checkpoints"
CLASSIFIER = "classifier.npz"


class Checkpoints:
    """The checkpoints of one run: saved in the background, the last few and the best kept.

    Damaged ones are set aside when the folder is opened, so that the newest is whole.

    Args:
        workdir: The run's folder; checkpoints go to `checkpoints/` in it.
        keep: How many of the latest to keep, besides the one of lowest validation loss.

    Raises:
        CheckpointError: There are checkpoints, and all of them are damaged.
    """

    def __init__(self, workdir: str | pathlib.Path, *, keep: int = 3):
        self.folder = pathlib.Path(workdir).resolve() / CHECKPOINTS
        set_damaged_aside(self.folder)
        policies = ocp.checkpoint_managers
        best = policies.BestN(
            get_metric_fn=_validation_loss,
            reverse=True,
            n=1,
        )
        self._manager = ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                best_fn=_validation_loss,
                best_mode="min",
                preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep), best]),
                cleanup_tmp_directories=True,
                temporary_path_class=_StepWithChecksums,
            ),
        )

    def latest_step(self) -> int | None:
        """Returns the step of the newest checkpoint, or None."""
        return self._manager.latest_step()

    def save(
        self, state: TrainState, meta: Mapping[str, Any], validation_loss: float | None
    ) -> None:
        """Copies the state off the devices and writes it in the background.

        Raises:
            CheckpointError: There is a checkpoint of this step or of a later one.
        """
        step = int(state.step)
        items = {
            "params": ocp.args.StandardSave(state.params),
            "rest": ocp.args.StandardSave({"opt_state": state.opt_state, "step": state.step}),
            "meta": ocp.args.JsonSave(dict(meta)),
        }
        if state.ema is not None:
            items["ema"] = ocp.args.StandardSave(state.ema)
        # Orbax complains of steps without the metric it ranks by; infinity is never the best.
        metrics = {"validation_loss": math.inf if validation_loss is None else validation_loss}
        if not self._manager.save(step, args=ocp.args.Composite(**items), metrics=metrics):
            raise CheckpointError(
                f"{self.folder}: step {step} was not saved, because step {self.latest_step()} is "
                "there already; does another process write to this workdir?"
            )

    def restore(self, like: TrainState, mesh: Mesh) -> TrainState:
        """Returns the newest checkpoint's state, placed on every device of `mesh`.

        Args:
            like: A state, or its `jax.eval_shape`, of the run's own structure.
            mesh: The run's mesh.

        Raises:
            CheckpointError: It holds a model of another size, lacks or has an average, or cannot be
                read.
        """
        step = self.latest_step()
        path = self.folder / str(step)
        _require_match(path / "params", like.params)
        if (like.ema is None) == (path / "ema").exists():
            raise CheckpointError(
                f"{path}: the checkpoint was written {'without' if like.ema else 'with'} a moving "
                "average of the weights, which ema_decay now changes; set it as before or start "
                "another workdir"
            )

        def target(tree):
            sharding = hosts.replicated(mesh)
            return ocp.args.StandardRestore(
                jax.tree.map(
                    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
                    tree,
                )
            )

        items = {
            "params": target(like.params),
            "rest": target({"opt_state": like.opt_state, "step": like.step}),
        }
        if like.ema is not None:
            items["ema"] = target(like.ema)
        with reading(path):
            found = self._manager.restore(step, args=ocp.args.Composite(**items))
        return TrainState(
            step=found["rest"]["step"],
            params=found["params"],
            opt_state=found["rest"]["opt_state"],
            ema=found["ema"] if like.ema is not None else None,
        )

    def meta(self) -> dict[str, Any]:
        """Returns the newest checkpoint's meta record."""
        return read_meta(self.folder / str(self.latest_step()))

    def reached_preemption(self, step: int) -> bool:
        """Returns whether the cluster is about to stop the hosts; all hosts agree on the step."""
        return self._manager.reached_preemption(step)

    def wait(self) -> None:
        """Returns once every save has reached the disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Finishes the saves under way and releases the folder."""
        self._manager.close()


def save_encoder(
    folder: str | pathlib.Path,
    params: Any,
    meta: Mapping[str, Any],
    *,
    classifier: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Writes an encoder checkpoint folder, which appears once it is whole.

    Args:
        folder: Must not exist yet.
        params: Nested dict of float32 arrays.
        meta: JSON record: `format_version`, `model`, `preprocessing`, `provenance`, ….
        classifier: `kernel` and `bias` of a classifier to keep with it.

    Raises:
        CheckpointError: The folder exists.
    """
    path = pathlib.Path(folder).resolve()
    if path.exists():
        raise CheckpointError(f"{path}: exists already; choose another folder or remove it")
    unfinished = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    items = ocp.args.Composite(
        params=ocp.args.StandardSave(params), meta=ocp.args.JsonSave(dict(meta))
    )
    try:
        with _checkpointer() as checkpointer:
            checkpointer.save(unfinished, items)
        if classifier is not None:
            np.savez(unfinished / CLASSIFIER, **classifier)
        files.write_sums(unfinished, unfinished.rglob("*"))
        os.rename(unfinished, path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


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
    path = _checkpoint_in(pathlib.Path(folder).resolve())
    item = "ema" if (path / "ema").is_dir() else "params"
    require_whole(path, skip=ARRAYS - {item})
    meta = read_meta(path)
    with reading(path), _checkpointer() as checkpointer:
        shapes = _stored_shapes(path / item)
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
        items = {item: ocp.args.PyTreeRestore(shapes, restore_args=as_numpy)}
        return checkpointer.restore(path, ocp.args.Composite(**items))[item], meta


def leaf_types(tree: Any) -> dict[str, tuple[tuple[int, ...], str]]:
    """Returns every leaf's shape and type by its name: {"stem/bias": ((32,), "float32"), …}."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): (
            tuple(leaf.shape),
            jnp.dtype(leaf.dtype).name,
        )
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def params_sha256(params: Any) -> str:
    """Returns a hash of names, types, shapes and values, the same however they are stored."""
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        array = np.ascontiguousarray(leaf)
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        found.update(f"{name} {array.dtype.str} {np.shape(leaf)}\n".encode())
        found.update(array)
    return found.hexdigest()


class _StepWithChecksums(ocp.path.atomicity.AtomicRenameTemporaryPath):
    """A step's temporary folder, to which checksums are added just before it is renamed.

    That is in the background, once every process has written, on the one that renames.
    """

    def finalize(self):
        # Items pass here as well, and are covered by their step.
        if self.get_final().name.isdigit():
            folder = pathlib.Path(self.get())
            # Orbax still changes its own notes beside the items; nothing is computed from them.
            files.write_sums(folder, folder.glob("*/**/*"))
        return super().finalize()


def _validation_loss(metrics: Mapping[str, float]) -> float:
    return metrics["validation_loss"]


def _checkpointer() -> ocp.Checkpointer:
    return ocp.Checkpointer(ocp.CompositeCheckpointHandler())


def _checkpoint_in(folder: pathlib.Path) -> pathlib.Path:
    if (folder / "params").is_dir() and (folder / "meta").is_dir():
        return folder
    runs = folder / CHECKPOINTS if (folder / CHECKPOINTS).is_dir() else folder
    steps = steps_in(runs)
    if not steps:
        raise CheckpointError(
            f"{folder}: no checkpoint here; expected an encoder folder (params/ and meta/) as "
            "`clef-jax convert` writes it, or the workdir of a pretraining run"
        )
    losses = {step: validation_loss(runs / str(step)) for step in steps}
    # The newest of equals: without any validation all are infinite.
    return runs / str(min(losses, key=lambda step: (losses[step], -step)))


def _stored_shapes(item: pathlib.Path) -> Any:
    metadata = ocp.PyTreeCheckpointHandler().metadata(item).tree
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), metadata)


def _require_match(item: pathlib.Path, expected: Any) -> None:
    """Raises CheckpointError with every parameter whose name, shape or type differs."""
    stored, wanted = leaf_types(_stored_shapes(item)), leaf_types(expected)
    differing = sorted(k for k in stored | wanted if stored.get(k) != wanted.get(k))
    if differing:
        lines = [f"  {k}: {stored.get(k)} stored, {wanted.get(k)} expected" for k in differing[:8]]
        more = f"\n  and {len(differing) - 8} more" if len(differing) > 8 else ""
        raise CheckpointError(
            f"{item.parent}: the checkpoint holds another model; set config.model as it was, or "
            "start another workdir\n" + "\n".join(lines) + more
        )
