"""Worker processes that leave with their parent; tasks with a progress bar, tasks in order.

Every worker has a thread of the parent that hands it one task at a time and waits for the answer:
so a worker that dies fails the task it ran, and no other.
"""

import collections
import concurrent.futures
import contextlib
import multiprocessing
import os
import pickle
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for_process
from typing import Any

from tqdm import tqdm

from clef_jax.errors import ClefError

# Tasks under way or finished and not yet taken, for each worker: enough that none waits for work.
_TASKS_AHEAD = 3
_READY, _STEP, _ANSWER, _ERROR = range(4)


class WorkerDied(ClefError):
    """A worker process ended in the middle of a task, without a Python error.

    Attributes:
        exit_code: Of the process; a signal's number is negative, and None stands for unknown.
    """

    def __init__(self, exit_code: int | None):
        super().__init__(
            f"a worker process died (exit code {exit_code}), most likely killed for want of memory"
        )
        self.exit_code = exit_code


class WorkersCannotStart(ClefError):
    """A worker process died before it could take a task: no task is to blame."""


class Workers:
    """Worker processes, each started when a task needs it. A context manager.

    Leaving the context kills the workers, whatever they do; whoever wants a task finished waits for
    its future first. The workers are spawned, because a fork of a process that runs jax can
    deadlock: the caller's main module must be importable, and functions and tasks picklable.

    Args:
        count: Number of processes.
        attempts: How many workers may die of a task before it fails.
    """

    def __init__(self, count: int, attempts: int = 1):
        self.count = count
        self._attempts = attempts
        self._threads = ThreadPoolExecutor(count)
        self._lock = threading.Lock()
        self._alive: set[_Worker] = set()
        # None stands for a worker that died and whose successor nobody has needed yet.
        self._idle: queue.SimpleQueue[_Worker | None] = queue.SimpleQueue()
        self._to_start = count
        self._closed = False

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *exception) -> None:
        with self._lock:
            self._closed = True
            for worker in self._alive:
                worker.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in self._alive:
            worker.reap()

    def submit(
        self, function: Callable, task: Any, advance: Callable[[], Any] | None = None
    ) -> Future:
        """Returns the future of `function(task)`, or of `function(task, advance)`.

        Args:
            function: A module-level function, or a partial of one.
            task: Its argument.
            advance: Called here, from another thread, whenever the function calls its own.

        Raises:
            WorkerDied: By the future, if the task's workers died, so many as it had attempts.
            WorkersCannotStart: By the future.
        """
        if self._to_start:
            self._to_start -= 1
            self._idle.put(self._start())
        return self._threads.submit(self._run, function, task, advance)

    def _run(self, function: Callable, task: Any, advance: Callable[[], Any] | None) -> Any:
        worker = self._idle.get()
        try:
            for attempt in range(1, self._attempts + 1):
                worker = worker or self._start()
                try:
                    return worker.run(function, task, advance)
                except (WorkerDied, WorkersCannotStart) as error:
                    with self._lock:
                        self._alive.discard(worker)  # Its pipes are closed with it.
                    worker = None
                    last = attempt == self._attempts or isinstance(error, WorkersCannotStart)
                    if last or self._closed:
                        raise
        finally:
            self._idle.put(worker)

    def _start(self) -> "_Worker":
        with self._lock:
            if self._closed:
                raise concurrent.futures.CancelledError
            worker = _Worker()
            self._alive.add(worker)
            return worker


class _Worker:
    """The parent's end of one worker process."""

    def __init__(self):
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self._ready = False

    def _wait_until_ready(self) -> None:
        try:
            self._receive()
        except WorkerDied as error:
            raise WorkersCannotStart(
                f"a worker process died before its first task (exit code {error.exit_code}); see "
                "what it printed above. A script must start them below `if __name__ == "
                "'__main__':`; where memory is short, use fewer workers"
            ) from error
        self._ready = True

    def run(self, function: Callable, task: Any, advance: Callable[[], Any] | None) -> Any:
        if not self._ready:
            self._wait_until_ready()
        try:
            self._connection.send((function, task, advance is not None))
        except OSError as error:
            raise self._died() from error
        while True:
            kind, content = self._receive()
            if kind == _ANSWER:
                return content
            if kind == _ERROR:
                raise content
            if advance is not None:
                advance()

    def kill(self) -> None:
        self._process.kill()

    def reap(self) -> int | None:
        """Waits for the end of a process that is about to end, and returns its exit code."""
        self._connection.close()
        self._process.join()
        return self._process.exitcode

    def _receive(self) -> tuple[int, Any]:
        try:
            message = self._connection.recv_bytes()
        except (EOFError, OSError) as error:
            raise self._died() from error
        return pickle.loads(message)

    def _died(self) -> WorkerDied:
        return WorkerDied(self.reap())


def _serve(connection: Connection) -> None:
    """Runs in the worker: answers tasks until the parent leaves."""
    # Ctrl-C reaches the whole process group; the parent alone answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    leave_with_parent()
    # An end of file, or nobody to send to: the parent is gone.
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        connection.send((_READY, None))
        while True:
            connection.send_bytes(_answer(connection.recv_bytes(), connection))


def _answer(message: bytes, connection: Connection) -> bytes:
    try:
        function, task, counted = pickle.loads(message)
        steps = (lambda: connection.send((_STEP, None)),) if counted else ()
        return pickle.dumps((_ANSWER, function(task, *steps)))
    except Exception as error:
        error.add_note("In a worker process:\n" + traceback.format_exc())
        return pickle.dumps((_ERROR, error))


def leave_with_parent() -> None:
    """Ends this worker process once its parent is dead.

    A killed parent cannot stop its workers, and one that waits for tasks would wait for ever.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "this is no worker process"

    def wait_and_leave() -> None:
        wait_for_process([parent.sentinel])
        os._exit(1)

    threading.Thread(target=wait_and_leave, daemon=True).start()


def run_tasks(
    function: Callable[[Any, Callable[[], Any]], None],
    tasks: Iterable[Any],
    workers: int,
    bar: tqdm,
) -> None:
    """Calls `function(task, advance)` for every task, in worker processes if workers > 1.

    After an error tasks under way are still finished.

    Args:
        function: A module-level function; it calls `advance()` after each step of the bar.
        tasks: Drawn as they are needed, so that a generator may cut them from something large.
        workers: Number of processes; 1 stays in this one.
        bar: Moves by the steps of all workers.

    Raises:
        WorkerDied: A process was killed.
        WorkersCannotStart: No process can be started.
    """
    if workers == 1:
        for task in tasks:
            function(task, bar.update)
        return
    lock = threading.Lock()

    def advance() -> None:
        with lock:
            bar.update()

    pending: set[Future] = set()
    with Workers(workers) as pool:
        try:
            for task in tasks:
                pending.add(pool.submit(function, task, advance))
                while len(pending) > 2 * workers:
                    pending = _collect(pending)
            while pending:
                pending = _collect(pending)
        finally:
            concurrent.futures.wait([future for future in pending if not future.cancel()])


def _collect(pending: set[Future]) -> set[Future]:
    finished, pending = concurrent.futures.wait(pending, return_when=FIRST_COMPLETED)
    for future in finished:
        future.result()
    return pending


def in_order(
    workers: Workers,
    function: Callable[[Any], Any],
    tasks: Iterable[Any],
    split: Callable[[Any], Sequence[Any]],
) -> Iterator[tuple[Any, Any]]:
    """Yields (task, function(task)) in the order of the tasks, in bounded memory.

    A task of which the workers die is split, so that only the part that is to blame fails: for that
    the error `WorkerDied` is yielded in place of the answer.

    Args:
        workers: Where the function runs.
        function: A module-level function, or a partial of one.
        tasks: Drawn as they are needed.
        split: Returns a task's parts; a single one where it has no parts.

    Raises:
        WorkersCannotStart: No process can be started.
    """
    pending: collections.deque[tuple[Any, Future]] = collections.deque()

    def first() -> Iterator[tuple[Any, Any]]:
        task, future = pending.popleft()
        try:
            answer = future.result()
        except WorkerDied as error:
            parts = split(task)
            if len(parts) > 1:
                yield from in_order(workers, function, parts, split)
                return
            answer = error
        yield task, answer

    for task in tasks:
        pending.append((task, workers.submit(function, task)))
        if len(pending) > _TASKS_AHEAD * workers.count:
            yield from first()
    while pending:
        yield from first()
