"""The commands of the benchmarks, each at its `--quick`, as in a shell."""

import json
import pathlib
import subprocess
import sys

import jax
import pytest

import benchmarks
from benchmarks import bench_scaling, results, sections

ROOT = pathlib.Path(benchmarks.__file__).parents[1]
TIMES = {"seconds", "best_seconds", "spread", "repeats"}
STREAM = TIMES | {"readers", "cache", "batch", "data", "records_per_s", "times_original"}
SHARES = {"reading_per_reader", "preprocessing_per_reader", "waiting", "computing"}
READ = TIMES | {"readers", "cache", "set_gb", "read_gb", "gb_per_s", "gb_per_cpu_s"}
READ |= {f"share_of_{kind}{by}" for kind in ("files", "entries") for by in ("", "_by_cpu")}
EMBED = {"size", "records", "readers", "records_per_s", "times_torch"}
# Benchmark -> kind of line -> its fields, besides benchmark, kind and machine.
FIELDS = {
    "vs_torch": {
        None: TIMES | {f"torch_{name}" for name in TIMES}
        | {"size", "batch", "dtype", "peer", "ratio", "ratio_of_best"},
    },
    "step": {
        "ceilings": {"dtype", "flops_per_s", "bytes_per_s"},
        "step": TIMES
        | {"size", "batch", "dtype", "remat", "records_per_s", "flops_per_s", "mfu", "mfu_of"}
        | {"roofline_share", "memory_mb", "compile_seconds"},
    },
    "input": {
        "pipeline": STREAM,
        "device": STREAM,
        "original": STREAM,
        "fed": {"size", "batch", "dtype", "data", "records_per_s", "data_wait", "steps"}
        | {"alone_records_per_s"},
    },
    "read": dict.fromkeys(("batches", "entries", "files"), READ),
    "plan": dict.fromkeys(
        ("write", "start"), {"records", "patients", "part", "seconds", "cpu_seconds", "peak_mb"}
    ),
    "scaling": {
        "devices": TIMES | {"size", "batch", "dtype", "devices", "flops_share", "records_per_s"},
        "loss": TIMES | {"batch", "embedding", "temporary_mb", "whole_matrix_mb"},
        "batch": TIMES | {"size", "batch", "dtype", "records_per_s", "memory_mb"},
    },
    "embed": {
        "torch": EMBED | {"batch", "reading", "preprocessing", "computing"},
        "files": EMBED | SHARES | {"max_difference"},
        "shards": EMBED | SHARES,
        "holter": {"size", "hours", "fs", "readers", "seconds", "windows_per_s"}
        | {"peak_mb_main", "peak_mb_readers", "table_mb"},
    },
}  # fmt: skip


def kept():
    """What benchmarks may write, and when it was written last."""
    files = [results.FOLDER.with_name("RESULTS.md"), *results.FOLDER.iterdir()]
    files.append(ROOT / "clef_jax" / "ops" / "grouped_conv" / "table.py")
    return {path: path.read_bytes() for path in files}


def run(benchmark, *arguments):
    before = kept()
    command = [sys.executable, "-m", f"benchmarks.{benchmark}", "--quick", *arguments]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert found.returncode == 0, found.stderr
    assert kept() == before
    return found


@pytest.mark.slow
@pytest.mark.parametrize("benchmark", FIELDS)
def test_a_benchmark_measures_what_it_says_and_keeps_nothing(benchmark, request):
    if benchmark == "embed":
        data = request.getfixturevalue("real_data") / "ptb-xl" / "records500"
        found = run("bench_embed", "--data", str(data))
    else:
        found = run(f"bench_{benchmark}")
    rows = [json.loads(line) for line in found.stdout.splitlines()]
    assert {row.get("kind") for row in rows} == set(FIELDS[benchmark])
    for row in rows:
        kind = row.get("kind")
        assert row["benchmark"] == benchmark
        assert set(row) - {"benchmark", "kind", "machine"} == FIELDS[benchmark][kind]
        numbers = {k: v for k, v in row.items() if isinstance(v, float) and k != "max_difference"}
        assert all(v >= 0 for v in numbers.values())
        assert str(ROOT) not in json.dumps(row)
    if benchmark == "embed":
        assert all(row.get("max_difference", 0) < 1e-5 for row in rows)
    if benchmark == "scaling":
        shares = {row["devices"]: row["flops_share"] for row in rows if "devices" in row}
        assert shares[1] == 1 and shares[2] == pytest.approx(0.5, abs=0.03)


@pytest.mark.slow
def test_the_convolutions_are_tuned_quickly_and_their_table_stays():
    run("tune_grouped_conv")


@pytest.mark.parametrize("benchmark", FIELDS)
def test_the_report_shows_every_kind_of_line_and_no_field_that_none_has(benchmark):
    for kind, fields in FIELDS[benchmark].items():
        section = sections.of(benchmark, kind)
        assert set(section.case) <= fields | {"kind"}
    shown = [section for section in sections.SECTIONS if section.benchmark == benchmark]
    for section in shown:
        fields = set.union(*(FIELDS[benchmark][kind] for kind in section.kinds))
        row = dict.fromkeys(fields, 1.0)
        for template in section.columns.values():
            assert template.format(**row)


@pytest.mark.slow
def test_the_loss_is_measured_without_keeping_anything(capsys):
    before = kept()
    measurements = results.Measurements("scaling", keep=False)
    # Of fewer, products of the embedding's 256 dimensions with each other take more than pairs do.
    for batch in (64, 256):
        bench_scaling.measure_loss(measurements, batch)
    small, large = map(json.loads, capsys.readouterr().out.splitlines())
    assert set(large) - {"benchmark", "kind", "machine"} == FIELDS["scaling"]["loss"]
    # Sixteen times the pairs; 2N x 2N float32.
    assert large["whole_matrix_mb"] == 4 * 512**2 / 2**20
    assert 2 < large["temporary_mb"] / small["temporary_mb"] < 16
    assert large["machine"]["devices"] == jax.device_count()
    assert kept() == before
