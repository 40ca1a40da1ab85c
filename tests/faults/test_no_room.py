"""Every command that writes, on a disk that is full or read-only: one line, and nothing harmed."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from clef_jax.checkpoints.encoder import save_encoder
from clef_jax.data.demo import cohort
from clef_jax.data.signals.spec import CLEF_V2
from clef_jax.inference import encoder_meta
from tests.convert.checkpoints import torch_model, write_lightning
from tests.evaluate.cohorts import planted, write_cohort
from tests.evaluate.finetune.cohort import TINY, tiny_encoder
from tests.faults.disk import disk  # noqa: F401
from tests.shard_records import contents
from tests.train.runs import SETTINGS

pytestmark = pytest.mark.slow
ROOT = pathlib.Path(__file__).resolve().parents[2]
RUN = {**SETTINGS, "steps": 4, "evaluators.validation": 4, "evaluators.probe": 4}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, shards_folder):
    """What commands read, on a disk with room."""
    folder = tmp_path_factory.mktemp("inputs")
    cohort.write_simulated_cohort(folder / "cohort", 12, seed=0)
    write_lightning(folder / "small.ckpt", torch_model("clef_small"))
    params = tiny_encoder().params
    save_encoder(folder / "weights", params, encoder_meta(TINY, params, {}, CLEF_V2))
    table = write_cohort(folder / "beats", patients=20)
    examples = planted(folder / "beats", table).table.drop(columns=["example", "window_s"])
    examples.to_csv(folder / "beats" / "labels.csv", index=False)
    shutil.copytree(shards_folder, folder / "shards")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs a command and returns its exit code and the lines it printed."""
    output = tmp_path_factory.mktemp("printed") / "lines"
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.commands"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "2"},
    )

    def run(argv, out, pause=None):
        """Runs a command; or begins one that pauses, or waits for that, where `argv` is None."""
        first = output.with_name("of_first")
        path = first if pause or argv is None else output
        argv = argv and [str(one) for one in argv]
        task = {"argv": argv, "output": str(path), "pause": pause and str(pause)}
        task["cache"] = str(out)
        server.stdin.write(json.dumps(task) + "\n")
        server.stdin.flush()
        return None if pause else (int(server.stdout.readline()), path.read_text().splitlines())

    yield run
    server.stdin.close()
    server.stdout.close()
    server.wait()


LABELS = ["--lead", "II", "--workers", "0"]
COMMANDS = {
    "compute_risk": "--metadata {inputs}/cohort/metadata.csv --out {out}/risk.csv",
    "write_shards": "--records {inputs}/cohort --record_list {inputs}/cohort/record_list.csv "
    "--records_per_shard 4 --workers 1 --out {out}/shards",
    "simulate_cohort": "--patients 6 --out {out}/cohort",
    "draw_preprocessing": "--recording {inputs}/beats/p000_0 --lead II --out {out}/drawn.png",
    "convert_weights": "--input {inputs}/small.ckpt --out {out}/weights",
    "convert": "{inputs}/weights --to_torch --out {out}/weights.ckpt",
    "pretrain": f"--config {ROOT}/configs/demo.py --shards {{inputs}}/shards --workdir {{out}}/run "
    + " ".join(f"--config.{key}={value}" for key, value in RUN.items()),
    "embed": "{inputs}/beats --weights {inputs}/weights --lead II --workers 0 "
    "--out {out}/e.parquet",
    "evaluate": "--table {inputs}/beats/labels.csv --weights {inputs}/weights --lead II --seeds 1 "
    "--workers 0 --out {out}/results",
    "finetune": "--table {inputs}/beats/labels.csv --weights {inputs}/weights --lead II "
    "--epochs 2 --batch_size 8 --workers 0 --out {out}/head",
    "predict": "{inputs}/beats --weights {inputs}/head --workers 0 --out {out}/p.parquet",
    "report": "{inputs}/results --out {out}/report.html",
    "tune": "clef_small --batch 1 --samples 100 --seconds 600",
    "report_learned": "--workdir {inputs}/run --max_patients 40 --shards {inputs}/shards "
    "--out {out}/learned",
}
# What a command reads that another one wrote.
NEEDS = {"predict": "finetune", "report": "evaluate", "report_learned": "pretrain"}


SAME_BYTES = {"compute_risk", "write_shards", "simulate_cohort", "draw_preprocessing"}


def top(path):
    return pathlib.PurePath(path).parts[:2]


def argv_of(command, inputs, out):
    arguments = COMMANDS[command].format(inputs=inputs, out=out).split()
    return [command, *arguments]


def ensure_needed(command, inputs, run):
    if needed := NEEDS.get(command):
        made = inputs / {"finetune": "head", "evaluate": "results", "pretrain": "run"}[needed]
        if not made.exists():
            code, printed = run(argv_of(needed, inputs, inputs), inputs)
            assert code == 0, printed


def assert_one_line(code, printed, command):
    """Bars and reports of progress aside, what is told of the fault is one line, and the last."""
    assert code == 1, printed
    assert not any("Traceback" in line or "Exception" in line for line in printed), printed
    told = [line for line in printed if re.search("space left|Read-only|read-only", line)]
    assert len(told) == 1 and told[0] == printed[-1], printed
    assert re.match(rf"(clef-jax )?{command}: ", told[0]), printed
    assert "again" in told[0] and len(told[0]) < 600, told


@pytest.mark.parametrize("command", COMMANDS)
def test_one_line_and_a_rerun_with_room_completes(command, inputs, run, disk):  # noqa: F811
    ensure_needed(command, inputs, run)
    out = disk.path / "out"
    out.mkdir()
    argv = argv_of(command, inputs, out)
    before = disk.used()
    code, printed = run(argv, out)
    assert code == 0, printed
    size = disk.used() - before
    whole = contents(out)
    for leaving in (0, size // 2):
        shutil.rmtree(out)
        out.mkdir()
        disk.fill(leaving)
        assert_one_line(*run(argv, out), command)
        disk.make_room()
    code, printed = run(argv, out)
    assert code == 0, printed
    again = contents(out)
    # Orbax names files by chance, and clocks are in some.
    assert {top(path) for path in again} == {top(path) for path in whole}
    if command in SAME_BYTES:
        assert again == whole
    with disk.read_only():
        code, printed = run(argv, out)
    assert contents(out) == again
    if code:
        assert code == 1 and "Traceback" not in "\n".join(printed), printed
