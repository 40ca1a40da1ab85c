"""Worker processes: they leave with their parent, and a death costs one task."""

import functools
import gc
import os
import pathlib
import signal
import subprocess
import sys

import psutil
import pytest

from clef_jax.errors import ClefError
from clef_jax.processes import WorkerDied, Workers, WorkersCannotStart, in_order, run_tasks
from tests.waiting import children_of, wait_for, wait_until_gone
from tests.worker_tasks import count, wait_and_answer, work, work_all

PARENT = """
import sys, time
from clef_jax.processes import Workers
from tests.worker_tasks import work

if __name__ == "__main__":
    with Workers(2) as workers:
        busy = workers.submit(work, ("sleep", sys.argv[1]))
        idle = workers.submit(work, ("log", sys.argv[1]))
        idle.result()
        busy.result()
"""


def lines(log):
    return pathlib.Path(log).read_text().splitlines() if os.path.exists(log) else []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_workers_leave_with_their_parent(tmp_path, how):
    """One in the midst of a task, one that waits for the next."""
    (tmp_path / "parent.py").write_text(PARENT)
    log = tmp_path / "log"
    root = pathlib.Path(__file__).resolve().parent.parent
    environment = os.environ | {"PYTHONPATH": str(root)}
    command = [sys.executable, tmp_path / "parent.py", log]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(lines(log)) == 2)
    children = children_of(process)
    assert {int(line.split()[1]) for line in lines(log)} <= {child.pid for child in children}
    process.send_signal(how)
    wait_until_gone(children, seconds=5)
    _, printed = process.communicate(timeout=5)
    assert (process.returncode, printed) == (-how, "")


def test_leaving_the_context_kills_what_runs(tmp_path):
    log = tmp_path / "log"
    with pytest.raises(ZeroDivisionError), Workers(1) as workers:
        running = workers.submit(work, ("spin", log))
        waiting = workers.submit(work, ("log", log))
        wait_for(lambda: lines(log))
        raise ZeroDivisionError
    assert running.done() and waiting.cancelled()
    assert not psutil.pid_exists(int(lines(log)[0].split()[1]))


def test_leaving_the_context_leaves_nothing_of_idle_workers(tmp_path):
    log = tmp_path / "log"
    with Workers(2) as workers:
        for _ in range(2):
            workers.submit(work, ("log", log)).result()
    # Not even a zombie.
    assert not any(psutil.pid_exists(int(line.split()[1])) for line in lines(log))


def test_answers_come_in_order_and_errors_as_they_are(tmp_path):
    log = str(tmp_path / "log")
    with Workers(2) as workers:
        tasks = list(range(20))
        found = list(in_order(workers, functools.partial(pow, 2), tasks, lambda task: [task]))
        assert found == [(n, 2**n) for n in tasks]
        with pytest.raises(FileNotFoundError, match="nothing there") as error:
            workers.submit(work, ("fail", log)).result()
        assert "in work" in error.value.__notes__[0]  # the worker's own traceback
        with pytest.raises(AttributeError, match="[Cc]an't pickle|[Cc]an't get local"):
            workers.submit(work, lambda: None).result()
        assert workers.submit(work, ("log", log)).result() == "log"


def test_no_more_tasks_are_drawn_than_memory_allows():
    drawn = []

    def tasks():
        for n in range(1000):
            drawn.append(n)
            yield n

    with Workers(2) as workers:
        answers = in_order(workers, abs, tasks(), lambda task: [task])
        for taken, _ in enumerate(answers, start=1):
            assert len(drawn) <= taken + 6
            if taken == 50:
                break


def test_a_death_costs_its_own_task_alone(tmp_path):
    """Of 64 tasks of 8 parts, the one with the deadly part runs twice whole, then part by part."""
    log = str(tmp_path / "log")
    tasks = [[(f"{t}.{part}", log) for part in range(8)] for t in range(64)]
    tasks[20][3] = ("die", log)
    with Workers(2, attempts=2) as workers:
        found = list(in_order(workers, work_all, tasks, lambda task: [[part] for part in task]))
    died = [answer for _, answer in found if not isinstance(answer, list)]
    assert [error.exit_code for error in died] == [7]
    expected = [part for task in tasks for part, _ in task]
    answered = [answer if isinstance(answer, list) else ["die"] for _, answer in found]
    assert [part for answer in answered for part in answer] == expected

    ran = [line.split()[0] for line in lines(log)]
    for part in expected:
        own = {"20.0": 3, "20.1": 3, "20.2": 3, "die": 4}
        assert ran.count(part) == own.get(part, 1), part
    assert len({line.split()[1] for line in lines(log)}) == 2 + 4  # each death, one new process


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts open files in /proc")
def test_many_deaths_leave_no_file_open(tmp_path):
    with Workers(1) as workers:
        opened = []
        for _ in range(4):
            with pytest.raises(WorkerDied):
                workers.submit(work, ("die", tmp_path / "log")).result()
            gc.collect()
            opened.append(len(os.listdir("/proc/self/fd")))
    assert opened[1:] == opened[1:2] * 3


def test_a_killed_worker_is_replaced_and_its_task_done(tmp_path):
    log, release = tmp_path / "log", tmp_path / "release"
    with Workers(1, attempts=2) as workers:
        future = workers.submit(wait_and_answer, (log, release))
        wait_for(lambda: lines(log))
        os.kill(int(lines(log)[0]), signal.SIGKILL)
        wait_for(lambda: len(lines(log)) == 2)
        release.touch()
        assert future.result() == "done"


def test_processes_that_cannot_start_blame_no_task(tmp_path):
    """A script without a guard starts itself again in each worker."""
    (tmp_path / "script.py").write_text(
        "from clef_jax.processes import WorkerDied, Workers, WorkersCannotStart, in_order\n"
        "with Workers(1, attempts=2) as workers:\n"
        "    try:\n"
        "        print(list(in_order(workers, abs, [1], lambda task: [task])))\n"
        "    except WorkersCannotStart as error:\n"
        "        print('refused', error)\n"
    )
    root = str(pathlib.Path(__file__).resolve().parent.parent)
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": root}, timeout=60,
    )  # fmt: skip
    assert "refused a worker process died before its first task" in done.stdout
    assert "__main__" in done.stdout and issubclass(WorkersCannotStart, ClefError)


class Bar:
    n = 0

    def update(self, n=1):
        self.n += n


@pytest.mark.parametrize("workers", [1, 2])
def test_the_bar_counts_every_step(workers):
    bar = Bar()
    run_tasks(count, (n for n in range(40)), workers, bar)
    assert bar.n == sum(range(40))
