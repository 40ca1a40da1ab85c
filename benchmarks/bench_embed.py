r"""Measures embedding end to end: from files, from shards, the plain PyTorch way, and a Holter.

    python benchmarks/bench_embed.py --data ptb-xl/records500
    python benchmarks/bench_embed.py --data ptb-xl/records500 --sizes clef_small --records 1332

Prints one JSON line for each measurement. `data` is a folder of 12-lead WFDB records of 10 s at
500 Hz; its records are linked several times if more are asked for. Weights are random, the same for
both sides, whose embeddings are compared. Compiling and loading are left out; starting the reading
processes and writing the table are not. Costs about ten minutes for all sizes on two cores.
"""

import glob
import json
import os
import subprocess
import sys
import tempfile
import time

from absl import app, flags, logging

_DATA = flags.DEFINE_string("data", None, "Folder of 12-lead WFDB records.", required=True)
_SIZES = flags.DEFINE_list("sizes", "clef_small,clef_medium,clef_large", "Sizes to measure.")
_RECORDS = flags.DEFINE_integer("records", None, "Records; 2000, 320 and 64 by size by default.")
_WORKERS = flags.DEFINE_integer("workers", os.cpu_count(), "Reading processes.")
_HOLTER_HOURS = flags.DEFINE_list("holter_hours", "1,24", "Lengths of the Holters; empty for none.")

_DEFAULT_RECORDS = {"clef_small": 2000, "clef_medium": 320, "clef_large": 64}
_TORCH_BATCHES = (8, 64)
_WARM_RECORDS = 64
_LEAD = "II"


def _print(**measurement) -> None:
    rounded = {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in measurement.items()}
    print(json.dumps(rounded), flush=True)


def _link_records(source: str, folder: str, count: int) -> list[str]:
    """Links `count` records into `folder`, each under names of its own; returns their paths."""
    headers = sorted(glob.glob(os.path.join(source, "**", "*.hea"), recursive=True))
    paths = []
    for i in range(count):
        header = os.path.abspath(headers[i % len(headers)])
        # The header names its signal file, so every round gets a folder of its own.
        target = os.path.join(folder, f"{i // len(headers):03d}")
        os.makedirs(target, exist_ok=True)
        for suffix in (".hea", ".dat"):
            path = header[:-4] + suffix
            os.symlink(path, os.path.join(target, os.path.basename(path)))
        paths.append(os.path.join(target, os.path.basename(header)[:-4]))
    return sorted(paths)


def _torch_way(model, paths: list[str], batch_size: int):
    """wfdb, scipy and the torch module in a loop over files with batching."""
    import numpy as np
    import torch
    import wfdb
    from scipy import signal

    b, a = signal.butter(5, [0.67 / 250, 40 / 250], btype="band")
    spent = dict.fromkeys(("reading", "preprocessing", "computing"), 0.0)
    batch, outputs = [], []
    begin = time.perf_counter()
    for i, path in enumerate(paths):
        start = time.perf_counter()
        record = wfdb.rdrecord(path)
        read = time.perf_counter()
        x = record.p_signal[:5000, record.sig_name.index(_LEAD)]
        x = signal.filtfilt(b, a, x)
        batch.append((x - x.mean()) / (x.std() + 1e-8))
        prepared = time.perf_counter()
        if len(batch) == batch_size or i == len(paths) - 1:
            with torch.no_grad():
                inputs = torch.tensor(np.stack(batch), dtype=torch.float32)[:, None]
                outputs.append(model(inputs).numpy())
            batch = []
        spent["reading"] += read - start
        spent["preprocessing"] += prepared - read
        spent["computing"] += time.perf_counter() - prepared
    return np.concatenate(outputs), time.perf_counter() - begin, spent


def _our_way(encoder, paths, out, workers):
    """Returns the embeddings, the seconds and the shares of one run of `embed_to_table`."""
    import numpy as np
    import pyarrow.parquet as pq

    from clef_jax.data.sources import Request
    from clef_jax.data.windows import WindowSettings
    from clef_jax.embedding.run import embed_to_table

    request = Request(WindowSettings(leads=(_LEAD,)))
    summary = embed_to_table(encoder, paths, out, request, workers=workers, progress=False)
    if summary.failures:
        raise RuntimeError(summary.failures[0].error)
    timings, seconds = summary.timings, summary.seconds
    shares = {
        "reading_per_reader": timings.reading / max(workers, 1) / seconds,
        "preprocessing_per_reader": timings.preprocessing / max(workers, 1) / seconds,
        "waiting": timings.waiting / seconds,
        "computing": timings.computing / seconds,
    }
    table = pq.read_table(out, columns=["embedding"])
    embedding = table["embedding"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
    return np.asarray(embedding), seconds, shares


def _measure_size(name: str, folder: str) -> None:
    import numpy as np
    import torch

    from clef_jax.data import ingest
    from clef_jax.embedding import Encoder
    from clef_jax.models import get_config
    from tests.oracles.torch_resnext1d import TorchResNeXt1D, jax_params

    count = _RECORDS.value or _DEFAULT_RECORDS[name]
    records = os.path.join(folder, f"{name}-records")
    paths = _link_records(_DATA.value, records, count)
    torch.manual_seed(0)
    config = get_config(name)
    model = TorchResNeXt1D(config).eval()
    encoder = Encoder(config, jax_params(model))
    common = {"model": name, "records": count, "cores": os.cpu_count()}

    warm = paths[:_WARM_RECORDS]
    _our_way(encoder, warm, os.path.join(folder, f"{name}-warm.parquet"), 0)
    _torch_way(model, warm, _TORCH_BATCHES[0])
    batch = min(_TORCH_BATCHES, key=lambda size: _torch_way(model, warm, size)[1])

    expected, torch_seconds, spent = _torch_way(model, paths, batch)
    _print(
        bench="embed_torch",
        **common,
        batch=batch,
        records_per_s=count / torch_seconds,
        **{key: value / torch_seconds for key, value in spent.items()},
    )
    workers = _WORKERS.value
    out = os.path.join(folder, f"{name}.parquet")
    actual, seconds, shares = _our_way(encoder, [records], out, workers)
    _print(
        bench="embed_files",
        **common,
        readers=workers,
        records_per_s=count / seconds,
        times_torch=torch_seconds / seconds,
        max_difference=float(np.abs(actual - expected).max() / np.abs(expected).max()),
        **shares,
    )
    shards = os.path.join(folder, f"{name}-shards")
    ingest.write_shards(records, shards, progress=False)
    out = os.path.join(folder, f"{name}-shards.parquet")
    actual, seconds, shares = _our_way(encoder, [shards], out, workers)
    _print(
        bench="embed_shards",
        **common,
        readers=workers,
        records_per_s=len(actual) / seconds,
        **shares,
    )


def _children(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as stream:
            return [int(child) for child in stream.read().split()]
    except OSError:
        return []


def _resident_mb(pid: int) -> float:
    try:
        with open(f"/proc/{pid}/statm") as stream:
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return 0.0


def _measure_holter(folder: str, hours: float) -> None:
    import jax
    import numpy as np
    import wfdb

    from clef_jax import checkpoint
    from clef_jax.embedding import encoder_meta
    from clef_jax.models import create_model, get_config

    weights = os.path.join(folder, "weights")
    if not os.path.exists(weights):
        params = create_model("clef_small").init(jax.random.key(0), np.zeros((1, 5000, 1)))[
            "params"
        ]
        meta = encoder_meta(get_config("clef_small"), params, {})
        checkpoint.save_encoder(weights, params, meta)
    name, fs = f"holter{hours:g}", 200
    t = np.arange(int(hours * 3600 * fs)) / fs
    beats = np.exp(-0.5 * ((t % 0.8 - 0.4) / 0.012) ** 2)
    beats += np.random.default_rng(0).normal(0, 0.01, t.size)
    wfdb.wrsamp(
        name,
        fs=fs,
        units=["mV"] * 2,
        sig_name=["I", "II"],
        p_signal=np.stack([beats, 1.5 * beats], axis=1),
        fmt=["16"] * 2,
        adc_gain=[1000.0] * 2,
        baseline=[0] * 2,
        write_dir=folder,
    )
    out = os.path.join(folder, f"{name}.parquet")
    command = [sys.executable, "-m", "clef_jax.cli", "embed", os.path.join(folder, name + ".hea")]
    command += ["--weights", weights, "--out", out, "--workers", str(_WORKERS.value)]
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peaks: dict[int, float] = {}
    while process.poll() is None:
        for pid in [process.pid, *_children(process.pid)]:
            peaks[pid] = max(peaks.get(pid, 0.0), _resident_mb(pid))
        time.sleep(0.1)
    seconds = time.perf_counter() - begin
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    main_mb = peaks.pop(process.pid)
    _print(
        bench="embed_holter",
        model="clef_small",
        hours=hours,
        fs=fs,
        seconds=seconds,
        windows_per_s=hours * 360 / seconds,
        peak_mb_main=main_mb,
        peak_mb_readers=sum(peaks.values()),
        table_mb=os.path.getsize(out) / 1e6,
    )


def main(argv: list[str]) -> None:
    """Runs the measurements one after another."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    logging.set_verbosity(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        for name in _SIZES.value:
            _measure_size(name, folder)
        for hours in _HOLTER_HOURS.value:
            _measure_holter(folder, float(hours))


if __name__ == "__main__":
    # Run as a script, only this folder is on the path; the peer lies beside the tests.
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    app.run(main)
