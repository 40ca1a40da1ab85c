"""Errors that nobody waits for: of Orbax's writes they are left out, of others they are told."""

import asyncio
import contextlib
import gc
import os
import sys

import pytest

from clef_jax.checkpoints import quiet

WRITE = """
async def write(loop):
    try:
        await loop.create_future()
    finally:
        raise RuntimeError("what was reserved cannot be given back")
"""


@pytest.fixture
def unraisable(monkeypatch):
    """What is told of errors that cannot be raised, once Orbax's are left out."""
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    quiet.quiet_orbax()
    return told


async def unheard(error):
    asyncio.get_running_loop().create_future().set_exception(error)
    gc.collect()


@pytest.mark.parametrize(
    ("error", "is_told"),
    [
        (
            ValueError("OUT_OF_RANGE: Error writing a/0.0: File too large [os_error_code='27']"),
            False,
        ),
        (ValueError("UNAVAILABLE: Error reading a/0.0"), False),
        (ValueError("a rate of 0 Hz"), True),
        (ValueError("HTTP: 404"), True),
        (RuntimeError(), True),
    ],
)
def test_a_future_that_nobody_waits_for(error, is_told, caplog):
    quiet.quiet_orbax()
    asyncio.run(unheard(error))
    assert [record.exc_info[1] for record in caplog.records] == [error] * is_told


@pytest.mark.parametrize(("library", "is_told"), [("orbax", False), ("another", True)])
def test_a_write_that_its_loop_leaves_unfinished(library, is_told, unraisable):
    defined = {}
    exec(compile(WRITE, os.path.join(os.sep, library, "writes.py"), "exec"), defined)
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        write = defined["write"](loop)
        write.send(None)
        del write
    gc.collect()
    assert len(unraisable) == is_told
