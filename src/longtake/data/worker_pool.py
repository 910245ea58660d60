"""A pool of processes in which one item may fail, or even kill its process, while the others continue.

concurrent.futures gives up all items when a worker dies; a decoder that crashes on one broken file must not do that.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, TypeVar

from longtake.core.platform import end_of

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Failed:
    """The result of an item that could not be processed. why: the reason, as a phrase."""

    why: str


@dataclass
class _Worker(Generic[T]):
    process: SpawnProcess
    pipe: Any  # a Connection, on Windows a PipeConnection
    item: T | None = None


def parallel_map(function: Callable[[T], R], items: Sequence[T], jobs: int) -> Iterator[tuple[T, R | Failed]]:
    """Yield (item, function(item)) in the order in which they finish.

    jobs: number of processes; 0 does everything in this process. function and items must be picklable. OSError and
    ValueError become Failed with their message, the death of a process too; other errors become Failed with their type.
    If this process dies, the workers end after their item.
    """
    if not jobs:
        for item in items:
            yield item, _call(function, item)
        return
    todo = list(reversed(items))
    workers = [_start(function) for _ in range(min(jobs, len(items)))]
    try:
        for worker in workers:
            _send_next(worker, todo)
        while busy := [worker for worker in workers if worker.item is not None]:
            ready = wait([worker.pipe for worker in busy])
            for number, worker in enumerate(workers):
                if worker.pipe not in ready:
                    continue
                done, result = worker.item, _receive(worker)
                assert done is not None
                if not worker.process.is_alive() and todo:
                    worker = workers[number] = _start(function)
                _send_next(worker, todo)
                yield done, result
    finally:
        for worker in workers:
            worker.pipe.close()
            worker.process.terminate()
        for worker in workers:
            worker.process.join()


def _start(function: Callable[[T], R]) -> _Worker[T]:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_work, args=(function, theirs), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _send_next(worker: _Worker[T], todo: list[T]) -> None:
    """Send the next item, if there is one. The death of a process is noticed when its result is received."""
    worker.item = todo.pop() if todo else None
    if worker.item is not None:
        with suppress(ConnectionError):
            worker.pipe.send(worker.item)


def _receive(worker: _Worker[T]) -> R | Failed:  # type: ignore[type-var]
    """The result of a worker, or Failed if its process died."""
    try:
        return worker.pipe.recv()
    except (EOFError, ConnectionError):
        worker.process.join()
        how = end_of(worker.process.exitcode or 0)
        return Failed(f"its process died ({how}): the decoder crashed on it, or memory ran out")


def _work(function: Callable[[T], R], pipe: Any) -> None:
    """Process the items that come through the pipe until its other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        while True:
            pipe.send(_call(function, pipe.recv()))
    except (EOFError, ConnectionError):
        return


def _call(function: Callable[[T], R], item: T) -> R | Failed:
    try:
        return function(item)
    except (OSError, ValueError) as error:
        return Failed((error.strerror if isinstance(error, OSError) and error.strerror else "") or str(error))
    except Exception as error:
        return Failed(f"{type(error).__name__}: {error}")
