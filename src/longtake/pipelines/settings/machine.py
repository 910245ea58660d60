"""Facts of this machine and the software on it that decide the last bits of a video."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import torch

from longtake.core.version import VERSION


def software_versions() -> dict[str, str]:
    """Return the versions of longtake, torch and PyAV."""
    return {"longtake": VERSION, "torch": torch.__version__, "av": av.__version__}


def machine_facts(device: str) -> dict[str, Any]:
    """Return what decides the rounding of sums on a device: instruction set, matmul precision, GPU, CUDA, cuDNN."""
    facts: dict[str, Any] = {
        "architecture": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "precision": torch.get_float32_matmul_precision(),
        "device": torch.device(device).type,
    }
    if facts["device"] == "cuda":
        facts |= {"gpu": torch.cuda.get_device_name(device), "cuda": str(torch.version.cuda)}
        facts |= {"cudnn": torch.backends.cudnn.version(), "tf32": torch.backends.cuda.matmul.allow_tf32}
    return facts


def system_facts() -> dict[str, str]:
    """Return facts for the reader of run.json, which do not change a video."""
    return {"python": platform.python_version(), "system": platform.platform(), "processor": _processor()}


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Run the block with this many torch threads, as the run began: sums differ between numbers of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
