"""Signed distance fields of the sprites: negative inside, in units of the screen (after Inigo Quilez)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Field = Callable[[Tensor, Tensor, Tensor], Tensor]


def circle(u: Tensor, v: Tensor, r: Tensor) -> Tensor:
    """Return the distance to a disc of radius r. u, v: position relative to the centre, v downwards."""
    return torch.hypot(u, v) - r


def ring(u: Tensor, v: Tensor, r: Tensor) -> Tensor:
    """Return the distance to a ring of outer radius 1.02 r and inner radius 0.52 r."""
    return (torch.hypot(u, v) - 0.77 * r).abs() - 0.25 * r


def square(u: Tensor, v: Tensor, r: Tensor) -> Tensor:
    """Return the distance to a square of half side 0.84 r."""
    a, b = u.abs() - 0.84 * r, v.abs() - 0.84 * r
    return torch.hypot(a.clamp_min(0), b.clamp_min(0)) + torch.maximum(a, b).clamp_max(0)


def triangle(u: Tensor, v: Tensor, r: Tensor) -> Tensor:
    """Return the distance to an equilateral triangle, tip up, half side 0.98 r."""
    k, half = math.sqrt(3.0), 0.98 * r
    x, y = u.abs() - half, half / k - (v - 0.18 * r)
    outside = x + k * y > 0
    x, y = torch.where(outside, (x - k * y) / 2, x), torch.where(outside, (-k * x - y) / 2, y)
    x = x - torch.maximum(x.clamp_max(0), -2 * half)
    return -torch.hypot(x, y) * torch.sign(y)


def star(u: Tensor, v: Tensor, r: Tensor) -> Tensor:
    """Return the distance to a star of five points, tip at 1.12 r, notches at 0.54 r (the distance to the edge lines: exact on the edge)."""
    tip, sector = 1.12 * r, math.pi / 5
    angle = ((torch.atan2(u, -v) + sector) % (2 * sector) - sector).abs()
    radius = torch.hypot(u, v)
    x, y = radius * torch.cos(angle), radius * torch.sin(angle)
    edge_x, edge_y = tip * (0.48 * math.cos(sector) - 1), tip * 0.48 * math.sin(sector)
    return ((x - tip) * edge_y - y * edge_x) / torch.hypot(edge_x, edge_y)


def heart(u: Tensor, v: Tensor, r: Tensor) -> Tensor:
    """Return the distance to a heart, tip down, about as large as a disc of radius r."""
    scale = 0.95 * r / 0.62
    x, y = u.abs() / scale, 0.52 - v / scale
    lobe = torch.hypot(x - 0.25, y - 0.75) - math.sqrt(2) / 4
    middle = 0.5 * (x + y).clamp_min(0)
    tail = torch.minimum(x**2 + (y - 1) ** 2, (x - middle) ** 2 + (y - middle) ** 2).sqrt() * torch.sign(x - y)
    return torch.where(x + y > 1, lobe, tail) * scale


FIELDS: dict[str, Field] = {
    "circle": circle,
    "square": square,
    "triangle": triangle,
    "star": star,
    "heart": heart,
    "ring": ring,
}
