"""One checkpoint through every door to an embedding, as a program: devices are chosen at its start.

    python -m tests.doors WEIGHTS RECORDING SHARDS FOLDER

writes FOLDER/embeddings.npz: what each door makes of lead II of a WFDB recording, or of all records
of a shard set, float32 [n, D], and `devices`.
"""

import os
import pathlib
import sys

import jax
import numpy as np
import pyarrow.parquet as pq

from clef_jax import hosts, load_encoder
from clef_jax.checkpoints.encoder import load_params
from clef_jax.data.recordings import formats
from clef_jax.data.shards.store import ShardSet
from clef_jax.data.windows.cut import WindowSettings
from clef_jax.data.windows.sources import Request
from clef_jax.evaluate.learned import by_encoder, represent_records
from clef_jax.evaluate.recordings import Recordings
from clef_jax.inference.forward import Forward
from clef_jax.inference.run import embed_to_table
from clef_jax.inference.shards import embed_records, slots_of_lead
from clef_jax.models import build_model, config_from_dict

LEAD = "II"


def _table(encoder, path, folder: pathlib.Path) -> np.ndarray:
    """What `clef-jax embed` writes."""
    request = Request(WindowSettings(leads=(LEAD,)))
    out = folder / f"{pathlib.Path(path).name}.parquet"
    report = embed_to_table(encoder, [str(path)], out, request, workers=0, progress=False)
    assert not report.failures
    return np.array(pq.read_table(out)["embedding"].to_pylist(), np.float32)


def doors(weights: str, recording: str, shards_folder: str, folder: pathlib.Path) -> dict:
    """Returns the embeddings of each door, by its name."""
    encoder = load_encoder(weights)
    read = formats.read(recording)
    found = {
        "array": encoder.embed_windows(read.signal_mv, read.fs, LEAD, leads=read.leads).embedding,
        "one file": encoder.embed_recording(recording, LEAD).embedding,
        "table of files": _table(encoder, recording, folder),
        "table of shards": _table(encoder, shards_folder, folder),
    }

    shards = ShardSet(shards_folder)
    records = np.arange(len(shards))
    everyone = np.zeros(len(shards), bool)
    recordings = Recordings(shards, LEAD, records, records, everyone, len(shards))
    found["report"] = represent_records(by_encoder(encoder), recordings, records)

    # As a run draws its map: the parameters lie on its devices.
    params, meta = load_params(weights)
    params = hosts.replicate(params, hosts.data_mesh())
    forward = Forward(build_model(config_from_dict(meta["model"])), params)
    slots = slots_of_lead(shards, records, LEAD)
    found["map"] = embed_records(forward, shards, records, slots)

    steps = shards.read(records, slots).astype(np.float64)
    x = (steps - steps.mean(axis=1, keepdims=True)) / steps.std(axis=1, keepdims=True)
    found["apply"] = np.asarray(encoder.apply(x.astype(np.float32)))
    return found


if __name__ == "__main__":
    *paths, out = sys.argv[1:]
    embeddings = doors(*paths, pathlib.Path(out))
    np.savez(os.path.join(out, "embeddings.npz"), devices=jax.local_device_count(), **embeddings)
