"""Tasks spread over worker processes, with one progress bar and no orphans."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for_process
from typing import Any

from tqdm import tqdm

_steps_done: Any = None


class WorkerDied(RuntimeError):
    """A worker process ended without a Python error."""


def run_tasks(
    function: Callable[[Any, Callable[[], Any]], None],
    tasks: Iterable[Any],
    workers: int,
    bar: tqdm,
) -> None:
    """Calls `function(task, advance)` for every task, in spawned processes if workers > 1.

    Args:
      function: A module-level function; it calls `advance()` after each step of the bar.
      tasks: Drawn as they are needed, so that a generator may cut them from something large.
      workers: Number of processes; 1 stays in this one.
      bar: Moves by the steps of all workers.

    Raises:
      WorkerDied: A process was killed.
    """
    if workers == 1:
        for task in tasks:
            function(task, bar.update)
        return
    context = multiprocessing.get_context("spawn")
    done = context.Value("q", 0)
    pool = ProcessPoolExecutor(workers, context, _start_worker, (done,))
    try:
        pending: set = set()
        for task in tasks:
            pending.add(pool.submit(_run_task, function, task))
            while len(pending) > 2 * workers:
                pending = _collect(pending, done, bar)
        while pending:
            pending = _collect(pending, done, bar)
    except BrokenProcessPool as error:
        raise WorkerDied("a worker process died, most likely killed for want of memory") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _collect(pending: set, done: Any, bar: tqdm) -> set:
    finished, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
    bar.update(done.value - bar.n)
    for future in finished:
        future.result()
    return pending


def _start_worker(done: Any) -> None:
    global _steps_done
    _steps_done = done
    # Ctrl-C reaches the whole process group; the parent alone answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    leave_with_parent()


def leave_with_parent() -> None:
    """Ends this worker process once its parent is dead.

    A killed parent cannot stop its workers, and one that waits for tasks would wait for ever.
    """

    def wait_and_leave() -> None:
        wait_for_process([multiprocessing.parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=wait_and_leave, daemon=True).start()


def _advance() -> None:
    with _steps_done.get_lock():
        _steps_done.value += 1


def _run_task(function: Callable, task: Any) -> None:
    function(task, _advance)
