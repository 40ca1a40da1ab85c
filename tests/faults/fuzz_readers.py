"""What reads each kind of input, whole or damaged, as the commands do."""

import contextlib
import hashlib
import json

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from clef_jax.checkpoints.encoder import load_params
from clef_jax.convert.torch_checkpoint import read_torch_checkpoint
from clef_jax.data.annotations.join import MetadataTable, RiskTable, join_metadata, join_risk
from clef_jax.data.recordings.formats import open_hinted
from clef_jax.data.recordings.recording import Hints
from clef_jax.data.shards.format import manifest_sha256
from clef_jax.data.shards.plan import WriteOptions
from clef_jax.data.shards.prepare import prepare_record
from clef_jax.data.shards.store import ShardSet
from clef_jax.data.signals.spec import read_spec
from clef_jax.data.windows.cut import WindowSettings, choose_leads_of, read_windows, require_windows
from clef_jax.errors import ClefError
from clef_jax.evaluate.datasets.user_table import user_task
from clef_jax.files import write_sums
from clef_jax.inference.loading import preprocessing_of
from clef_jax.inference.stored import StoredEmbeddings
from clef_jax.models import config_from_dict
from clef_jax.risk.table import compute_risk_table
from clef_jax.tables.files import read_table
from clef_jax.train.settings import read_settings
from configs import demo
from tests.faults.mutations import mutated_settings


def _as_it_is(folder, rng):
    """Leaves the damage to be found."""


def _recording(name):
    settings, hints = WindowSettings(leads=("all",), pad=True), Hints(fs=500.0, units="mV")
    options = WriteOptions(min_leads=1, all_windows=True, hints=hints)

    def read(folder):
        path = str(folder / name)
        with contextlib.suppress(ClefError):
            for _ in zip(range(2), prepare_record(path, options).windows, strict=False):
                pass
        recording = open_hinted(path, hints)
        positions = choose_leads_of(recording, settings)
        starts = require_windows(recording.header.samples, recording.header.fs, settings, path)
        windows = read_windows(recording, positions[:3], starts[:2], settings)
        assert np.isfinite(windows.x).all()

    return read, _as_it_is


def _risk(folder):
    for path in sorted(folder.iterdir()):
        compute_risk_table(read_table(path), region="moderate", source=str(path))


_RECORDS = pd.DataFrame(
    {"record": [f"a/r{i}" for i in range(5)], "patient": list("12345"), "study": [None] * 5}
)


def _metadata(folder):
    for path in sorted(folder.iterdir()):
        records, _ = join_metadata(_RECORDS, MetadataTable(str(path)), "a")
        join_risk(records, RiskTable(str(path)), "a")


def _labels(folder):
    user_task(str(folder / "labels.csv"), hints=Hints()).examples("", "clean", "I")


def _shards(folder):
    shards = ShardSet(folder)
    shards.read(np.arange(len(shards)), np.zeros(len(shards), int))


def _again_summed(folder, rng):
    """Of half the sets the checksums are right, so that what is behind them is reached."""
    manifest = folder / "manifest.json"
    try:
        content = json.loads(manifest.read_text())
        if rng.random() < 0.5 or not isinstance(content["files"], list):
            return
        for entry in content["files"]:
            found = (folder / entry["file"]).read_bytes()
            entry |= {"bytes": len(found), "sha256": hashlib.sha256(found).hexdigest()}
        content["sha256"] = manifest_sha256(content, without={"sha256"})
    except (ValueError, LookupError, TypeError, OSError):
        return
    manifest.write_text(json.dumps(content))


def _weights(folder):
    _, meta = load_params(folder)
    config_from_dict(meta["model"])
    preprocessing_of(meta, str(folder))


def _again_summed_weights(folder, rng):
    if rng.random() < 0.5:
        write_sums(folder, [p for p in folder.rglob("*") if p.name != "SHA256SUMS"])


def _torch(folder):
    read_torch_checkpoint(folder / "small.ckpt")


def _embeddings(folder):
    stored = StoredEmbeddings(folder / "e.parquet", "remove it")
    assert isinstance(stored.metadata, dict) and stored.keys
    for batch in stored.batches(frozenset()):
        batch.validate(full=True)


def _configs(folder):
    """The file seeds what is changed: settings are values of a program and not read from text."""
    content = (folder / "seed").read_bytes()
    rng = None if content == bytes(range(200)) else np.random.default_rng(list(content))
    values = demo.get_config().to_dict()
    read_settings(ConfigDict(mutated_settings(values, rng), allow_dotted_keys=True))


def _spec(folder):
    read_spec(str(folder / "spec.json"))


# How each kind is read, and what is done to the folder once a file of it is damaged.
READERS = {
    "wfdb": _recording("r"),
    "wfdb_segments": _recording("s"),
    "wfdb_flac": _recording("f"),
    "edf": _recording("r.edf"),
    "edf_plus": _recording("d.edf"),
    "dicom": _recording("r.dcm"),
    "csv": _recording("r.csv"),
    "npy": _recording("r.npy"),
    "mat": _recording("r.mat"),
    "risk": (_risk, _as_it_is),
    "metadata": (_metadata, _as_it_is),
    "labels": (_labels, _as_it_is),
    "shards": (_shards, _again_summed),
    "weights": (_weights, _again_summed_weights),
    "torch": (_torch, _as_it_is),
    "embeddings": (_embeddings, _as_it_is),
    "configs": (_configs, _as_it_is),
    "spec": (_spec, _as_it_is),
}
