import json

import pytest

from benchmarks import report, sections

EPYC = {
    "date": "2026-01-02", "backend": "cpu", "device": "AMD EPYC", "devices": 1, "cores": 2,
    "load": 0.7, "python": "3.11.7", "versions": {"jax": "0.10.2", "torch": None},
}  # fmt: skip
H100 = EPYC | {"backend": "gpu", "device": "NVIDIA H100 80GB HBM3", "cores": 16}
TIMES = {"seconds": 0.8513, "best_seconds": 0.7, "spread": 0.123, "repeats": 7}
STEP = {
    "kind": "step", "size": "clef_small", "batch": 64, "dtype": "float32", "remat": False,
    "records_per_s": 75.2, "flops_per_s": 2.6e10, "mfu": 0.174, "mfu_of": "measured product",
    "roofline_share": 0.282, "memory_mb": 1034.0, "compile_seconds": 21.4, **TIMES,
}  # fmt: skip
AOT = {
    "kind": "step", "estimate": "compiler", "target": "v5e:2x2", "size": "clef_small", "batch": 256,
    "chips": 1, "dtype": "bfloat16", "remat": False, "version": "now", "convolutions": "rule",
    "seconds": 0.00318, "predicted_by": "schedules and bytes", "resolved": 0.997,
    "records_per_s": 80503.0, "mfu": 0.143, "flops": 1.4e11, "useful_flops": 8.97e10,
    "moved_bytes": 3.4e9, "operations": 812, "memory_bytes": 9.8e8, "fits": True,
    "largest_batch": 4096, "compile_seconds": 44.0, "commit": "abc1234",
    "by_place": {
        "pointwise forward": {"seconds": 0.002, "bytes": 1e9, "operations": 20},
        "grouped convolution, forward": {"seconds": 0.001, "bytes": 1e9, "operations": 10},
    },
}  # fmt: skip
AOT_CASE = ("target", "size", "batch", "chips", "dtype", "remat", "version", "convolutions")
LINES = {
    "vs_torch": [
        {"size": "clef_large", "batch": 8, "dtype": "float32", "peer": "eager", "ratio": 0.7806,
         "ratio_of_best": 0.8038, **TIMES, "torch_seconds": 6.254, "torch_spread": 0.076},
    ],
    "step": [
        {"kind": "ceilings", "dtype": "float32", "flops_per_s": 1.5e11, "bytes_per_s": 2.5e10},
        STEP,
    ],
    "aot": [
        {**AOT, "version": "before", "seconds": 0.0061},
        AOT,
        {"kind": "failed", **{name: AOT[name] for name in AOT_CASE}, "error": "RESOURCE_EXHAUSTED",
         "commit": "abc1234"},
    ],
    "input": [
        {"kind": kind, "readers": 2, "cache": "warm", "batch": 64, "data": "simulated",
         "records_per_s": rate, "times_original": rate / 80, **TIMES}
        for kind, rate in (("pipeline", 19700.0), ("device", 13780.0), ("original", 80.0))
    ] + [
        {"kind": "fed", "size": "clef_medium", "batch": 8, "dtype": "float32", "steps": 5,
         "data": "simulated", "records_per_s": 5.9, "data_wait": 0.00125,
         "alone_records_per_s": 6.1},
    ],
    "read": [
        {"kind": kind, "readers": 8, "cache": "warm", "set_gb": 2.0, "read_gb": 0.328,
         "gb_per_s": rate, "gb_per_cpu_s": rate, "share_of_files": rate / 8,
         "share_of_files_by_cpu": rate / 8, "share_of_entries": rate / 2,
         "share_of_entries_by_cpu": rate / 2, **TIMES}
        for kind, rate in (("batches", 0.8), ("entries", 2.0), ("files", 8.0))
    ],
    "plan": [
        {"kind": "start", "records": 800035, "patients": 161352, "part": "open", "seconds": 7.5,
         "cpu_seconds": 7.1, "peak_mb": 832.8},
    ],
    "scaling": [
        {"kind": "devices", "size": "clef_small", "batch": 64, "dtype": "float32", "devices": 4,
         "flops_share": 0.2512, "records_per_s": 70.0, **TIMES},
        {"kind": "loss", "batch": 1024, "embedding": 256, "temporary_mb": 98.3,
         "whole_matrix_mb": 16.0, **TIMES},
        {"kind": "batch", "size": "clef_small", "batch": 256, "dtype": "float32",
         "records_per_s": 71.0, "memory_mb": 4100.0, **TIMES},
    ],
    "embed": [
        {"kind": "torch", "size": "clef_small", "records": 2000, "readers": 0, "batch": 8,
         "records_per_s": 100.0, "times_torch": 1.0, "computing": 0.55},
        {"kind": "files", "size": "clef_small", "records": 2000, "readers": 2,
         "records_per_s": 250.0, "times_torch": 2.5, "max_difference": 1.2e-7, "computing": 0.6},
        {"kind": "holter", "size": "clef_small", "hours": 24.0, "fs": 200, "readers": 2,
         "seconds": 61.2, "windows_per_s": 141.0, "peak_mb_main": 700.0, "peak_mb_readers": 310.0,
         "table_mb": 10.1},
    ],
}  # fmt: skip


def write_lines(folder, lines=LINES, machine=EPYC):
    folder.mkdir(exist_ok=True)
    for benchmark, rows in lines.items():
        with open(folder / f"{benchmark}.jsonl", "a") as stream:
            for row in rows:
                line = {"benchmark": benchmark, **row, "machine": machine}
                stream.write(json.dumps(line) + "\n")


def rendered(folder):
    report.render(folder / "results", folder)
    return (folder / "RESULTS.md").read_text()


def test_every_line_is_shown_in_its_table(tmp_path):
    write_lines(tmp_path / "results")
    text = rendered(tmp_path)
    for row in (
        "| clef_large | 8 | float32 | eager | 0.851 | 12% | 6.25 | 8% | **0.78** | 0.80 |",
        "| clef_small | 64 | float32 | False | 75.2 | 0.851 | 12% | 2.6e+10 | 17.4% |",
        "| float32 | 1.5e+11 | 2.5e+10 |",
        "| device | 2 | warm | simulated | 13,780.0 | 12% | 172.2 |",
        "| clef_medium | 8 | float32 | simulated | 5.9 | 0.12% | 6.1 |",
        "| clef_small | 64 | float32 | 4 | 0.251 | 70.0 |",
        "| 1024 | 0.851 | 12% | 98.3 | 16.0 |",
        "| clef_small | 256 | float32 | 71.0 | 0.851 | 12% | 4,100 |",
        "| clef_small | torch | 0 | 2000 | 100.0 | 1.00 |  | 55% |",
        "| clef_small | files | 2 | 2000 | 250.0 | 2.50 | 1.2e-07 | 60% |",
        "| clef_small | 24.0 | 2 | 61.2 | 141.0 | 700 | 310 | 10.1 |",
    ):
        assert row in text
    assert text.count("| 0.7 | 2026-01-02 |") == sum(map(len, LINES.values()))
    assert "{" not in text


def test_every_table_is_as_wide_as_its_heading(tmp_path):
    write_lines(tmp_path / "results")
    tables = [part for part in rendered(tmp_path).split("\n\n") if part.startswith("|")]
    assert len(tables) == len(sections.SECTIONS)
    for table in tables:
        assert len({line.count("|") for line in table.strip().splitlines()}) == 1


def test_the_plots_are_drawn_and_shown(tmp_path):
    write_lines(tmp_path / "results")
    text = rendered(tmp_path)
    plots = sorted((tmp_path / "plots").iterdir())
    names = ["aot", "input", "scaling", "step", "vs_torch"]
    assert [path.name.split("-")[0] for path in plots] == names
    for path in plots:
        assert f"(plots/{path.name})" in text
        assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size < 60_000


def test_the_latest_of_identical_cases_wins(tmp_path):
    others = [STEP | {"batch": 128, "records_per_s": 55.5}, STEP | {"records_per_s": 99.9}]
    write_lines(tmp_path / "results", {"step": [STEP, *others]})
    text = rendered(tmp_path)
    assert "| 64 | float32 | False | 99.9 |" in text and "| 128 | float32 | False | 55.5 |" in text
    assert "75.2" not in text


def test_another_machine_has_a_section_of_its_own(tmp_path):
    write_lines(tmp_path / "results", {"step": [STEP]})
    assert "No accelerator has been measured." in rendered(tmp_path)
    write_lines(tmp_path / "results", {"step": [STEP | {"records_per_s": 88.8}]}, H100)
    text = rendered(tmp_path)
    assert "No accelerator" not in text
    epyc, h100 = (
        text.index("## AMD EPYC, 2 cores"),
        text.index("## NVIDIA H100 80GB HBM3, 16 cores"),
    )
    assert epyc < text.index("75.2") < h100 < text.index("88.8")
    assert len(list((tmp_path / "plots").iterdir())) == 2


@pytest.mark.parametrize(
    "damage, reason",
    [
        (lambda line: line[: len(line) // 2], "JSONDecodeError"),
        (lambda line: line.replace('"batch"', '"match"'), "'batch'"),
        (lambda line: line.replace('"load"', '"lead"'), "'load'"),
        (lambda line: line.replace('"step", "size"', '"stop", "size"'), "'stop'"),
        (lambda line: "[1]", "not a measurement"),
    ],
)
def test_a_damaged_line_is_named(tmp_path, damage, reason):
    write_lines(tmp_path / "results", {"step": [STEP, STEP]})
    path = tmp_path / "results" / "step.jsonl"
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{damage(second)}\n")
    with pytest.raises(ValueError, match=r"step\.jsonl, line 2: ") as error:
        rendered(tmp_path)
    assert reason in str(error.value)
    assert not (tmp_path / "RESULTS.md").exists()


def test_what_compilers_say_stands_under_the_described_device_and_is_no_measurement(tmp_path):
    described = {k: v for k, v in EPYC.items() if k != "devices"}
    described |= {"backend": "described", "device": "v5e"}
    write_lines(tmp_path / "results", {"aot": LINES["aot"]}, described)
    text = rendered(tmp_path)
    assert "## v5e, by its compiler" in text
    assert "No accelerator has been measured." in text
    section = text[text.index("### What the compilers say") :]
    assert "No such device was at hand" in section
    lines = [line for line in section.splitlines() if line.startswith("| v5e:2x2 | clef_small")]
    before, now = lines[:2]
    assert "| before | rule | 0.0061 | schedules and bytes | 99.7% |" in before
    assert "| now | rule | 0.00318 |" in now
    assert (tmp_path / "plots" / "aot-v5e-by-its-compiler.png").stat().st_size > 1000


def test_parts_of_a_step_are_summed_by_how_their_names_begin():
    parts = LINES["aot"][0]["by_place"] | {
        "grouped convolution, input gradient": {"seconds": 0.004, "bytes": 1, "operations": 1}
    }
    assert sections.seconds_of(parts, "grouped convolution") == pytest.approx(0.005)
    assert sections.seconds_of(parts, "loss") == 0
