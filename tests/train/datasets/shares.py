"""Shares of work for worker processes, in a module that is quick to import."""

import os
import time


def fail(folder, share, report):
    """Do a share of work that raises an error."""
    raise ValueError(f"{folder} holds other clips")


def die_elsewhere(here, share, report):
    """Do a share of work, for which any process but `here` is killed."""
    if os.getpid() != here:
        os._exit(9)
    report(f"done alone: {share}")


def report_for_long(folder, share, report):
    """Do a share of work that takes a minute, in a process that leaves its number in a folder."""
    (folder / str(os.getpid())).touch()
    for number in range(600):
        time.sleep(0.1)
        report(f"{number} done")
