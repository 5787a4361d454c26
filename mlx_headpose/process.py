"""What MLX needs of a process: open standard streams, no fork, and threads that do not end."""

from __future__ import annotations

import atexit
import os
import platform
import queue
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

from .errors import InputError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

STANDARD_STREAMS = (0, 1, 2)
ROSETTA = (
    "this Python is built for Intel Macs, for which there is no MLX; use one for Apple silicon "
    "(`arch -arm64 python3`, or python.org's universal installer), on a Mac with an Apple chip"
)
LONGEST_S = 30.0  # that the end of a process waits for what is being computed
_mlx_runs = False
_forked = False


def require_apple_silicon() -> None:
    """Call this before MLX is loaded, which fails in an Intel Mac's Python.

    Raises:
        InputError: this is one, perhaps under Rosetta.
    """
    if sys.platform == "darwin" and platform.machine() != "arm64":
        raise InputError(ROSETTA)


def keep_standard_descriptors() -> None:
    """Let closed standard streams lead nowhere.

    The next file that is opened takes the lowest free descriptor. MLX takes 0 for a failure to
    open it, and what C libraries print would go into a file that has 1 or 2.
    """
    for descriptor in STANDARD_STREAMS:
        try:
            os.fstat(descriptor)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != descriptor:
                os.dup2(nowhere, descriptor)
                os.close(nowhere)


def require_mlx() -> None:
    """Call this before MLX computes anything.

    Raises:
        InputError: it has computed in this process's parent. Its threads were not copied by the
            fork, and whoever waits for them waits for ever.
    """
    global _mlx_runs  # noqa: PLW0603
    if _forked:
        raise InputError(
            "this process was forked after a network was loaded, where MLX hangs; load networks in "
            "the child alone, or start it by multiprocessing.get_context('spawn')"
        )
    _mlx_runs = True


def _after_fork() -> None:
    global _forked  # noqa: PLW0603
    _forked = _mlx_runs


_tasks: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
_lasting: threading.Thread | None = None
_starting = threading.Lock()


def in_lasting_thread(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Run a function that computes with MLX in a thread that lasts as long as the process.

    A thread that has computed with MLX (0.32.4 on CPUs) often aborts the process when it ends
    ("terminate called without an active exception"). The main thread does not end; calls from any
    other one, such as a web server's, are handed to one thread of ours, one after the other.
    """

    @wraps(function)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        current = threading.current_thread()
        if current is threading.main_thread() or current is _lasting:
            return function(*args, **kwargs)
        return begin(partial(function, *args, **kwargs)).result()

    return run


def begin(task: Callable[[], Result]) -> Future[Result]:
    """Let the lasting thread compute something while the caller goes on."""
    _start_lasting_thread()
    future: Future[Result] = Future()
    _tasks.put((future, task))
    return future


def _start_lasting_thread() -> None:
    global _lasting  # noqa: PLW0603
    with _starting:
        if _lasting is None or not _lasting.is_alive():  # none, or lost in a fork
            if _lasting is None:
                atexit.register(_wait_for_tasks)
            _lasting = threading.Thread(target=_run_tasks, name="mlx-headpose", daemon=True)
            _lasting.start()


def _wait_for_tasks() -> None:
    """Let the lasting thread finish: ended amid a computation, it would abort the process."""
    if _lasting is not None and _lasting.is_alive():
        wait([begin(lambda: None)], LONGEST_S)


def _run_tasks() -> None:
    while True:
        future, task = _tasks.get()
        try:
            future.set_result(task())
        except BaseException as error:  # it is the caller's
            future.set_exception(error)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
