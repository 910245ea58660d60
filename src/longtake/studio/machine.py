"""The machine that the page names beside the memory of a model: its GPU, else its processor, with memory in use."""

from __future__ import annotations

import platform
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

LOOK_SECONDS = 10.0  # between two looks at the memory
QUERY = ("--query-gpu=name,memory.total,memory.used", "--format=csv,noheader,nounits")


@dataclass(frozen=True)
class Machine:
    """Where videos are generated. memory, used: bytes; None where the system does not say."""

    name: str
    memory: int | None
    used: int | None

    def facts(self) -> dict[str, str | int | None]:
        """Return the fields as JSON values."""
        return dict(vars(self))


class MachineWatch:
    """Looks at the machine when asked, at most every ten seconds. cpu: the workers compute on the processor."""

    def __init__(self, cpu: bool = False):
        self._cpu = cpu
        self._seen: tuple[float, Machine] | None = None

    def look(self) -> Machine:
        """Return the machine as it was at most ten seconds ago."""
        now = time.monotonic()
        if self._seen is None or now - self._seen[0] > LOOK_SECONDS:
            self._seen = now, (None if self._cpu else _gpu()) or _processor()
        return self._seen[1]


def _gpu() -> Machine | None:
    """Ask nvidia-smi, since asking CUDA would take some hundred megabytes of the memory that is asked for."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    try:
        lines = subprocess.run([program, *QUERY], capture_output=True, encoding="utf-8", timeout=5, check=True).stdout
        name, total, used = (part.strip() for part in lines.splitlines()[0].split(","))
        return Machine(name.removeprefix("NVIDIA "), int(total) << 20, int(used) << 20)
    except (OSError, ValueError, IndexError, subprocess.SubprocessError):
        return None


def _processor() -> Machine:
    total, free = _memory("MemTotal"), _memory("MemAvailable")
    used = None if total is None or free is None else total - free
    return Machine(_name(), total, used)


def _name() -> str:
    """Return the name of the processor in a few words."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].replace("(R)", "").replace("(TM)", "").split()[:4])
    return platform.processor() or platform.machine() or "CPU"


def _memory(key: str) -> int | None:
    """Return a line of /proc/meminfo in bytes; None where there is none."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None
