"""One checkpoint through every door to an embedding, as a program: devices are chosen at its start.

    python -m tests.doors WEIGHTS SHARDS FOLDER

writes FOLDER/embeddings.npz: what each door makes of lead II of all records of a shard set, float32
[n, D], and the number of `devices`. The doors of recordings get the samples that the shards hold,
one record after another; the preprocessing of weights and shards must leave them as they are.
"""

import dataclasses
import pathlib
import sys
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq

from clef_jax import hosts, load_encoder
from clef_jax.checkpoints.encoder import load_params
from clef_jax.data.recordings.recording import Hints
from clef_jax.data.shards.store import ShardSet
from clef_jax.data.windows.cut import WindowSettings
from clef_jax.data.windows.pool import Request
from clef_jax.evaluate.learned.figures import by_encoder, represent_records
from clef_jax.evaluate.learned.recordings import Recordings
from clef_jax.inference.run import embed_to_table
from clef_jax.inference.shards import slots_of_lead
from clef_jax.models import build_model, config_from_dict
from clef_jax.train import plots
from clef_jax.train.evaluators.embedded import make_map
from clef_jax.train.evaluators.evaluator import Inputs
from clef_jax.train.state import TrainState

LEAD = "II"


def _report(encoder, shards: ShardSet) -> np.ndarray:
    """As its probes get them."""
    records = np.arange(len(shards))
    nobody = np.zeros(len(shards), bool)
    recordings = Recordings(shards, shards.annotations, LEAD, records, records, nobody, len(shards))
    return represent_records(by_encoder(encoder), recordings, records)


def _map(weights: str, shards: ShardSet) -> np.ndarray:
    """As a run in bfloat16 draws it: the parameters lie on its devices."""
    params, meta = load_params(weights)
    params, mesh = hosts.replicate(params, hosts.data_mesh()), hosts.data_mesh()
    model = build_model(config_from_dict(meta["model"]), dtype=jnp.bfloat16)
    held_out = np.ones(len(shards), bool)  # All records are shown.
    annotations = dataclasses.replace(shards.annotations, is_validation=held_out)
    nowhere = pathlib.Path()
    inputs = Inputs(model, None, None, shards, annotations, mesh, 0, 0, 1, nowhere)
    state = TrainState(jnp.int32(0), {"encoder": params}, (), (), None)
    with mock.patch.object(plots, "plot_embedding_map") as drawn:
        make_map(inputs, 0).evaluate(state, lambda: False)
    return drawn.call_args.args[0]


def doors(weights: str, shards_folder: str, folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the embeddings of each door, by its name."""
    encoder, shards = load_encoder(weights), ShardSet(shards_folder)
    assert encoder.preprocessing == shards.spec
    records, fs = np.arange(len(shards)), shards.spec.fs
    slots = slots_of_lead(shards, records, LEAD)
    x_mv = shards.read(records, slots) * shards.scale_mv[records, slots][:, None].astype(np.float64)
    z = (x_mv - x_mv.mean(axis=1, keepdims=True)) / x_mv.std(axis=1, keepdims=True)
    recording = str(folder / "recording.npy")
    np.save(recording, x_mv.reshape(1, -1))

    def table(path: str) -> np.ndarray:
        """What `clef-jax embed` writes."""
        settings = WindowSettings(encoder.preprocessing, leads=(LEAD,))
        request = Request(settings, Hints(fs=fs, lead_names=(LEAD,)))
        out = folder / f"{pathlib.Path(path).name}.parquet"
        report = embed_to_table(encoder, [path], out, request, workers=0, progress=False)
        assert not report.failures
        return np.array(pq.read_table(out)["embedding"].to_pylist(), np.float32)

    hints: dict[str, Any] = {"fs": fs, "lead_names": [LEAD]}
    return {
        "array": encoder.embed_windows(x_mv.reshape(-1), fs, LEAD).embedding,
        "recording": encoder.embed_recording(recording, LEAD, **hints).embedding,
        "table of recordings": table(recording),
        "table of shards": table(str(shards_folder)),
        "report": _report(encoder, shards),
        "map": _map(weights, shards),
        "apply": np.asarray(encoder.apply(z.astype(np.float32))),
    }


if __name__ == "__main__":
    weights_folder, shards_path, out_folder = sys.argv[1:]
    found = doors(weights_folder, shards_path, pathlib.Path(out_folder))
    path = pathlib.Path(out_folder, "embeddings.npz")
    np.savez(path, devices=jax.local_device_count(), **found)
