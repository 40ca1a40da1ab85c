"""The checkpoints of one run: saved in the background, the last few and the best kept.

Items of a checkpoint: `encoder`, its parameters; `ema`, their moving average, if the run has one;
`rest`, whatever else the run goes on from; `meta`, a JSON record. So an encoder is loaded without
knowing what trained it.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import orbax.checkpoint as ocp

from clef_jax import files, stores
from clef_jax.checkpoints.items import params_sha256, require_match
from clef_jax.checkpoints.meta import (
    CHECKPOINTS,
    CheckpointError,
    best_step,
    read_meta,
    reading,
    set_damaged_aside,
)
from clef_jax.checkpoints.quiet import quiet_orbax
from clef_jax.checkpoints.room import require_room
from clef_jax.checkpoints.upgrades import encoder_item, older_rest, upgraded_rest
from clef_jax.cluster.agreement import agreement


class Checkpoints:
    """The checkpoints of one run: saved in the background, the last few and the best kept.

    Damaged ones are set aside when the folder is opened, so that the newest is whole.

    Args:
        workdir: The run's folder; checkpoints go to `checkpoints/` in it.
        keep: How many of the latest to keep, besides the best.

    Raises:
        CheckpointError: There are checkpoints, and all of them are damaged.
    """

    def __init__(self, workdir: str | pathlib.Path, *, keep: int = 3):
        quiet_orbax()
        self.folder = stores.absolute(workdir) / CHECKPOINTS
        set_damaged_aside(self.folder)
        policies = ocp.checkpoint_managers
        self._best = _KeptStep()
        self._manager = ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policies.AnyPreservationPolicy(
                    [policies.LatestN(keep), self._best]
                ),
                cleanup_tmp_directories=True,
                temporary_path_class=(
                    _CommittedStep if stores.is_stored(self.folder) else _RenamedStep
                ),
            ),
        )

    def latest_step(self) -> int | None:
        """Returns the step of the newest checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, step: int, items: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        """Copies the arrays off the devices and writes them in the background.

        Args:
            step: Steps done.
            items: Nested arrays, whole on every device or split over them: `encoder`, `rest` and,
                if the run has one, `ema`.
            meta: JSON record, to which `weights_sha256` is added, the hash of what loading the
                encoder will give. Its `progress["best_step"]`, if any, names the best checkpoint.

        Raises:
            CheckpointError: There is a checkpoint of this step or of a later one.
            NoRoom: The disk has no room for it.
        """
        self.wait()
        with agreement():  # Or those that find room would wait for the others.
            require_room(self.folder, items)
        weights = items["ema"] if "ema" in items else items["encoder"]
        meta = {**meta, "weights_sha256": params_sha256(weights)}
        args = {name: ocp.args.StandardSave(item) for name, item in items.items()}
        args["meta"] = ocp.args.JsonSave(meta)
        self._best.step = best_step(meta)
        if not self._manager.save(step, args=ocp.args.Composite(**args)):
            raise CheckpointError(
                f"{self.folder}: step {step} was not saved, because step {self.latest_step()} is "
                "there already; does another process write to this workdir?"
            )

    def restore(self, like: Mapping[str, Any], step: int | None = None) -> dict[str, Any]:
        """Returns a checkpoint's arrays, wherever those lay that were saved.

        Args:
            like: The run's own items where they are to lie: arrays, or `hosts.shapes_at` of them.
            step: The checkpoint's; the newest's by default.

        Raises:
            CheckpointError: It holds a model of another size, lacks or has an average, or cannot be
                read.
        """
        step = self.latest_step() if step is None else step
        path = self.folder / str(step)
        encoder = encoder_item(path)
        require_match(path / encoder, like["encoder"])
        if ("ema" in like) != (path / "ema").exists():
            raise CheckpointError(
                f"{path}: the checkpoint was written {'without' if 'ema' in like else 'with'} a "
                "moving average of the weights, which ema_decay now changes; set it as before or "
                "start another workdir"
            )
        wanted = dict(like)
        if is_older := encoder != "encoder":
            wanted[encoder] = wanted.pop("encoder")
            wanted["rest"] = older_rest(like["rest"])
        args = {name: ocp.args.StandardRestore(target) for name, target in wanted.items()}
        with reading(path):
            found = dict(self._manager.restore(step, args=ocp.args.Composite(**args)))
        if is_older:
            found["encoder"] = found.pop(encoder)
            found["rest"] = upgraded_rest(found["rest"], like["rest"])
        return found

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


class _RenamedStep(ocp.path.atomicity.AtomicRenameTemporaryPath):
    """A step's folder on a disk, which is renamed once it is whole."""

    def finalize(self):
        _write_sums_of_step(self)
        return super().finalize()


class _CommittedStep(ocp.path.atomicity.CommitFileTemporaryPath):
    """A step's folder in a store, where one object more says that the others are all there."""

    def finalize(self):
        _write_sums_of_step(self)
        return super().finalize()


def _write_sums_of_step(unfinished: Any) -> None:
    """Adds checksums to a step's folder just before it counts as whole.

    That is in the background, once every process has written, on the one that finishes it.
    """
    # Items pass here as well, and are covered by their step.
    if unfinished.get_final().name.isdigit():
        folder = stores.absolute(unfinished.get())
        # Orbax still changes its own notes beside the items; nothing is computed from them.
        items = [path for path in folder.iterdir() if path.is_dir()]
        files.write_sums(folder, (file for item in items for file in stores.files_below(item)))


class _KeptStep(ocp.checkpoint_managers.PreservationPolicy):
    """Keeps one step, whatever comes later.

    Not Orbax's best by a metric: which losses compare with each other is the run's to say.
    """

    step: int | None = None

    def should_preserve(self, checkpoints, *, context):
        return [checkpoint.step == self.step for checkpoint in checkpoints]
