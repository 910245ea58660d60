"""The sceneries of the pocket world, each rendered from the position of the camera and the time.

A scenery is a function (camera, seconds (T,), canvas) -> (T or 1, 3, H, W) in [0, 1], with one frame if nothing moves.
The default canvas is a square of SIDE pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor

SIDE = 64  # pixels each way
Colour = tuple[float, float, float]
Draw = Callable[..., Tensor]


@dataclass(frozen=True)
class Canvas:
    """A screen of height x width square pixels whose shorter side spans [-1, 1] units. ValueError if a side has no pixel."""

    height: int = SIDE
    width: int = SIDE

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise ValueError(f"a screen of {self.width}x{self.height} pixels is empty: each side needs at least one")

    @property
    def short(self) -> int:
        """Number of pixels of the shorter side."""
        return min(self.height, self.width)

    @property
    def reach(self) -> tuple[float, float]:
        """Half the width and half the height of the screen, in units."""
        return self.width / self.short, self.height / self.short

    @cached_property
    def x(self) -> Tensor:
        """Horizontal position of each pixel (H, W), in units."""
        return _axis(self.width, self.reach[0]).expand(self.height, self.width)

    @cached_property
    def y(self) -> Tensor:
        """Vertical position of each pixel (H, W), in units, downwards."""
        return _axis(self.height, self.reach[1])[:, None].expand(self.height, self.width)

    def cover(self, distance: Tensor) -> Tensor:
        """Return the share of each pixel inside an edge at a signed distance in units: the anti-aliasing of all shapes."""
        return (0.5 - distance * (self.short / 2) / 1.2).clamp(0, 1)


def _axis(pixels: int, reach: float) -> Tensor:
    return ((torch.arange(pixels) + 0.5) / pixels * 2 - 1) * reach


SQUARE = Canvas()
X, Y = SQUARE.x, SQUARE.y  # (S, S) each


def paint(image: Tensor, colour: Colour | Tensor, mask: Tensor) -> Tensor:
    """Blend a colour into an image (T, 3, H, W) by a mask (T, H, W) or (H, W) from 0 to 1."""
    colour = colour if isinstance(colour, Tensor) else torch.tensor(colour).view(3, 1, 1)
    return image + (colour - image) * mask.unsqueeze(-3)


def gradient(top: Colour, bottom: Colour, on: Canvas) -> Tensor:
    """Return a vertical colour gradient (1, 3, H, W), such as a sky."""
    a, b = torch.tensor(top).view(3, 1, 1), torch.tensor(bottom).view(3, 1, 1)
    return (a + (b - a) * ((on.y + 1) / 2).clamp(0, 1))[None]


def disc(x: float, y: float, radius: float, on: Canvas) -> Tensor:
    """Return the mask (H, W) of a disc, such as a sun or a moon, which ignores the camera."""
    return on.cover(torch.hypot(on.x - x, on.y - y) - radius)


def hills(height: float, swing: float, waves: float, shift: float, on: Canvas) -> Tensor:
    """Return the mask (H, W) below a wavy line around y = `height`."""
    angle = waves * (on.x + shift)
    return on.cover(height + swing * torch.sin(angle) + 0.5 * swing * torch.sin(2.1 * angle) - on.y)


def day(camera: float, seconds: Tensor, on: Canvas = SQUARE) -> Tensor:
    """Render green hills under a morning sky."""
    image = paint(gradient((0.55, 0.74, 0.90), (0.84, 0.91, 0.95), on), (0.99, 0.96, 0.78), disc(0.55, -0.62, 0.17, on))
    image = paint(image, (0.60, 0.74, 0.62), hills(0.35, 0.10, 2.2, 0.4 * camera + 0.3, on))
    return paint(image, (0.50, 0.66, 0.47), hills(0.60, 0.07, 3.1, camera + 1.0, on))


@cache
def _stars() -> Tensor:
    """Return the positions of the stars (16, 2)."""
    rng = torch.Generator().manual_seed(5)
    return torch.rand(16, 2, generator=rng) * torch.tensor([2.0, 1.24]) - torch.tensor([1.0, 0.97])


def night(camera: float, seconds: Tensor, on: Canvas = SQUARE) -> Tensor:
    """Render stars and a moon over a dark ridge."""
    image = gradient((0.05, 0.06, 0.16), (0.16, 0.17, 0.32), on)
    across = (on.x[None] - _stars()[:, 0, None, None] + 0.15 * camera + 1) % 2 - 1
    nearest = torch.hypot(across, on.y[None] - _stars()[:, 1, None, None]).amin(0)
    image = paint(image, (0.80, 0.80, 0.72), 0.9 * on.cover(nearest - 0.035))
    image = paint(image, (0.86, 0.86, 0.78), disc(-0.5, -0.6, 0.16, on))
    return paint(image, (0.10, 0.13, 0.16), hills(0.58, 0.09, 2.4, camera, on))


def sea(camera: float, seconds: Tensor, on: Canvas = SQUARE) -> Tensor:
    """Render waves that roll to the right."""
    water, depth = on.cover(0.12 - on.y), (on.y - 0.12).clamp_min(0)
    image = paint(gradient((0.70, 0.82, 0.88), (0.90, 0.92, 0.90), on), (0.30, 0.52, 0.62), water)
    angle = 5 * (on.x + camera) * (1.15 - 0.5 * depth) + 1.5 * torch.sin(13 * on.y) - 1.8 * seconds.view(-1, 1, 1)
    crest = torch.sin(angle) * torch.sin(14 * on.y + 1.5)
    return paint(image, (0.46, 0.66, 0.73), water * (1.5 * crest - 0.3).clamp(0, 1) * 0.8)


def desert(camera: float, seconds: Tensor, on: Canvas = SQUARE) -> Tensor:
    """Render dunes under a pale sun."""
    image = paint(gradient((0.90, 0.78, 0.62), (0.96, 0.88, 0.74), on), (0.98, 0.94, 0.84), disc(-0.45, -0.55, 0.2, on))
    image = paint(image, (0.80, 0.65, 0.46), hills(0.30, 0.12, 1.8, 0.4 * camera + 2.0, on))
    return paint(image, (0.70, 0.54, 0.37), hills(0.62, 0.08, 2.6, camera + 0.4, on))


def snow(camera: float, seconds: Tensor, on: Canvas = SQUARE) -> Tensor:
    """Render snow-capped mountains behind a white field."""
    image = gradient((0.56, 0.62, 0.72), (0.72, 0.77, 0.84), on)
    peaks = -0.25 + 0.75 * (((1.2 * (on.x + 0.4 * camera) + 0.2) % 1.0 - 0.5).abs() * 2)
    rock = on.cover(peaks - on.y)
    cap = on.cover(on.y + 0.02 - 0.05 * torch.sin(9 * (on.x + 0.4 * camera)))
    image = paint(paint(image, (0.46, 0.50, 0.58), rock), (0.82, 0.85, 0.90), rock * cap)
    return paint(image, (0.80, 0.83, 0.88), hills(0.50, 0.06, 2.6, camera + 0.7, on))


def grid(camera: float, seconds: Tensor, on: Canvas = SQUARE) -> Tensor:
    """Render graph paper."""
    image = torch.full((1, 3, on.height, on.width), 0.80)
    across = (((on.x + camera) * 3 % 1.0) - 0.5).abs() / 3
    down = ((on.y * 3 + 0.5) % 1.0 - 0.5).abs() / 3
    return paint(image, (0.62, 0.63, 0.66), torch.maximum(on.cover(across - 0.022), on.cover(down - 0.022)))


DRAW: dict[str, Draw] = {"day": day, "night": night, "sea": sea, "desert": desert, "snow": snow, "grid": grid}
