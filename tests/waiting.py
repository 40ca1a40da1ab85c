"""Waiting for other processes, and seeing which of them live."""

import time

import psutil


def wait_for(condition, seconds=300, meanwhile=lambda: True):
    deadline = time.monotonic() + seconds
    while not condition():
        assert meanwhile() and time.monotonic() < deadline
        time.sleep(0.01)


def alive(processes):
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
