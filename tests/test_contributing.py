"""The recipes of CONTRIBUTING.md, applied to a copy of the package as they stand, and run."""

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import orbax.checkpoint as ocp
import pandas as pd
import pytest

from clef_jax.data.shards.store import ShardSet
from tests.test_architecture import FLOORS

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
# New files and changes of tables, both by path.
FILES = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", TEXT, re.DOTALL))
CHANGES = dict(re.findall(r"```diff\n# (\S+)\n(.*?)```", TEXT, re.DOTALL))
METHOD, ENCODER, FORMAT, EVALUATOR, TASK = FILES


def command(script, **places):
    """The command line of a script as CONTRIBUTING.md gives it, its places filled in."""
    (line,) = re.findall(rf"^python (tools/{script}\.py .*)$", TEXT, re.MULTILINE)
    return [str(places.get(word, word)) for word in shlex.split(line)]


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A copy of the package, its tools and configurations, with all recipes in it."""
    house = tmp_path_factory.mktemp("house")
    for part in ("clef_jax", "configs", "tools"):
        shutil.copytree(ROOT / part, house / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", house)
    for path, content in FILES.items():
        assert not (house / path).exists()
        (house / path).write_text(content)
    for path, change in CHANGES.items():
        content = (house / path).read_text()
        for hunk in change.split("@@\n"):
            lines = hunk.splitlines(keepends=True)
            old = "".join(line[1:] for line in lines if line[0] in " -")
            assert content.count(old) == 1, hunk
            content = content.replace(old, "".join(line[1:] for line in lines if line[0] in " +"))
        (house / path).write_text(content)
    return house


def run(house, *arguments):
    """Runs Python in the copy; whatever it prints, if it succeeds."""
    environment = os.environ | {"PYTHONPATH": str(house), "JAX_NUM_CPU_DEVICES": "4"}
    strict = {"JAX_NUMPY_RANK_PROMOTION": "raise", "JAX_NUMPY_DTYPE_PROMOTION": "strict"}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=house,
        env=environment | strict,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_the_floors_are_those_that_hold():
    lines = re.findall(r"^\d\. (.*):? ", TEXT, re.MULTILINE)
    named = re.findall("`([^`]+)`", " ".join(lines))
    assert len(lines) == 5 and [tuple(rooms.split()) for rooms in named] == list(FLOORS)


def test_a_recipe_is_a_file_and_its_line():
    assert len(FILES) == len(CHANGES) == 5
    for path, change in CHANGES.items():
        added = [line for line in change.splitlines() if line.startswith("+")]
        assert len(added) == 2, path  # An import, and the row.


def test_recipes_are_as_the_linter_wants_them(house):
    run(house, "-m", "ruff", "check", "clef_jax")
    run(house, "-m", "ruff", "format", "--check", "clef_jax")


@pytest.fixture(scope="module")
def trained(house, shards_folder):
    """The folder of two steps by the recipe's method of the recipe's encoder."""
    workdir = house / "run"
    arguments = command("pretrain", SHARDS=shards_folder, RUN=workdir)
    shorter = {"model": "vit_tiny", "steps": 2, "batch_size": 8, "log_steps": 1, "warmup_steps": 0}
    shorter |= {f"evaluators.{name}": -1 for name in ("validation", "probe", "map")}
    shorter["evaluators.norm"] = 1
    run(house, *arguments, *(f"--config.{key}={value}" for key, value in shorter.items()))
    return workdir


@pytest.mark.slow
def test_the_method_learns_with_its_option_from_the_command_line(trained):
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 2 and all(np.isfinite(row["train/loss"]) for row in rows)
    assert all(row["norm/encoder"] > 0 for row in rows)
    rest = ocp.StandardCheckpointer().restore(trained / "checkpoints" / "2" / "rest")
    queue = np.array(rest["carried"]["queue"])
    assert queue.shape == (1024, 64)
    unit = queue / np.linalg.norm(queue, axis=1, keepdims=True)
    # Before the random ones the keys of two batches of eight, by an encoder hardly trained.
    assert (unit[:16] @ unit[:16].T).min() > 0.8
    assert np.abs(unit[:16] @ unit[16:].T).max() < 0.8


AFTERWARDS = """
import runpy, sys
from clef_jax.cli import main as cli
from clef_jax.data.shards.write import write_shards

trained, strips, out, *report = sys.argv[1:]
assert cli.main(["info", trained]) == 0
assert cli.main(["embed", strips, "--weights", trained, "--out", out, "--workers", "0"]) == 0
write_shards(strips, strips + "_shards", workers=1, progress=False)
sys.argv = report
runpy.run_path(report[0], run_name="__main__")
"""


@pytest.mark.slow
def test_encoder_format_and_task_are_known_wherever_they_are_used(
    house, trained, shards_folder, tmp_path
):
    shards, rng = ShardSet(shards_folder), np.random.default_rng(0)
    patients = np.unique(shards.keys()["patient"])
    labels = pd.DataFrame({"patient": patients, "af": rng.integers(0, 2, len(patients))})
    labels.to_csv(tmp_path / "labels.csv", index=False)
    (tmp_path / "strips").mkdir()
    leads = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6", "RESP"]
    t = np.arange(5000) / 500
    beats = 1000 * np.exp(-0.5 * ((t % 0.8 - 0.4) / 0.012) ** 2)
    steps = np.rint(beats[:, None] + rng.normal(0, 5, (5000, len(leads)))).astype("<i2")
    about = {"fs": 500, "leads": leads, "mv_per_unit": 1e-3, "patient": "p1"}
    content = json.dumps(about).encode() + b"\n" + steps.tobytes()
    (tmp_path / "strips" / "a.strip").write_bytes(content)

    script, out = tmp_path / "afterwards.py", tmp_path / "e.parquet"
    script.write_text(AFTERWARDS)
    places = {"SHARDS": shards_folder, "RUN": trained, "labels.csv": tmp_path / "labels.csv"}
    report = command("report_learned", **places)
    said = run(house, script, trained, tmp_path / "strips", out, *report)

    assert "vit_tiny: 203,328 parameters, 64-d embedding" in said
    embedded = pd.read_parquet(out)
    assert embedded["record"].tolist() == ["a"] and len(embedded["embedding"][0]) == 64
    written = ShardSet(tmp_path / "strips_shards")
    assert written.record.tolist() == ["a"] and written.n_leads.tolist() == [12]
    (figure,) = (
        figure
        for figure in json.loads((trained / "learned.json").read_text())["figures"]
        if (figure["name"], figure["labels"]) == ("af", 1.0)
    )
    # Every patient has a label; more would be needed for a figure.
    assert figure["learnt_from"] + figure["tested"] == len(patients)
    assert "Atrial fibrillation from 100% of the labels (" in said
    assert (trained / "plots" / "learned.png").is_file()


@pytest.mark.slow
def test_recipes_keep_to_types_and_floors(house):
    run(house, "-m", "mypy")
    (house / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "test_architecture.py", house / "tests")
    run(house, "-m", "pytest", "-q", "-p", "no:xdist", "tests")
