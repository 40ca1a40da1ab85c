"""Measures embedding end to end: from files, from shards, the plain PyTorch way, and a Holter.

    python -m benchmarks.bench_embed
    python -m benchmarks.bench_embed --data ptb-xl/records500 --sizes clef_small --records 1332

Prints and keeps one JSON line for each way (`kind`): `torch` (wfdb, scipy and the same encoder in
PyTorch, in a loop over files), `files` and `shards` (what `clef-jax embed` does with them), and
`holter` (that command on one long recording, with the memory it takes). Weights are random, the
same for both sides, whose embeddings are compared. Compiling and loading are left out but for the
Holter; starting the reading processes and writing the table are not. Records are linked several
times if more are asked for than there are. Takes about ten minutes on two cores.
"""

import functools
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from absl import app, flags, logging

from benchmarks.results import Measurements
from clef_jax.hardware.timing import interleaved

# jax and torch are imported where they are used: reading processes import this module too, and
# their start is part of what is measured.

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_DATABASES = pathlib.Path(os.environ.get("CLEF_JAX_DATA", _ROOT.parent / "shared" / "data"))

_DATA = flags.DEFINE_string("data", os.fspath(_DATABASES / "ptb-xl" / "records500"),
                            "Folder of 12-lead WFDB records, 10 s at 500 Hz; by default of the "
                            "databases that the tests use.")  # fmt: skip
_SIZES = flags.DEFINE_list("sizes", "clef_small,clef_medium,clef_large", "Sizes to measure.")
_RECORDS = flags.DEFINE_integer("records", None, "Records; 2000, 320 and 64 by size by default.")
_WORKERS = flags.DEFINE_integer("workers", os.cpu_count(), "Reading processes.")
_HOLTER_HOURS = flags.DEFINE_list("holter_hours", "1,24", "Lengths of the Holters; empty for none.")
_QUICK = flags.DEFINE_bool("quick", False, "8 records, small only, 3 minutes, nothing kept.")

_DEFAULT_RECORDS = {"clef_small": 2000, "clef_medium": 320, "clef_large": 64}
_TORCH_BATCHES = (8, 64)
_WARM_RECORDS = 64
_LEAD = "II"
_HOLTER_FS = 200


def _link_records(source: str, folder: pathlib.Path, count: int) -> list[str]:
    """Links `count` records into `folder`, each under names of its own; returns their paths."""
    headers = sorted(pathlib.Path(source).rglob("*.hea"))
    if not headers:
        sys.exit(f"bench_embed: no WFDB records in {source}; give some with --data")
    paths = []
    for i in range(count):
        header = headers[i % len(headers)].absolute()
        # The header names its signal file, so every round gets a folder of its own.
        target = folder / f"{i // len(headers):03d}"
        target.mkdir(parents=True, exist_ok=True)
        for file in (header, header.with_suffix(".dat")):
            (target / file.name).symlink_to(file)
        paths.append(os.fspath(target / header.stem))
    return sorted(paths)


def _torch_way(model, device: str, paths: list[str], batch_size: int):
    """Returns embeddings, seconds and seconds by activity of a loop over files with batching."""
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
                inputs = torch.tensor(np.stack(batch), dtype=torch.float32, device=device)
                outputs.append(model(inputs[:, None]).cpu().numpy())
            batch = []
        spent["reading"] += read - start
        spent["preprocessing"] += prepared - read
        spent["computing"] += time.perf_counter() - prepared
    return np.concatenate(outputs), time.perf_counter() - begin, spent


def _our_way(encoder, paths: list[str], out: pathlib.Path, workers: int):
    """Returns embeddings, seconds and shares of time of one run of `embed_to_table`."""
    import numpy as np
    import pyarrow.parquet as pq

    from clef_jax.data.windows.cut import WindowSettings
    from clef_jax.data.windows.pool import Request
    from clef_jax.inference.run import embed_to_table

    request = Request(WindowSettings(leads=(_LEAD,)))
    report = embed_to_table(
        encoder, paths, os.fspath(out), request, workers=workers, progress=False
    )
    if report.failures:
        raise RuntimeError(report.failures[0].error)
    timings, seconds = report.timings, report.seconds
    shares = {
        "reading_per_reader": timings.reading / max(workers, 1) / seconds,
        "preprocessing_per_reader": timings.preprocessing / max(workers, 1) / seconds,
        "waiting": timings.waiting / seconds,
        "computing": timings.computing / seconds,
    }
    table = pq.read_table(out, columns=["embedding"])
    embedding = table["embedding"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
    return np.asarray(embedding), seconds, shares


def measure_size(measurements: Measurements, size: str, folder: pathlib.Path) -> None:
    """Adds the lines `torch`, `files` and `shards` of one size."""
    import jax
    import numpy as np
    import torch

    from clef_jax.data.shards.write import write_shards
    from clef_jax.inference import Encoder
    from clef_jax.models import get_config
    from tests.oracles.torch_resnext1d import TorchResNeXt1D, jax_params

    count = 8 if _QUICK.value else _RECORDS.value or _DEFAULT_RECORDS[size]
    records = folder / f"{size}-records"
    paths = _link_records(_DATA.value, records, count)
    torch.manual_seed(0)
    config = get_config(size)
    model = TorchResNeXt1D(config).eval()
    encoder = Encoder(config, jax_params(model))
    on_gpu = torch.cuda.is_available() and jax.default_backend() == "gpu"
    device = "cuda" if on_gpu else "cpu"
    model = model.to(device)
    common = {"size": size, "records": count}

    warm = paths[:_WARM_RECORDS]
    _our_way(encoder, warm, folder / f"{size}-warm.parquet", 0)
    candidates = {n: functools.partial(_torch_way, model, device, warm, n) for n in _TORCH_BATCHES}
    times = interleaved(candidates, rounds=2)
    batch = min(times, key=lambda n: times[n].best)

    expected, torch_seconds, spent = _torch_way(model, device, paths, batch)
    measurements.add(
        kind="torch", **common, readers=0, batch=batch, records_per_s=count / torch_seconds,
        times_torch=1.0, **{name: value / torch_seconds for name, value in spent.items()},
    )  # fmt: skip
    workers = _WORKERS.value
    actual, seconds, shares = _our_way(
        encoder, [os.fspath(records)], folder / f"{size}-files.parquet", workers
    )
    measurements.add(
        kind="files", **common, readers=workers, records_per_s=count / seconds,
        times_torch=torch_seconds / seconds,
        max_difference=float(np.abs(actual - expected).max() / np.abs(expected).max()), **shares,
    )  # fmt: skip
    shards = os.fspath(folder / f"{size}-shards")
    write_shards(records, shards, progress=False)
    actual, seconds, shares = _our_way(
        encoder, [shards], folder / f"{size}-shards.parquet", workers
    )
    measurements.add(
        kind="shards", **common, readers=workers, records_per_s=len(actual) / seconds,
        times_torch=torch_seconds / seconds * len(actual) / count, **shares,
    )  # fmt: skip


def _write_weights(folder: pathlib.Path) -> str:
    """Returns the folder of an untrained clef_small."""
    import jax
    import numpy as np

    from clef_jax.checkpoints.encoder import save_encoder
    from clef_jax.inference import encoder_meta
    from clef_jax.models import create_model, get_config

    weights = os.fspath(folder / "weights")
    params = create_model("clef_small").init(jax.random.key(0), np.zeros((1, 5000, 1)))["params"]
    save_encoder(weights, params, encoder_meta(get_config("clef_small"), params, {}))
    return weights


def _write_holter(folder: pathlib.Path, hours: float) -> str:
    """Returns the header of a two-lead recording of beats in noise."""
    import numpy as np
    import wfdb

    name = f"holter{hours:g}".replace(".", "_")
    t = np.arange(int(hours * 3600 * _HOLTER_FS)) / _HOLTER_FS
    beats = np.exp(-0.5 * ((t % 0.8 - 0.4) / 0.012) ** 2)
    beats += np.random.default_rng(0).normal(0, 0.01, t.size)
    wfdb.wrsamp(
        name,
        fs=_HOLTER_FS,
        units=["mV"] * 2,
        sig_name=["I", "II"],
        p_signal=np.stack([beats, 1.5 * beats], axis=1),
        fmt=["16"] * 2,
        adc_gain=[1000.0] * 2,
        baseline=[0] * 2,
        write_dir=os.fspath(folder),
    )
    return os.fspath(folder / f"{name}.hea")


def _children(pid: int) -> list[int]:
    try:
        return [
            int(child)
            for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except OSError:
        return []


def _resident_mb(pid: int) -> float:
    try:
        pages = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure_holter(
    measurements: Measurements, weights: str, hours: float, folder: pathlib.Path
) -> None:
    """Adds the line of one Holter: the command's duration, and the peak memory of its processes."""
    header, out = _write_holter(folder, hours), folder / f"holter{hours:g}.parquet"
    command = [sys.executable, "-m", "clef_jax.cli.main", "embed", header, "--weights", weights]
    command += ["--out", os.fspath(out), "--workers", str(_WORKERS.value)]
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
    measurements.add(
        kind="holter", size="clef_small", hours=hours, fs=_HOLTER_FS, readers=_WORKERS.value,
        seconds=seconds, windows_per_s=hours * 360 / seconds, peak_mb_main=main_mb,
        peak_mb_readers=sum(peaks.values()), table_mb=out.stat().st_size / 1e6,
    )  # fmt: skip


def main(argv: list[str]) -> None:
    """Runs the measurements one after another."""
    del argv
    # The Holter's process, and PyTorch, share a GPU with this one.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    logging.set_verbosity(logging.WARNING)
    measurements = Measurements("embed", keep=not _QUICK.value)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for size in ["clef_small"] if _QUICK.value else _SIZES.value:
            measure_size(measurements, size, folder)
        weights = _write_weights(folder)
        for hours in ["0.05"] if _QUICK.value else _HOLTER_HOURS.value:
            measure_holter(measurements, weights, float(hours), folder)


if __name__ == "__main__":
    app.run(main)
