"""Folders of latents filled by several processes: a GPU encodes faster than one core draws the clips."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import Any

import torch

from longtake.train.place import place
from longtake.train.ranks import ranks, reporting, wait_for_all

MOST = 16  # processes of a rank; each holds half a gigabyte of the GPU beside what it encodes
BROKEN = (
    "a process that helped to encode clips has died, for lack of memory, or because a script that trains has no "
    '`if __name__ == "__main__":` around it: going on with one process'
)


def fill_together(fill: Callable[..., None], *told: Any, done: bool = False, crew: int | None = None) -> None:
    """Call fill(*told, share=(r, n), report=...) so that every share of the work is done once, by all ranks together.

    done: nothing is left to do, and fill only looks whether what is there fits: no other process begins for that. crew:
    processes of this rank, see `crew_size`; with several, fill must be a function of a module, and told such
    values as can be sent to another process. One of them all reports. What goes wrong in one is raised here; if one
    dies, this process does what is left alone.
    """
    rank, world = ranks()
    crew = 1 if done else crew or crew_size(place(), world)
    if crew > 1:
        try:
            with ProcessPoolExecutor(crew, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
                shares = [(rank * crew + number, world * crew) for number in range(crew)]
                for part in [pool.submit(_work, fill, told, share) for share in shares]:
                    part.result()
        except BrokenProcessPool:
            reporting()(BROKEN)
            crew = 1
    if crew == 1:
        _work(fill, told, (rank, world))
    wait_for_all()


def crew_size(device: torch.device, world: int) -> int:
    """Processes of each of `world` ranks: one on the CPU, where encoding itself takes all cores; on a GPU its share of them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 1 if device.type == "cpu" else max(1, min(MOST, cores // world))


def _work(fill: Callable[..., None], told: tuple[Any, ...], share: tuple[int, int]) -> None:
    """Do one share. The process ends after a line of its report if the one that asked for it is gone: a pool keeps an
    exception and would wait for more work."""

    def report(line: str) -> None:
        if share[0] == 0:
            print(line)
        if (asked := parent_process()) is not None and not asked.is_alive():
            os._exit(1)

    fill(*told, share=share, report=report)
