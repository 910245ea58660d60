"""Work shared among processes, in which one item may fail, or even take its process down, and the others go on.

concurrent.futures gives everything up when a worker dies; a decoder that crashes on one broken file must not do that.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Failed:
    """An item that could not be done, and why."""

    why: str


@dataclass
class _Worker(Generic[T]):
    process: SpawnProcess
    pipe: Connection
    item: T | None = None


def spread(act: Callable[[T], R], items: Sequence[T], jobs: int) -> Iterator[tuple[T, R | Failed]]:
    """(item, what act gave for it) as they are done, in any order. act and items must be importable and picklable.

    OSError and ValueError of act become Failed with their message, and so does the death of its process; other errors
    are faults of the program and are Failed with their type. If this process dies, the others end after their item.
    jobs 0 does everything in this process.
    """
    if not jobs:
        for item in items:
            yield item, _tried(act, item)
        return
    todo = list(reversed(items))
    workers = [_start(act) for _ in range(min(jobs, len(items)))]
    try:
        for worker in workers:
            _give(worker, todo)
        while busy := [worker for worker in workers if worker.item is not None]:
            ready = wait([worker.pipe for worker in busy])
            for number, worker in enumerate(workers):
                if worker.pipe not in ready:
                    continue
                done, result = worker.item, _taken(worker)
                assert done is not None
                if not worker.process.is_alive() and todo:
                    worker = workers[number] = _start(act)
                _give(worker, todo)
                yield done, result
    finally:
        for worker in workers:
            worker.pipe.close()
            worker.process.terminate()
        for worker in workers:
            worker.process.join()


def _start(act: Callable[[T], R]) -> _Worker[T]:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_work, args=(act, theirs), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _give(worker: _Worker[T], todo: list[T]) -> None:
    """The next item, if there is one. A process that has just died is met when its answer is read."""
    worker.item = todo.pop() if todo else None
    if worker.item is not None:
        with suppress(ConnectionError):
            worker.pipe.send(worker.item)


def _taken(worker: _Worker[T]) -> R | Failed:  # type: ignore[type-var]
    """The result of a worker, or what its death says."""
    try:
        return worker.pipe.recv()
    except (EOFError, ConnectionError):
        worker.process.join()
        code = worker.process.exitcode or 0
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return Failed(f"its process died ({name}): the decoder crashed on it, or memory ran out")


def _work(act: Callable[[T], R], pipe: Connection) -> None:
    """A worker: does what comes through the pipe until the other end is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        while True:
            pipe.send(_tried(act, pipe.recv()))
    except (EOFError, ConnectionError):
        return


def _tried(act: Callable[[T], R], item: T) -> R | Failed:
    try:
        return act(item)
    except (OSError, ValueError) as error:
        return Failed((error.strerror if isinstance(error, OSError) and error.strerror else "") or str(error))
    except Exception as error:
        return Failed(f"{type(error).__name__}: {error}")
