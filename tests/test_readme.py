"""Every code block of README.md, run as it stands there: a new one without a test fails."""

import importlib.util
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tomllib

import numpy as np
import pandas as pd
import pytest

from clef_jax.cli import main as cli
from clef_jax.data.demo import cohort
from tests.convert.checkpoints import torch_model, write_lightning
from tests.evaluate.cohorts import write_cohort

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Blocks in README's order; tests/data/signals/test_recipe.py shows that RECIPE is what happens.
MAKE, WEIGHTS, EMBED, GRADIENT, EVALUATE, RECIPE, PRETRAIN, ACCELERATORS, LAYOUT = range(9)
# Names of packages that are installed under another.
DISTRIBUTIONS = {"pydicom": "pydicom", "sleepecg": "sleepecg", "clef_jax": "clef-jax", "jax": "jax"}


def blocks():
    found = re.findall(r"```(\w*)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(found) == 9, "give a new block of README a name and a test here"
    return [text for _, text in found]


def commands(block):
    lines = [shlex.split(line, comments=True) for line in blocks()[block].splitlines()]
    return [line for line in lines if line]


def installed_by(line):
    """Returns the distributions that `pip install LINE` names, by way of this project's extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = {"clef-jax"}
    for requirement in line[2:]:
        if extras := re.fullmatch(r"\.\[(.*)\]", requirement):
            named = list(project["dependencies"])
            for extra in extras.group(1).split(","):
                named += project["optional-dependencies"][extra]
            found |= {re.match(r"[\w-]+", name).group() for name in named}
        else:
            found.add(requirement)
    return found


def test_make_has_the_targets():
    for line in commands(MAKE):
        assert line[0] == "make"
        done = subprocess.run(["make", "--dry-run", *line[1:]], cwd=ROOT, capture_output=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_make_demo_ends_with_what_was_learned(tmp_path):
    """In this machine's .venv, with fewer patients."""
    options = [f"DEMO={tmp_path / 'demo'}", "PATIENTS=300"]
    done = subprocess.run(["make", "demo", *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "demo" / "run" / "learned.json").is_file()


@pytest.mark.slow
def test_the_weights_block_converts_and_embeds_and_the_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    install, download, *rest = commands(WEIGHTS)
    file = download[-1].rsplit("/", 1)[1]
    write_lightning(tmp_path / file, torch_model("clef_small"))
    cohort.write_simulated_cohort(tmp_path / "RECORDINGS", 1, seed=0)
    for line in rest:
        assert line[0] == "clef-jax"
        assert cli.main(line[1:]) == 0, capsys.readouterr().err
    assert pd.read_parquet("embeddings.parquet")["lead"].unique() == ["I"]

    for block in (EMBED, GRADIENT):
        for module in re.findall(r"^(?:import|from) (\w+)", blocks()[block], re.MULTILINE):
            assert DISTRIBUTIONS[module] in installed_by(install)
    names = {}
    exec(blocks()[EMBED], names)
    assert names["twelve"].embedding.shape == (12, 256)
    assert names["z"].shape == (30, 256) and names["layers"]["stage3"].shape == (30, 157, 128)
    assert names["record"].shape == (1, 256)
    exec(blocks()[GRADIENT], names)
    assert names["gradient"].shape == names["x"].shape == (1, 5000)
    assert np.abs(names["gradient"]).max() > 0


@pytest.mark.slow
def test_the_evaluation_block_runs(tmp_path, weights, monkeypatch, capsys):
    """Its own lines, with a tiny encoder in the place of the small one."""
    monkeypatch.chdir(tmp_path)
    table = write_cohort(tmp_path / "RECORDINGS", patients=60)
    files = "RECORDINGS/" + table["file"]
    labels = {"file": files, "patient": table["patient"], "inverted": (table["t_mv"] < 0) * 1}
    pd.DataFrame(labels).assign(lead="II").to_csv("labels.csv", index=False)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "clef_small").symlink_to(weights)
    install, *rest = commands(EVALUATE)
    assert {"scikit-learn", "jinja2"} <= installed_by(install)
    for line in rest:
        assert line[0] == "clef-jax"
        assert cli.main(line[1:]) == 0, capsys.readouterr().err
    assert (tmp_path / "report.html").stat().st_size < 5e6
    predicted = pd.read_parquet("predictions.parquet")
    assert set(predicted["label"]) == {"inverted"} and predicted["score"].between(0, 1).all()


def test_the_recipe_runs():
    names = {}
    exec(blocks()[RECIPE], names)
    assert names["encoder_input"](np.sin(np.arange(5000) / 40), 500).shape == (5000,)


@pytest.mark.slow
def test_the_pretraining_block_runs(tmp_path):
    """Its own lines, on a small cohort, shortened by options."""
    cohort.write_simulated_cohort(tmp_path / "RECORDS", 60, seed=0)
    for name in ("metadata.csv", "record_list.csv"):
        (tmp_path / "RECORDS" / name).rename(tmp_path / name.replace("metadata", "patients"))
    shorter = {
        "compute_risk.py": [],
        "write_shards.py": ["--metadata=patients.csv", "--validation_fraction=0.3"],
        "pretrain.py": ["--config.steps=2", "--config.batch_size=8"],
        "report_learned.py": [],
    }
    install, *rest = commands(PRETRAIN)
    assert "scikit-learn" in installed_by(install)
    for command, script, *arguments in rest:
        assert command == "python"
        arguments = [a.replace("configs/", f"{ROOT}/configs/") for a in arguments]
        done = subprocess.run(
            [sys.executable, ROOT / script, *arguments, *shorter.pop(pathlib.Path(script).name)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    assert shorter == {}
    assert (tmp_path / "RUN" / "summary.json").is_file()
    assert (tmp_path / "RUN" / "learned.json").is_file()


@pytest.mark.slow
def test_the_accelerators_block_installs_checks_and_tunes(capsys):
    """Where the compilers of devices are not installed, `--check` says how they would be."""
    *installs, check, tune = commands(ACCELERATORS)
    for line in installs:
        assert "jax" in installed_by(line)
    command, script, *arguments = check
    assert command == "python"
    arguments = [a.replace("configs/", f"{ROOT}/configs/") for a in arguments]
    done = subprocess.run(
        [sys.executable, ROOT / script, *arguments], capture_output=True, text=True, timeout=1800
    )
    if importlib.util.find_spec("libtpu") is None:
        assert done.returncode == 1 and "pip install 'clef-jax[aot]'" in done.stderr
    else:
        assert done.returncode == 0 and '"fits": true' in done.stdout
    assert tune[0] == "clef-jax"
    # What it measures, given time, is tested in tests/cli/test_tune.py.
    code = cli.main([*tune[1:], "--seconds=0.01", "--batch=1", "--samples=100"])
    found = capsys.readouterr()
    assert "1 records a step: at most 0.01 s" in found.out
    assert code != 0 and "nothing was measured" in found.err


def test_the_layout_names_what_is_there():
    folders = r"(?:^|\s)((?:clef_jax|configs|tools|benchmarks)/\w*)"
    named = re.findall(folders, blocks()[LAYOUT])
    assert len(named) > 8
    for path in named:
        assert (ROOT / path).is_dir(), path
