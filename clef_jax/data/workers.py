"""Reading and preprocessing in worker processes, in order and in bounded memory."""

import collections
import concurrent.futures
import multiprocessing
import signal
from collections.abc import Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool

from clef_jax.data.sources import Block, Failure, Request, Source, Task, plan_tasks, run_task

# Tasks in progress or finished and not yet taken, for each worker: enough that none waits for work.
_TASKS_AHEAD = 3


def _ignore_interrupts() -> None:
    # Control-C reaches the whole process group; the parent ends the workers in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _pool(workers: int) -> concurrent.futures.ProcessPoolExecutor:
    # Started afresh, not forked: a fork of a process that runs jax can deadlock.
    return concurrent.futures.ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _ignore_interrupts
    )


def _run_alone(task: Task, request: Request) -> Iterator[Block | Failure]:
    """Runs a task whose worker died source by source, so that only the culprit fails."""
    for source in task.sources:
        with _pool(1) as pool:
            try:
                alone = Task((source,), task.starts, task.share)
                yield from pool.submit(run_task, alone, request).result()
            except BrokenProcessPool:
                yield Failure(
                    source,
                    f"{source.file}: the process that read it died, out of memory or by a fault of "
                    "the format's library; try the file alone",
                )


class Readers:
    """A pool of reading processes. A context manager.

    Args:
        request: How sources are to be read.
        workers: Number of processes; 0 reads in this one.
    """

    def __init__(self, request: Request, workers: int):
        self._request = request
        self._workers = workers
        self._executor: concurrent.futures.ProcessPoolExecutor | None = None

    def __enter__(self) -> "Readers":
        return self

    def __exit__(self, *exception) -> None:
        self._stop()

    def read(self, sources: Iterable[Source]) -> Iterator[Block | Failure]:
        """Yields the sources' blocks in order, those of one source one after another."""
        tasks = plan_tasks(list(sources))
        return self._in_order(tasks) if self._workers else self._here(tasks)

    def _here(self, tasks: Iterable[Task]) -> Iterator[Block | Failure]:
        for task in tasks:
            for result in run_task(task, self._request):
                yield result
                yield from self._here(getattr(result, "rest", ()))

    def _in_order(self, tasks: Iterable[Task]) -> Iterator[Block | Failure]:
        pending: collections.deque = collections.deque()
        for task in tasks:
            if task.sources[0].position >= 0:
                # One batched read of shards costs less than handing its result over.
                while pending:
                    yield from self._finish(*pending.popleft())
                yield from self._here([task])
                continue
            pending.append((task, *self._submit(task)))
            if len(pending) > _TASKS_AHEAD * self._workers:
                yield from self._finish(*pending.popleft())
        while pending:
            yield from self._finish(*pending.popleft())

    def _finish(self, task: Task, executor, future) -> Iterator[Block | Failure]:
        try:
            results: Iterable = future.result()
        except BrokenProcessPool:
            if executor is self._executor:
                self._stop()
            results = _run_alone(task, self._request)
        for result in results:
            yield result
            yield from self._in_order(getattr(result, "rest", ()))

    def _submit(self, task: Task):
        if self._executor is None:
            self._executor = _pool(self._workers)
        try:
            return self._executor, self._executor.submit(run_task, task, self._request)
        except BrokenProcessPool:
            self._stop()
            return self._submit(task)

    def _stop(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._executor = None
