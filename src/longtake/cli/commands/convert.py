"""convert: published .pth files into safetensors."""

from __future__ import annotations

from pathlib import Path


def convert(path: Path, out: Path | None = None, /) -> int:
    """Convert the .pth files of a checkpoint into safetensors and print their SHA-256. No code in them is executed.

    Args:
        path: A .pth file, or a folder that holds some.
        out: The file or folder to write (default: next to the original).
    """
    from longtake.models.checkpoints.convert import convert

    for made in convert(path, out):
        print(f"{made.source}: SHA-256 {made.sha256}")
        print(f"{made.file}: {made.tensors} tensors")
    return 0
