"""Drift: what a long video loses, clip by clip; six metrics, each blind to what the others see, their slopes and intervals.

A metric compares a clip with the first one of its video and is 0 where nothing changed. T frames of S pixels, in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

from longtake.eval.judge import find_sprite, follow, overlap_with, read_shape

METRICS = ("colour", "sharpness", "contrast", "motion", "shape", "identity")
LUMA = torch.tensor([0.299, 0.587, 0.114])
SEEN = 0.3  # share of frames that must show a sprite for it to be judged
LOST = 1.0  # shape and identity of a sprite that is not there


@dataclass(frozen=True)
class Look:
    """What is measured of one clip. back: mean chroma of the scenery (3,), contrast of its large forms, and detail, how
    steep it is per contrast; speed: change per gradient of the whole picture; sprite: mean chroma of the sprite (3,),
    its shape and masks (V, S, S)."""

    back: Tensor
    contrast: float
    detail: float
    speed: float
    sprite: Tensor | None
    shape: str | None
    masks: Tensor | None


def look(frames: Tensor) -> Look:
    """Measure a clip (T, 3, S, S)."""
    _, mask = find_sprite(frames[::2])
    track = follow(mask, 2)
    seen = len(track.when) >= SEEN * len(mask)
    clear = 1 - max_pool2d(mask.float()[:, None], 7, 1, 3)
    chroma = frames - luma(frames)
    back = weighted(chroma[::2], clear)
    light = luma(frames)
    contrast, steep = deviation(light[::2], clear), gradient(light)
    fine = float((steep[::2] * clear[:, :, :-1, :-1]).sum() / clear[:, :, :-1, :-1].sum().clamp_min(1e-6))
    shape = read_shape(track.masks[::4])[0] if seen else None
    return Look(
        back=back,
        contrast=contrast,
        detail=fine / max(contrast, 1e-6),
        speed=float(light.diff(dim=0).abs().mean()) / max(float(steep.mean()), 1e-6) if len(frames) > 1 else 0.0,
        sprite=weighted(chroma[::2], erode(mask)) if seen else None,
        shape=shape,
        masks=track.masks[::4] if seen else None,
    )


def measured(now: Look, first: Look) -> dict[str, float]:
    """The metrics of a clip against the first one of its video."""
    scale = max(first.contrast, 1e-6)
    share = max(now.contrast, 1e-6) / scale  # chroma grows with contrast, which is no drift of colour
    tint = now.back / share - first.back
    found = {
        "colour": float(tint.norm()),
        "sharpness": abs(_log(now.detail, first.detail)),
        "contrast": abs(_log(now.contrast, first.contrast)),
        "motion": abs(_log(now.speed + 0.02, first.speed + 0.02)),
        "shape": LOST,
        "identity": LOST,
    }
    if first.shape is None or first.masks is None:
        return found | {"shape": 0.0, "identity": 0.0}  # there never was a sprite to lose
    if now.masks is not None and now.sprite is not None and first.sprite is not None:
        found["shape"] = max(0.0, overlap_with(first.masks, first.shape) - overlap_with(now.masks, first.shape))
        found["identity"] = float((now.sprite / share - first.sprite - tint).norm())
    return found


def luma(frames: Tensor) -> Tensor:
    """Brightness (T, 1, S, S)."""
    return (frames * LUMA[:, None, None]).sum(1, keepdim=True)


def gradient(light: Tensor) -> Tensor:
    """How steep the picture is, (T, 1, S - 1, S - 1)."""
    across, down = light.diff(dim=3)[:, :, :-1], light.diff(dim=2)[:, :, :, :-1]
    return (across**2 + down**2 + 1e-12).sqrt()


def deviation(light: Tensor, clear: Tensor) -> float:
    """How much 8 x 8 blocks of brightness (T, 1, S, S) differ within a frame, where it is clear of the sprite."""
    share = avg_pool2d(clear, 8)
    blocks = avg_pool2d(light * clear, 8) / share.clamp_min(1e-3)
    weight = (share > 0.5).float()
    count = weight.sum((2, 3), keepdim=True).clamp_min(1)
    mean = (blocks * weight).sum((2, 3), keepdim=True) / count
    return float((((blocks - mean) ** 2 * weight).sum((2, 3), keepdim=True) / count).sqrt().mean())


def erode(mask: Tensor) -> Tensor:
    """The inside of a mask (T, S, S), without its rim; (T, 1, S, S)."""
    return 1 - max_pool2d(1 - mask.float()[:, None], 3, 1, 1)


def weighted(values: Tensor, weight: Tensor) -> Tensor:
    """Mean (3,) of values (T, 3, S, S) where weight (T, 1, S, S) is."""
    return (values * weight).sum((0, 2, 3)) / weight.sum().clamp_min(1e-6)


def _log(now: float, first: float) -> float:
    return float(torch.log(torch.tensor(max(now, 1e-6) / max(first, 1e-6))))


# ---------------------------------------------------------------- over time
@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return "-" if math.isnan(self.value) else f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def slopes(curves: Tensor) -> Tensor:
    """Least-squares slope per clip (V,) of curves (V videos, N clips)."""
    at = torch.arange(curves.shape[1], dtype=torch.float64)
    at = at - at.mean()
    return (curves.double() * at).sum(1) / (at**2).sum()


def start_end(curves: Tensor) -> Tensor:
    """The mean of the last quarter of the clips less that of the first quarter (V,)."""
    part = max(1, curves.shape[1] // 4)
    return curves[:, -part:].double().mean(1) - curves[:, :part].double().mean(1)


def bootstrap(values: Tensor, draws: int = 4000, seed: int = 0) -> Interval:
    """The mean of values (V,) with a bootstrap interval over videos."""
    means = values[_resampled(len(values), draws, seed)].mean(1)
    return _interval(float(values.mean()), means)


def paired_ratio(arm: Tensor, base: Tensor, draws: int = 4000, seed: int = 0) -> Interval:
    """The mean of arm (V,) over that of base (V,), of the same seeds and prompts: videos are drawn in pairs."""
    at = _resampled(len(arm), draws, seed)
    return _interval(float(_ratio(arm.mean(), base.mean())), _ratio(arm[at].mean(1), base[at].mean(1)))


def _ratio(arm: Tensor, base: Tensor) -> Tensor:
    """arm / base: infinity for a base that does not drift, and no number where neither does."""
    return torch.where((base == 0) & (arm != 0), torch.inf, arm / base)


def paired_difference(arm: Tensor, base: Tensor, draws: int = 4000, seed: int = 0) -> Interval:
    """The mean of arm - base (V,), of the same seeds and prompts."""
    return bootstrap(arm - base, draws, seed)


def _resampled(count: int, draws: int, seed: int) -> Tensor:
    return torch.randint(count, (draws, count), generator=torch.Generator().manual_seed(seed))


def _interval(value: float, found: Tensor) -> Interval:
    ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
    low, high = torch.quantile(found.double(), ends, interpolation="nearest").tolist()
    return Interval(value, low, high)


# ---------------------------------------------------------------- as a picture
def svg(
    curves: Mapping[str, Mapping[str, Tensor]], names: Sequence[str] = METRICS, wide: int = 340, tall: int = 200
) -> str:
    """A panel per metric, a line per arm with a band of one standard error. curves: {arm: {metric: (V, N)}}."""
    colours = ("#c0392b", "#2471a3", "#239b56", "#b9770e", "#7d3c98", "#117a65", "#5d6d7e")
    columns = 3
    rows = -(-len(names) // columns)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{columns * wide}" height="{rows * tall + 40}" '
        'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
    ]
    for i, name in enumerate(names):
        parts.append(
            _panel(
                name,
                {arm: c[name] for arm, c in curves.items()},
                colours,
                i % columns * wide,
                i // columns * tall,
                wide,
                tall,
            )
        )
    for i, arm in enumerate(curves):
        x, y = 40 + i * 160, rows * tall + 22
        parts.append(f'<rect x="{x}" y="{y - 9}" width="18" height="4" fill="{colours[i % len(colours)]}"/>')
        parts.append(f'<text x="{x + 24}" y="{y - 4}">{_escaped(arm)}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _panel(
    name: str, curves: Mapping[str, Tensor], colours: Sequence[str], left: int, top: int, wide: int, tall: int
) -> str:
    means = {arm: (c.double().mean(0), c.double().std(0, correction=0) / len(c) ** 0.5) for arm, c in curves.items()}
    most = max(float((mean + error).max()) for mean, error in means.values()) or 1.0
    count = max(len(mean) for mean, _ in means.values())
    x = lambda clip: left + 40 + clip / max(1, count - 1) * (wide - 60)
    y = lambda value: top + tall - 28 - value / most * (tall - 60)
    parts = [
        f'<text x="{left + 40}" y="{top + 20}" font-weight="bold">{name}</text>',
        f'<line x1="{left + 40}" y1="{y(0):.1f}" x2="{left + wide - 20}" y2="{y(0):.1f}" stroke="#999"/>',
        f'<text x="{left + 4}" y="{y(most) + 4:.1f}">{most:.2g}</text><text x="{left + 24}" y="{y(0) + 4:.1f}">0</text>',
        f'<text x="{left + wide - 70}" y="{top + tall - 10}">clip {count}</text>',
    ]
    for number, (mean, error) in enumerate(means.values()):
        colour = colours[number % len(colours)]
        upper = [f"{x(i):.1f},{y(float(v)):.1f}" for i, v in enumerate(mean + error)]
        lower = [f"{x(i):.1f},{y(float(v)):.1f}" for i, v in enumerate((mean - error).clamp_min(0))]
        parts.append(f'<polygon points="{" ".join(upper + lower[::-1])}" fill="{colour}" opacity="0.15"/>')
        line = " ".join(f"{x(i):.1f},{y(float(v)):.1f}" for i, v in enumerate(mean))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
    return "\n".join(parts)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
