"""Folders of latents filled by several processes: a GPU encodes faster than one CPU core renders the clips."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import Any

import torch

from longtake.pipelines.settings.threads import available_cpus
from longtake.train.run.device import process_device
from longtake.train.run.distributed import ranks, reporting, wait_for_all

MOST = 16  # worker processes of a rank; each needs half a gigabyte of GPU memory beside its input
BROKEN = (
    "a worker process that encodes clips has died, for lack of memory, or because the training script has no "
    '`if __name__ == "__main__":` around it: continuing with one process'
)


def encode_parallel(fill: Callable[..., None], *args: Any, done: bool = False, num_workers: int | None = None) -> None:
    """Call fill(*args, share=(r, n), report=...) so that all ranks together do every share of the work once.

    done: nothing is left to encode, and fill only checks whether the folder fits; no worker is started then.
    num_workers: processes of this rank, see `default_num_workers`; with several, fill must be a function of a module,
    and args must be picklable. One worker of all reports. An exception in a worker is raised here; if a worker dies,
    this process does the rest alone.
    """
    rank, world = ranks()
    workers = 1 if done else num_workers or default_num_workers(process_device(), world)
    if workers > 1:
        try:
            with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
                shares = [(rank * workers + number, world * workers) for number in range(workers)]
                for part in [pool.submit(_work, fill, args, share) for share in shares]:
                    part.result()
        except BrokenProcessPool:
            reporting()(BROKEN)
            workers = 1
    if workers == 1:
        _work(fill, args, (rank, world))
    wait_for_all()


def default_num_workers(device: torch.device, world: int) -> int:
    """Return the worker processes of each of `world` ranks.

    One on a CPU, where encoding itself uses all cores; on a GPU the rank's share of the cores.
    """
    cores = available_cpus()
    return 1 if device.type == "cpu" else max(1, min(MOST, cores // world))


def _work(fill: Callable[..., None], args: tuple[Any, ...], share: tuple[int, int]) -> None:
    """Do one share. The process exits after a line of its report if its parent is gone.

    An exception would not end it: a process pool keeps the exception and waits for more work.
    """

    def report(line: str) -> None:
        if share[0] == 0:
            print(line)
        if (parent := parent_process()) is not None and not parent.is_alive():
            os._exit(1)

    fill(*args, share=share, report=report)
