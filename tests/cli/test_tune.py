"""`clef-jax tune`: a real run, as small as it can be, and what it keeps."""

import dataclasses
import re

import jax

from clef_jax.cli import main as cli
from clef_jax.hardware.caches import device_name
from clef_jax.models import registry
from clef_jax.ops.grouped_conv import tuned
from tests.train.runs import TINY

# The stem, and one block.
LEAST = dataclasses.replace(TINY, stage_widths=(4,), stage_blocks=(1,))


def test_a_device_is_tuned_and_its_table_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(registry._CONFIGS, "clef_small", LEAST)
    command = ["tune", "clef_small", "--batch", "1", "--samples", "100", "--seconds", "600"]
    assert cli.main(command) == 0
    layers = {str(convolution.layer) for convolution in LEAST.convolutions(100)}
    name = device_name(jax.devices()[0])
    conditions = tuned.Conditions(name, "float32", views=2, samples=100)
    found = tuned.find_table(conditions)
    assert found.keys() == layers
    first, *lines, summary, written = capsys.readouterr().out.splitlines()
    assert first == f"{name}, float32, 1 records a step: at most 600 s"
    assert {re.match(r"c\d+x\d+ s\d k\d+", line)[0] for line in lines} == layers
    assert all(re.search(r"\d+\.\d\d -> +\d+\.\d\d ms: .*; about \d+ s left$", s) for s in lines)
    assert re.match(r"100% of the convolutions' work measured, .* ms tuned$", summary)
    assert written == f"written: {tuned.table_path(conditions)}"


def test_no_time_and_no_such_size_are_told_in_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cli.main(["tune", "clef_small", "--seconds", "1e-9"]) == 1
    assert "nothing was measured; take more --seconds" in capsys.readouterr().err
    assert cli.main(["tune", "clef_tiny"]) == 1
    assert "clef_tiny: no such size; choose of clef_small, " in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.json"))
