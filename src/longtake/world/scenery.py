"""The sceneries of the pocket world, each drawn from where the camera stands and the time.

A scenery is a function (camera, seconds (T,)) -> (T or 1, 3, S, S) in [0, 1]; one frame stands for all if nothing moves.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

SIDE = 64  # pixels each way
Colour = tuple[float, float, float]
Draw = Callable[[float, Tensor], Tensor]

_axis = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
Y, X = torch.meshgrid(_axis, _axis, indexing="ij")  # (S, S) each, y down


def cover(distance: Tensor) -> Tensor:
    """How much of a pixel lies inside an edge at a signed distance in units: the anti-aliasing of everything drawn."""
    return (0.5 - distance * (SIDE / 2) / 1.2).clamp(0, 1)


def paint(image: Tensor, colour: Colour | Tensor, mask: Tensor) -> Tensor:
    """Lay a colour over an image (T, 3, S, S) where mask (T, S, S) or (S, S) says."""
    colour = colour if isinstance(colour, Tensor) else torch.tensor(colour).view(3, 1, 1)
    return image + (colour - image) * mask.unsqueeze(-3)


def gradient(top: Colour, bottom: Colour) -> Tensor:
    """A sky (1, 3, S, S)."""
    a, b = torch.tensor(top).view(3, 1, 1), torch.tensor(bottom).view(3, 1, 1)
    return (a + (b - a) * (Y + 1) / 2)[None]


def disc(x: float, y: float, radius: float) -> Tensor:
    """A sun or a moon, far enough away to stand still."""
    return cover(torch.hypot(X - x, Y - y) - radius)


def hills(height: float, swing: float, waves: float, shift: float) -> Tensor:
    """Everything below a rolling line whose middle is at `height`."""
    angle = waves * (X + shift)
    return cover(height + swing * torch.sin(angle) + 0.5 * swing * torch.sin(2.1 * angle) - Y)


def day(camera: float, seconds: Tensor) -> Tensor:
    """Green hills under a morning sky."""
    image = paint(gradient((0.55, 0.74, 0.90), (0.84, 0.91, 0.95)), (0.99, 0.96, 0.78), disc(0.55, -0.62, 0.17))
    image = paint(image, (0.60, 0.74, 0.62), hills(0.35, 0.10, 2.2, 0.4 * camera + 0.3))
    return paint(image, (0.50, 0.66, 0.47), hills(0.60, 0.07, 3.1, camera + 1.0))


@cache
def _stars() -> Tensor:
    """Places of the stars (16, 2)."""
    rng = torch.Generator().manual_seed(5)
    return torch.rand(16, 2, generator=rng) * torch.tensor([2.0, 1.24]) - torch.tensor([1.0, 0.97])


def night(camera: float, seconds: Tensor) -> Tensor:
    """Stars and a moon over a dark ridge."""
    image = gradient((0.05, 0.06, 0.16), (0.16, 0.17, 0.32))
    across = (X[None] - _stars()[:, 0, None, None] + 0.15 * camera + 1) % 2 - 1
    nearest = torch.hypot(across, Y[None] - _stars()[:, 1, None, None]).amin(0)
    image = paint(image, (0.80, 0.80, 0.72), 0.9 * cover(nearest - 0.035))
    image = paint(image, (0.86, 0.86, 0.78), disc(-0.5, -0.6, 0.16))
    return paint(image, (0.10, 0.13, 0.16), hills(0.58, 0.09, 2.4, camera))


def sea(camera: float, seconds: Tensor) -> Tensor:
    """Waves that roll towards the right."""
    water, depth = cover(0.12 - Y), (Y - 0.12).clamp_min(0)
    image = paint(gradient((0.70, 0.82, 0.88), (0.90, 0.92, 0.90)), (0.30, 0.52, 0.62), water)
    angle = 5 * (X + camera) * (1.15 - 0.5 * depth) + 1.5 * torch.sin(13 * Y) - 1.8 * seconds.view(-1, 1, 1)
    crest = torch.sin(angle) * torch.sin(14 * Y + 1.5)
    return paint(image, (0.46, 0.66, 0.73), water * (1.5 * crest - 0.3).clamp(0, 1) * 0.8)


def desert(camera: float, seconds: Tensor) -> Tensor:
    """Dunes under a pale sun."""
    image = paint(gradient((0.90, 0.78, 0.62), (0.96, 0.88, 0.74)), (0.98, 0.94, 0.84), disc(-0.45, -0.55, 0.2))
    image = paint(image, (0.80, 0.65, 0.46), hills(0.30, 0.12, 1.8, 0.4 * camera + 2.0))
    return paint(image, (0.70, 0.54, 0.37), hills(0.62, 0.08, 2.6, camera + 0.4))


def snow(camera: float, seconds: Tensor) -> Tensor:
    """Snow-capped mountains behind a white field."""
    image = gradient((0.56, 0.62, 0.72), (0.72, 0.77, 0.84))
    peaks = -0.25 + 0.75 * (((1.2 * (X + 0.4 * camera) + 0.2) % 1.0 - 0.5).abs() * 2)
    rock = cover(peaks - Y)
    cap = cover(Y + 0.02 - 0.05 * torch.sin(9 * (X + 0.4 * camera)))
    image = paint(paint(image, (0.46, 0.50, 0.58), rock), (0.82, 0.85, 0.90), rock * cap)
    return paint(image, (0.80, 0.83, 0.88), hills(0.50, 0.06, 2.6, camera + 0.7))


def grid(camera: float, seconds: Tensor) -> Tensor:
    """Graph paper."""
    image = torch.full((1, 3, SIDE, SIDE), 0.80)
    across = (((X + camera) * 3 % 1.0) - 0.5).abs() / 3
    down = ((Y * 3 + 0.5) % 1.0 - 0.5).abs() / 3
    return paint(image, (0.62, 0.63, 0.66), torch.maximum(cover(across - 0.022), cover(down - 0.022)))


DRAW: dict[str, Draw] = {"day": day, "night": night, "sea": sea, "desert": desert, "snow": snow, "grid": grid}
