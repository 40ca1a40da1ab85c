"""All benchmarks within a time, by cases that end, fail, hang and start others."""

import contextlib
import pathlib
import subprocess
import sys

import psutil
import pytest

from benchmarks import budget
from benchmarks.budget import Case, run_cases
from tests.waiting import wait_until_gone


def make_cases(tmp_path, monkeypatch, **scripts):
    """Puts programs where benchmarks are looked for; returns them as cases of equal shares."""
    package = tmp_path / "benchmarks"
    package.mkdir()
    (package / "__init__.py").touch()
    for name, text in scripts.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(budget, "_LEAST_SECONDS", 0.5)
    return tuple(Case(name, 1) for name in scripts)


@pytest.mark.slow
def test_time_left_over_is_for_those_that_follow(tmp_path, monkeypatch):
    cases = make_cases(
        tmp_path,
        monkeypatch,
        quick="",
        # More than its share of eight seconds, less than what `quick` leaves.
        slow="import time, pathlib; time.sleep(8.5); pathlib.Path('done').touch()",
    )
    assert run_cases(cases, 16, []) == []
    assert pathlib.Path("done").exists()


def test_what_failed_hung_or_found_no_time_is_said_and_the_rest_runs(tmp_path, monkeypatch):
    cases = make_cases(
        tmp_path,
        monkeypatch,
        bad="raise SystemExit(4)",
        # Measures one line, then hangs, with a child that would outlive it.
        hang="import subprocess, sys, time, pathlib\n"
        "pathlib.Path('line').touch()\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "pathlib.Path('child').write_text(str(child.pid))\n"
        "time.sleep(600)",
        last="import pathlib; pathlib.Path('last').touch()",
    )
    failed = run_cases(cases, 12, [])
    assert failed[0] == "failed with exit code 4: bad"
    assert failed[1].startswith("stopped after ") and failed[1].endswith(": hang")
    assert len(failed) == 2
    assert pathlib.Path("line").exists() and pathlib.Path("last").exists()
    with contextlib.suppress(psutil.NoSuchProcess):
        wait_until_gone([psutil.Process(int(pathlib.Path("child").read_text()))])


def test_without_time_a_case_is_skipped_and_said(tmp_path, monkeypatch):
    cases = make_cases(tmp_path, monkeypatch, first="import pathlib; pathlib.Path('f').touch()")
    assert run_cases(cases, 0.1, []) == [
        "skipped, as no time was left: first",
    ]
    assert not pathlib.Path("f").exists()


def test_every_case_is_a_benchmark_with_arguments_that_it_takes():
    """In a process of its own: two benchmarks in one would define their flags twice."""
    listing = (
        "from benchmarks import all as every\n"
        "for case in every._CPU + every._GPU + every._TPU: print(case.command)"
    )
    folder = pathlib.Path(budget.__file__).parent
    found = subprocess.run(
        [sys.executable, "-c", listing],
        cwd=folder.parent,
        capture_output=True,
        check=True,
        text=True,
    )
    commands = found.stdout.splitlines()
    assert len(commands) > 10
    for command in commands:
        name, *arguments = command.split()
        source = (folder / f"{name}.py").read_text()
        for flag in arguments[::2]:
            assert f'"{flag.removeprefix("--")}"' in source, command
