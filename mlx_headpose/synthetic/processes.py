"""Processes that render, one for each core: they have one thread each and outlive nothing."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from ..errors import InputError

Task = TypeVar("Task")
Result = TypeVar("Result")

# Workers share the cores; threads of a matrix library would only contend for them.
_ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def in_processes(
    work: Callable[[Task], Result],
    tasks: Sequence[Task],
    workers: int | None,
    start: Callable[..., None],
    arguments: tuple[Any, ...],
    interrupts: list[int],
    together: int = 1,
) -> Generator[Result, None, None]:
    """Yield the results of tasks, in their order.

    Args:
        work: a module's function, computed in the processes.
        tasks: its arguments.
        workers: number of processes; None means one for each core.
        start: what each process does first.
        arguments: of `start`.
        interrupts: see `interrupts_noted`.
        together: number of tasks that a process does before it answers.

    Raises:
        InputError: a process died.
        KeyboardInterrupt: there is something in `interrupts`; tasks that were begun are done.
    """
    if not tasks:
        return
    pool = ProcessPoolExecutor(
        min(workers or os.cpu_count() or 1, -(-len(tasks) // together)),
        multiprocessing.get_context("spawn"),
        _begin,
        (start, arguments),
    )
    try:
        with _as_workers():
            done = pool.map(work, tasks, chunksize=together)
        for result in done:
            if interrupts:
                raise KeyboardInterrupt
            yield result
    except BrokenProcessPool:
        raise InputError(
            "a rendering process died, perhaps for want of memory; the same command goes on, with "
            "fewer --workers if it dies again"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def interrupts_noted() -> Iterator[list[int]]:
    """Within, Ctrl-C only adds to the list; an exception amid the pool's own code could hang it.

    Only the main thread may say so; in another one Ctrl-C is the caller's affair.
    """
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    before = signal.signal(signal.SIGINT, lambda number, _: noted.append(number))
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _as_workers() -> Iterator[None]:
    """Processes that start within have one thread each and never see a Ctrl-C."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _begin(start: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:

        def end_with_parent() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=end_with_parent, daemon=True).start()
    start(*arguments)
