"""What the tests of worker processes let them do; imports little, so that they start soon."""

import os
import time


def work(task):
    """Writes down that it runs, in which process, and does what the task says."""
    action, log = task
    with open(log, "a") as stream:
        stream.write(f"{action} {os.getpid()}\n")
    if action == "sleep":
        time.sleep(600)
    if action == "spin":
        while True:
            pass
    if action == "die":
        os._exit(7)
    if action == "fail":
        raise FileNotFoundError("nothing there")
    return action


def work_all(tasks):
    return [work(task) for task in tasks]


def wait_and_answer(task):
    log, release = task
    with open(log, "a") as stream:
        stream.write(f"{os.getpid()}\n")
    while not release.exists():
        time.sleep(0.01)
    return "done"


def count(task, advance):
    for _ in range(task):
        advance()
