"""doctor: what works on this machine, what is missing, and how to get it."""

from __future__ import annotations

import platform
import shutil
import sys
from importlib import metadata, util
from pathlib import Path

from rich.console import Console

GOOD, BAD, MAYBE = "[green]ok[/]", "[red]no[/]", "[yellow]--[/]"
EXTRAS = {
    "transformers": "text and image encoders of released checkpoints: pip install transformers",
    "huggingface_hub": "checkpoints by their hub id: pip install huggingface_hub",
    "tensorboard": "training curves: pip install tensorboard",
}


def doctor() -> int:
    """Report what works on this machine, what is missing, and how to get it. Exit code 1 if a needed part is missing."""
    console = Console(highlight=False)
    rows = [_python(), *_packages(), _processor(), _gpu(), _encoder(), _disk(), *_weights(), *_extras()]
    for mark, what in rows:
        console.print(f"{mark}  {what}", soft_wrap=True)
    return 1 if any(mark == BAD for mark, _ in rows) else 0


def _python() -> tuple[str, str]:
    good = sys.version_info >= (3, 11)
    return (GOOD if good else BAD), f"Python {platform.python_version()}" + (
        "" if good else ": 3.11 or newer is needed"
    )


def _packages() -> list[tuple[str, str]]:
    rows = []
    for name in ("torch", "numpy", "safetensors", "tokenizers", "av", "cyclopts", "rich", "pillow"):
        try:
            rows.append((GOOD, f"{name} {metadata.version(name)}"))
        except metadata.PackageNotFoundError:
            rows.append((BAD, f"{name} is missing: pip install -c constraints.txt -e ."))
    return rows


def _processor() -> tuple[str, str]:
    import torch

    from longtake.pipelines.settings.threads import available_cpus, default_threads

    return GOOD, f"{default_threads()} threads of {available_cpus()} CPUs, {torch.backends.cpu.get_cpu_capability()}"


def _gpu() -> tuple[str, str]:
    import torch

    from longtake.models.runtime.unused_gpu import apple_gpu, unused_gpu

    if torch.cuda.is_available():
        return GOOD, f"GPU {torch.cuda.get_device_name()}, PyTorch for CUDA {torch.version.cuda}"
    if why := unused_gpu():
        return MAYBE, why
    return MAYBE, apple_gpu() or "no GPU (none is needed for the built-in models)"


def _encoder() -> tuple[str, str]:
    import av

    good = "libx264" in av.codecs_available
    return (GOOD if good else BAD), "H.264 encoder" + (
        "" if good else " is missing from PyAV: pip install --force-reinstall av"
    )


def _disk() -> tuple[str, str]:
    free = shutil.disk_usage(Path.cwd()).free
    return (GOOD if free > 1e9 else MAYBE), f"{free / 1e9:.1f} GB free here"


def _weights() -> list[tuple[str, str]]:
    from longtake.models import builtin, load

    rows = []
    for name in builtin():
        try:
            rows.append((GOOD, f"model {name}, weights {load(name).info.digest[:12]}"))
        except ValueError as error:
            rows.append((BAD, f"model {name}: {error}"))
    return rows or [(BAD, "no built-in model is in this package: install it again")]


def _extras() -> list[tuple[str, str]]:
    from longtake.data.shots.detection import NEEDS

    finders = {module: f"data prepare --shots {name}: {install}" for name, (module, _, install) in NEEDS.items()}
    return [
        (GOOD, name) if util.find_spec(name) else (MAYBE, f"{name} is not installed; for {why}")
        for name, why in {**EXTRAS, **finders}.items()
    ]
