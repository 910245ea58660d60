"""GPUs that a machine has and PyTorch does not use: found by what their driver leaves, and the line that mends it.

A build of PyTorch for CPUs sees no GPU at all, so that without this a video would silently take fifty times as long.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

DRIVER = Path("/proc/driver/nvidia/gpus")  # a folder for each GPU, on Linux
LIBRARIES = ("libnvidia-ml.so.1", "nvml.dll", "/usr/lib/wsl/lib/libnvidia-ml.so.1")  # NVML, which the driver brings
PROGRAM = "nvidia-smi"
CUDA_BUILD = "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu130"
HIDDEN = ("", "-1")  # values of CUDA_VISIBLE_DEVICES with which a user asks for no GPU


def nvidia_gpus(driver: Path = DRIVER, libraries: Iterable[str] = LIBRARIES, program: str = PROGRAM) -> tuple[str, ...]:
    """Return the names of the NVIDIA GPUs of this machine, whatever PyTorch can see; () if there is none.

    Asks the folder of the driver, then its library, then its program. CUDA is not initialised.
    """
    return _from_driver(driver) or _from_library(libraries) or _from_program(program)


def unused_gpu(
    gpus: tuple[str, ...] | None = None, environment: Mapping[str, str] = os.environ,
) -> str:  # fmt: skip
    """Return the sentence for NVIDIA GPUs that PyTorch cannot use; "" if there is none, or it can, or a user hides them.

    gpus: their names (default: those of this machine).
    """
    if environment.get("CUDA_VISIBLE_DEVICES") in HIDDEN or torch.version.hip or torch.cuda.is_available():
        return ""
    names = nvidia_gpus() if gpus is None else gpus
    if not names:
        return ""
    what = f"this machine has an NVIDIA GPU ({names[0]}), but PyTorch {torch.__version__}"
    if torch.version.cuda is None:
        return f"{what} is a build for CPUs, which cannot use it: install the CUDA build with `{CUDA_BUILD}`"
    return (
        f"{what} for CUDA {torch.version.cuda} cannot use it: update the driver (`{PROGRAM}` prints its version), or install a build "
        "for an older CUDA, see https://pytorch.org/get-started/locally/"
    )


def apple_gpu(available: bool | None = None) -> str:
    """Return the sentence for the GPU of a Mac, which longtake does not use; "" on other machines."""
    here = torch.backends.mps.is_available() if available is None else available
    return "the GPU of this Mac (MPS) is not used: everything is computed on its CPU" if here else ""


def _from_driver(driver: Path) -> tuple[str, ...]:
    found = []
    for file in sorted(driver.glob("*/information")):
        try:
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("Model:")), "")
        found.append(model or "of an unknown model")
    return tuple(found)


def _from_library(libraries: Iterable[str]) -> tuple[str, ...]:
    for name in libraries:
        try:
            return _names(ctypes.CDLL(name))
        except (OSError, AttributeError):  # there is no such library, or it is another one
            continue
    return ()


def _names(nvml: ctypes.CDLL) -> tuple[str, ...]:
    """Return the names that NVML tells; its functions return 0 if they succeed."""
    if nvml.nvmlInit_v2():
        return ()
    try:
        count, found = ctypes.c_uint(), []
        for index in range(0 if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) else count.value):
            device, name = ctypes.c_void_p(), ctypes.create_string_buffer(96)
            nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(device))
            nvml.nvmlDeviceGetName(device, name, ctypes.c_uint(len(name)))
            found.append(name.value.decode(errors="replace") or "of an unknown model")
        return tuple(found)
    finally:
        nvml.nvmlShutdown()


def _from_program(program: str) -> tuple[str, ...]:
    path = shutil.which(program)
    if path is None:
        return ()
    command = [path, "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=5, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return () if done.returncode else tuple(line.strip() for line in done.stdout.splitlines() if line.strip())
