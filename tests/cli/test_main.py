"""The command `clef-jax`: its arguments, its exit codes, `info` and `convert`."""

import subprocess
import sys
import textwrap

import jax
import pytest

import clef_jax
from clef_jax.checkpoints.encoder import load_params, save_encoder
from clef_jax.cli import main as cli
from clef_jax.data.signals.recipe import recipe
from clef_jax.data.signals.spec import CLEF_V2
from tests.convert.checkpoints import torch_model, write_lightning
from tests.embed_runs import write_wfdb
from tests.oracles.specs import SPEC_VERSION_1


def test_workers_do_not_import_jax():
    script = (
        "import sys, clef_jax.cli.main, clef_jax.data.windows.pool\n"
        "print([m for m in ('jax', 'flax', 'torch', 'pandas', 'pyarrow') if m in sys.modules])\n"
    )
    command = [sys.executable, "-c", script]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


def test_programs_are_kept_by_commands_that_compute(tmp_path, monkeypatch):
    chosen = jax.config.jax_compilation_cache_dir
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    absent = str(tmp_path / "absent")
    try:
        for command, kept in (
            (["info", absent], False),
            (["convert", absent, "--out", str(tmp_path / "out")], False),
            (["embed", absent, "--weights", absent, "--out", str(tmp_path / "e.parquet")], True),
        ):
            jax.config.update("jax_compilation_cache_dir", None)
            assert cli.main(command) == 1
            assert (tmp_path / "cache" / "clef_jax" / "xla").exists() == kept, command
    finally:
        jax.config.update("jax_compilation_cache_dir", chosen)


@pytest.mark.parametrize(
    "command",
    [
        ["info", "gs://bucket/run"],
        ["embed", "recordings", "--weights", "w", "--out", "gs://bucket/e.parquet"],
        ["embed", "here", "s3://bucket/recordings", "--weights", "w", "--out", "e.parquet"],
        ["convert", "w.ckpt", "--out", "gs://bucket/w"],
    ],
)
def test_what_is_in_a_store_is_refused_by_name(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(command) == 1
    (line,) = capsys.readouterr().err.splitlines()
    (url,) = (argument for argument in command if "://" in argument)
    assert f" {url}: is in a store" in line and f"cp --recursive {url} FOLDER" in line
    assert not list(tmp_path.iterdir())


def test_info_and_convert(tmp_path, capsys):
    file = write_lightning(tmp_path / "run.ckpt", torch_model("clef_small"))
    folder = tmp_path / "clef_small"
    assert cli.main(["convert", str(file), "--out", str(folder)]) == 0
    output = capsys.readouterr().out
    assert "443,184 parameters used" in output and "ignored 155 keys: BatchNorm" in output
    assert cli.main(["info", str(folder)]) == 0
    output = capsys.readouterr().out
    assert "443,184 parameters, 256-d" in output and "run.ckpt" in output
    assert "fingerprint: computed as stored" in output
    assert '"version": 2' in output and "trained on version" not in output
    assert textwrap.indent(recipe(CLEF_V2), "    ") in output
    assert cli.main(["convert", str(folder), "--to_torch", "--out", str(tmp_path / "b.ckpt")]) == 0
    assert cli.main(["convert", str(tmp_path / "b.ckpt"), "--out", str(tmp_path / "again")]) == 0
    capsys.readouterr()
    assert cli.main(["convert", str(file), "--out", str(folder)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert cli.main(["info", str(tmp_path / "absent")]) == 1

    params, meta = load_params(folder)
    meta["preprocessing"] = SPEC_VERSION_1
    save_encoder(tmp_path / "older", params, meta)
    capsys.readouterr()
    assert cli.main(["info", str(tmp_path / "older")]) == 0
    assert "trained on version 1: the same for recordings at 500 Hz" in capsys.readouterr().out
    params["stem"]["kernel"] = params["stem"]["kernel"] * 1.5
    save_encoder(tmp_path / "changed", params, meta)
    capsys.readouterr()
    assert cli.main(["info", str(tmp_path / "changed")]) == 1
    assert "the weights or their computation changed" in capsys.readouterr().err


def test_version_and_help(capsys):
    for arguments, said in (
        (["--version"], f"clef-jax {clef_jax.__version__}\n"),
        (["--help"], "embed recordings into a Parquet table"),
        (["embed", "--help"], "sampling rate of files without"),
        (["info", "--help"], "usage: clef-jax info"),
        (["convert", "--help"], "usage: clef-jax convert"),
    ):
        with pytest.raises(SystemExit) as exit_:
            cli.main(arguments)
        assert exit_.value.code == 0 and said in capsys.readouterr().out
    assert cli.main([]) == 2
    assert "usage: clef-jax" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["emebd"], "invalid choice: 'emebd'"),
        (["embed", "x", "--weights", "w"], "required: --out"),
        (["embed", "x", "--lead", " , "], "--lead: expected names separated by commas"),
        (["embed", "x", "--fs", "0"], "--fs: expected a number above 0, got '0'"),
        (["embed", "x", "--fs", "nan"], "--fs: expected a number above 0, got 'nan'"),
        (["embed", "x", "--fs", "fast"], "--fs: expected a number above 0, got 'fast'"),
        (["embed", "x", "--window", "inf"], "--window: expected a number above 0, got 'inf'"),
        (["embed", "x", "--stride=-1"], "--stride: expected a number above 0, got '-1'"),
        (["embed", "x", "--workers=-1"], "--workers: expected a whole number from 0, got '-1'"),
        (["embed", "x", "--batch_size", "0"], "--batch_size: expected a whole number from 1"),
        (["embed", "x", "--batch_size", "8.5"], "--batch_size: expected a whole number from 1"),
    ],
)
def test_wrong_arguments(arguments, said, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 2 and said in capsys.readouterr().err


def test_places_where_nothing_can_be_read_or_written(weights, tmp_path, capsys):
    """One line that names the place, exit code 1, no traceback, and nothing left behind."""
    write_wfdb(tmp_path / "data", "a", seconds=10)
    (tmp_path / "folder.parquet").mkdir()
    (tmp_path / "file").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    data, out = str(tmp_path / "data"), str(tmp_path / "e.parquet")
    convert = ["convert", str(tmp_path / "file"), "--out", str(tmp_path / "new")]
    for arguments, said in (
        (["embed", data, "--weights", weights, "--out", out[:-8]], "ends with .parquet"),
        (["embed", data, "--weights", weights, "--out", out, "--window", "0.1"], "at least 1 s"),
        (["embed", data, "--weights", data, "--out", out], f"{data}: no checkpoint here"),
        (["embed", data, "--weights", data + "x", "--out", out], f"{data}x: no checkpoint here"),
        (["embed", data, "--weights", weights, "--out", str(tmp_path / "folder.parquet")],
         f"{tmp_path / 'folder.parquet'}: is a folder"),
        (["embed", data, "--weights", weights, "--out", str(tmp_path / "file/e.parquet")],
         f"{tmp_path / 'file'}"),
        (["info", data], f"{data}: no checkpoint here"),
        (["info", str(tmp_path / "file")], "file: no checkpoint here"),
        (convert, "file: not a zip-format PyTorch checkpoint"),
        ([*convert[:1], data, *convert[2:]], f"{data}: is a folder; expected a PyTorch file"),
        ([*convert[:1], str(tmp_path / "absent"), *convert[2:]], str(tmp_path / "absent")),
        ([*convert, "--to_torch"], "file: no checkpoint here"),
    ):  # fmt: skip
        assert cli.main(arguments) == 1, arguments
        printed = capsys.readouterr()
        assert said in printed.err and printed.err.startswith(f"clef-jax {arguments[0]}: ")
        assert printed.err.count("\n") == 1
        assert sorted(tmp_path.rglob("*")) == before, arguments
