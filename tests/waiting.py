"""Waiting for other processes, and seeing which of them live."""

import time

import psutil


def wait_for(condition, seconds=300, meanwhile=lambda: True):
    deadline = time.monotonic() + seconds
    while not condition():
        assert meanwhile() and time.monotonic() < deadline
        time.sleep(0.01)


def children_of(process):
    """Returns the processes that one started, and those that these did."""
    return psutil.Process(process.pid).children(recursive=True)


def wait_until_gone(processes, seconds=60):
    wait_for(lambda: not alive(processes), seconds)


def alive(processes):
    return [process for process in processes if _lives(process)]


def _lives(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # It ended in between.
        return False
