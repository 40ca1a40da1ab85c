"""The tools' command lines: mistakes cost a line and exit code 2, and help names every setting."""

import pathlib
import re
import subprocess
import sys

import pytest

from clef_jax.train.settings import describe_unlisted

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "demo.py"


def run(tool, *arguments):
    command = [sys.executable, ROOT / "tools" / f"{tool}.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def slow(*case):
    """One of several mistakes that a tool tells in the same way."""
    return pytest.param(*case, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("pretrain", ["--config.batchsize=32"], "config.batchsize: there is no such setting; the "
         "nearest is --config.batch_size"),
        slow("pretrain", ["--config.eval_steps=5"], "--config.eval_steps is called "
         "--config.evaluators.validation now"),
        slow("pretrain", ["--config.objective.name=clef"], "--config.objective is called "
         "--config.method now"),
        slow("pretrain", ["--noconfig.remats"], "the nearest is --config.remat "),
        slow("pretrain", ["--config.method.nam", "clef"], "nearest is --config.method.name"),
        slow("pretrain", ["--config.method=clef"], "several settings: --config.method.combine, "),
        ("pretrain", ["--config.batch_size=many"], "--config.batch_size=many: invalid literal for"),
        ("pretrain", ["--config=absent.py"], "--config=absent.py: no such file"),
        slow("pretrain", [f"--config={__file__}"], "test_tool.py: has no function get_config"),
        ("pretrain", ["--shard=x"], "Unknown command line flag 'shard'. Did you mean: shards"),
        ("pretrain", ["extra"], "'extra' belongs to no flag"),
        ("write_shards", ["--out=o", "--records=r", "--min_leads=two"], "--min_leads=two: "),
        slow("write_shards", ["--out=o"], "--records is needed, except with --verify"),
        ("draw_preprocessing", ["--recording=r", "--out=gs://b/o"], "--out gs://b/o: is in a store,"
         " where this command neither reads nor writes; give it a folder of this machine"),
        slow("pretrain", ["--check=h100", "--coordinator=https://host"], "--coordinator https"),
        slow("simulate_cohort", ["--patients=3"], "--out must have a value"),
        ("compute_risk", ["--metadata=m.csv", "--out=r.csv", "--verbose_", "1"], "'verbose_'"),
        ("convert_weights", ["--input=a", "--out=b", "--to_torch", "no"], "'no' belongs to no"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_costs_a_line_and_exit_code_2(tool, arguments, message, tmp_path):
    if tool == "pretrain":
        run_ = [f"--config={CONFIG}", f"--shards={tmp_path}", f"--workdir={tmp_path / 'run'}"]
        arguments = run_ + arguments
    result = run(tool, *arguments)
    assert result.returncode == 2 and result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"{tool}: ") and message in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        slow("write_shards", ["--records=absent", "--out={out}"]),
        ("compute_risk", ["--metadata=absent.csv", "--out={out}"]),
        ("simulate_cohort", ["--recordings=absent", "--out={out}"]),
        slow("convert_weights", ["--input=absent.ckpt", "--out={out}"]),
        ("draw_preprocessing", ["--recording=absent", "--out={out}"]),
    ],
)
def test_an_absent_file_is_named_with_exit_code_1(tool, arguments, tmp_path):
    result = run(tool, *(argument.format(out=tmp_path / "out") for argument in arguments))
    assert result.returncode == 1 and "Traceback" not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"{tool}: ") and "absent" in last


@pytest.mark.parametrize(
    ("error", "told"), [("ClefError", True), ("OSError", True), ("ValueError", False)]
)
def test_only_a_mistake_in_the_program_keeps_its_traceback(error, told, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from clef_jax.cli import tool\nfrom clef_jax.errors import ClefError\n"
        f"def main():\n    raise {error}('so it is')\ntool.run(main)\n"
    )
    result = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert result.returncode == 1
    assert ("Traceback" not in result.stderr) == told
    assert (result.stderr == "script: so it is\n") == told


@pytest.mark.slow
def test_help_shows_every_setting_with_its_default_and_what_it_means():
    result = run("pretrain", "--help")
    assert result.returncode == 0
    base = (ROOT / "configs" / "clef_small.py").read_text()
    names = set(re.findall(r"^    config\.([\w.]+) = (?!ConfigDict)", base, re.MULTILINE))
    shown = dict(re.findall(r"--config\.([\w.]+)=.*\n      (.+)", result.stdout))
    assert len(names) >= 25
    # Options of methods and periods of evaluators are settings, listed in the file or not.
    assert shown.keys() == names | describe_unlisted().keys()
    assert "--config.batch_size=64\n      Records in the global batch" in result.stdout


@pytest.mark.slow
def test_help_shows_the_settings_of_the_configuration_that_is_given():
    of_demo = run("pretrain", "--help", "--config", CONFIG).stdout
    assert "--config.steps=120\n      If set, ends the run there" in of_demo
