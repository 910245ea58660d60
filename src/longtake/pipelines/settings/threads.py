"""CPU threads: how many this process may use, and whether all of them together are faster than one.

Sums differ in the last bits between numbers of threads, so the number is chosen before a video begins, run.json records
it, and a resume sets it again.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from pathlib import Path

import torch
from torch.nn import functional

from longtake.core.errors import SettingsError
from longtake.core.platform import usable_cpus

MOST_THREADS = 1024
FEW = 4  # more threads slow small models down
SLOWER = 1.25  # how much slower than one thread all of them must be for one to be chosen
SECONDS = 0.5  # the longest that a trial goes on after its first rounds


def available_cpus() -> int:
    """Return the number of CPUs that this process may use: its affinity, and the quota of its container, rounded up."""
    cpus, quota = usable_cpus(), cpu_quota()
    return max(1, cpus if quota is None else min(cpus, math.ceil(quota)))


def default_threads() -> int:
    """Return the default number of torch threads: OMP_NUM_THREADS, else the available CPUs, at most four."""
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if asked.isdigit() and 1 <= int(asked) <= MOST_THREADS:
        return int(asked)
    return min(FEW, available_cpus())


def check_threads(count: int) -> None:
    """Raise SettingsError unless so many threads can be used."""
    if not 1 <= count <= MOST_THREADS:
        raise SettingsError(f"--threads must be at least 1 and at most {MOST_THREADS}, not {count}")


def cpu_quota(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float | None:
    """Return the CPUs that the control groups of this process (cgroup v1 or v2) grant it, or None without a limit.

    root: where the control groups are mounted. own: the file that lists the groups of the process.
    """
    try:
        rows = [line.split(":", 2) for line in own.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError):
        rows = []
    groups = {name: row[2].strip("/") for row in rows if len(row) == 3 for name in row[1].split(",")}
    mounts = [(root, groups.get("", "")), (root / "unified", groups.get("", ""))]
    mounts += [(root / name, groups.get("cpu", "")) for name in ("cpu", "cpu,cpuacct")]
    found = [quota for mount, group in mounts for quota in _quotas(mount, mount / group)]
    return min(found, default=None)


def _quotas(mount: Path, folder: Path) -> list[float]:
    """Return the quotas of a group and of all above it, inside a mount; a container may see its own as the mount."""
    found = []
    for place in dict.fromkeys([folder, *folder.parents, mount]):
        if place == mount or mount in place.parents:
            words = _words(place / "cpu.max") or [
                *_words(place / "cpu.cfs_quota_us"),
                *_words(place / "cpu.cfs_period_us"),
            ]
            if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]) and int(words[0]):
                found.append(int(words[0]) / int(words[1]))
    return found


def _words(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError):
        return []


def slowdown(threads: int) -> float:
    """Measure how many times slower `threads` threads compute a small layer than one does; below 1 they are faster.

    On a machine whose CPUs others keep busy, threads that wait for each other can be 10 times slower than one alone.
    """
    before = torch.get_num_threads()
    try:
        one, all_ = (_seconds_per_layer(count) for count in (1, threads))
    finally:
        torch.set_num_threads(before)
    return all_ / one


@torch.inference_mode()
def _seconds_per_layer(threads: int) -> float:
    torch.set_num_threads(threads)
    x, wide, narrow = torch.ones(256, 256), torch.ones(256, 1024), torch.ones(1024, 256)
    times: list[float] = []
    while len(times) < 4 or (len(times) < 16 and sum(times) < SECONDS):
        started = time.perf_counter()
        functional.layer_norm(functional.gelu(x @ wide) @ narrow, (256,))
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])
