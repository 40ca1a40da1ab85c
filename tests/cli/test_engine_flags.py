"""What writes shards, as the command line says."""

import importlib.util

import pytest
from absl.testing import flagsaver

from clef_jax.cli import engine_flags
from clef_jax.cli.arguments import UsageError
from clef_jax.data.shards.plan import WriteError


def test_processes_of_this_machine_unless_told_otherwise():
    assert engine_flags.engine() is None and engine_flags.workers() is None
    with flagsaver.flagsaver(workers=3):
        assert engine_flags.engine() is None and engine_flags.workers() == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"engine": "beam", "workers": 2}, "--workers belongs to --engine=local"),
        ({"beam_options": "--runner=FlinkRunner"}, "--beam_options belongs to --engine=beam"),
    ],
)
def test_options_of_the_other_engine_are_refused(given, message):
    with flagsaver.flagsaver(**given), pytest.raises(UsageError, match=message):
        engine_flags.engine()


@pytest.mark.skipif(importlib.util.find_spec("apache_beam") is not None, reason="Beam is there")
def test_without_beam_it_says_how_to_install_it():
    with (
        flagsaver.flagsaver(engine="beam"),
        pytest.raises(WriteError, match=r"needs Apache Beam: pip install 'clef-jax\[beam\]'"),
    ):
        engine_flags.engine()
