"""Images of ComfyUI, float tensors (B, H, W, C) in [0, 1], as files for the server, and its videos as such images."""

from __future__ import annotations

import io
from collections import deque
from typing import Any

import numpy as np
import torch
from PIL import Image


def png_of(images: torch.Tensor, index: int = 0) -> bytes:
    """Return one image of a batch as PNG; a mask or an alpha channel is left out."""
    pixels = (images[index, ..., :3].detach().cpu().float().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def image_of(data: bytes) -> torch.Tensor:
    """Return a picture as a batch of one image."""
    with Image.open(io.BytesIO(data)) as picture:
        return torch.from_numpy(np.asarray(picture.convert("RGB")).astype(np.float32) / 255)[None]


def preview_of(data: bytes) -> Image.Image:
    """Return a picture for the progress bar."""
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture.convert("RGB")


def frames_of(path: str, most: int) -> tuple[torch.Tensor, float]:
    """Return the last `most` frames of a video file as images (B, H, W, 3), and its frame rate. most 0: one black image."""
    import av  # which ComfyUI itself depends on

    with av.open(path) as container:
        stream = container.streams.video[0]
        fps = float(stream.average_rate or 24)
        kept: deque[Any] = deque(maxlen=max(1, most))
        for frame in container.decode(stream) if most else ():
            kept.append(frame.to_ndarray(format="rgb24"))
        if not kept:
            return torch.zeros(1, stream.height, stream.width, 3), fps
    images = torch.empty(len(kept), *kept[0].shape, dtype=torch.float32)
    for number in range(len(kept)):  # one frame as floats at a time
        images[number] = torch.from_numpy(kept.popleft().astype(np.float32) / 255)
    return images, fps
