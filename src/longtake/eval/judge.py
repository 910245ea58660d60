"""The judge: reads colour, shape, motion and scenery of a pocket clip from its frames alone.

Colour by distance to the palette, shape by overlap with drawn templates, motion from the track of the sprite's centre
on the wrapping screen, scenery by the mean picture around the sprite. T frames, S pixels each way; frames in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

from longtake.world.clip import FPS
from longtake.world.facts import COLOURS, JUDGED, SCENERIES, SHAPES, Facts
from longtake.world.motion import DRIFT
from longtake.world.scenery import DRAW, SIDE, X, Y
from longtake.world.shapes import FIELDS

NEAR = 0.26  # RGB distance within which a pixel counts as of a colour
PALE = 0.135  # what every channel may lack of white; suns, skies and snow lack more
SEEN = 10  # pixels that make a sprite
TURNS = {"square": math.pi / 2, "triangle": 2 * math.pi / 3, "star": 2 * math.pi / 5, "heart": 2 * math.pi}


@dataclass(frozen=True)
class Verdict:
    """What the judge reads; None where it sees nothing. overlap: of the sprite with the best template, 0 to 1."""

    colour: str | None
    shape: str | None
    motion: str | None
    scenery: str
    overlap: float


@dataclass(frozen=True)
class Share:
    """Hits out of count, with the Wilson 95 % interval."""

    hits: int
    count: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """Hits per count."""
        return self.hits / self.count

    def __str__(self) -> str:
        return f"{100 * self.value:.0f} % ({100 * self.low:.0f}-{100 * self.high:.0f})"


@dataclass(frozen=True)
class Track:
    """The sprite in the frames where it is seen (V of T): masks (V, S, S) moved to the middle of the screen, centre
    x, y (V,) in units, unwrapped; area (V,) in pixels; when (V,) the frame numbers."""

    masks: Tensor
    x: Tensor
    y: Tensor
    area: Tensor
    when: Tensor


def judge(frames: Tensor, stride: int = 2) -> Verdict:
    """Read a clip (T, 3, S, S) at 24 fps, looking at every `stride`-th frame. Needs about 2 s to know a motion."""
    total, frames = len(frames), frames[::stride]
    colour, mask = find_sprite(frames)
    track = follow(mask, stride)
    scenery = read_scenery(frames[::4], mask[::4])
    if len(track.when) < 0.3 * len(frames):
        return Verdict(None, None, None, scenery, 0.0)
    shape, overlap = read_shape(track.masks[:: max(1, 8 // stride)])
    return Verdict(colour, shape, read_motion(track, total), scenery, overlap)


def find_sprite(frames: Tensor) -> tuple[str, Tensor]:
    """The colour of the palette that most frames show most of, and its pixels (T, S, S). White only if nothing else."""
    names, palette = list(COLOURS), torch.tensor(list(COLOURS.values()))
    distance = (frames[:, None] - palette[None, :, :, None, None]).norm(dim=2)
    near = (distance < NEAR) & (distance == distance.amin(1, keepdim=True))
    white = names.index("white")
    near[:, white] = frames.amin(1) > 1 - PALE
    count = near.sum((2, 3)).float()  # (T, colours)
    typical = count.median(0).values
    typical[white] *= float(typical[:white].max() < SEEN)
    best = int(typical.argmax() if typical.max() >= SEEN else count.mean(0).argmax())
    return names[best], near[:, best]


def follow(mask: Tensor, stride: int) -> Track:
    """Track the pixels of a sprite (T, S, S) on the wrapping screen."""
    area = mask.sum((1, 2))
    seen = torch.where(area >= SEEN)[0]
    weight = mask[seen].float()
    x, y = _circular_mean(weight, X), _circular_mean(weight, Y)
    middle = [
        torch.roll(m, (-round(b * SIDE / 2), -round(a * SIDE / 2)), (0, 1))
        for m, a, b in zip(weight, x.tolist(), y.tolist())
    ]
    masks = torch.stack(middle) if middle else weight
    return Track(masks, _unwrap(x), _unwrap(y), area[seen].float(), seen * stride)


def _circular_mean(weight: Tensor, axis: Tensor) -> Tensor:
    """Weighted mean place (V,) on a screen whose edges meet."""
    sine, cosine = (weight * torch.sin(math.pi * axis)).sum((1, 2)), (weight * torch.cos(math.pi * axis)).sum((1, 2))
    return torch.atan2(sine, cosine) / math.pi


def _unwrap(place: Tensor) -> Tensor:
    """Distance travelled since the first frame, going the short way between frames."""
    steps = (place.diff() + 1) % 2 - 1
    return torch.cat((torch.zeros(1), steps.cumsum(0))) if len(place) else place


# ---------------------------------------------------------------- shape
@cache
def _templates() -> tuple[Tensor, Tensor]:
    """Centred masks (N, S * S) of every shape at many sizes and angles, and the number of the shape (N,)."""
    masks, labels = [], []
    for number, (name, field) in enumerate(FIELDS.items()):
        turn = TURNS.get(name, 0.0)
        steps = max(1, round(turn / (math.pi / 10)))
        for radius in torch.linspace(0.13, 0.59, 24):
            for angle in (turn * k / steps for k in range(steps)):
                u, v = X * math.cos(angle) + Y * math.sin(angle), Y * math.cos(angle) - X * math.sin(angle)
                mask = (field(u, v, radius) < 0).float()
                down, across = (round(float((mask * axis).sum() / mask.sum()) * SIDE / 2) for axis in (Y, X))
                masks.append(torch.roll(mask, (-down, -across), (0, 1)).flatten())
                labels.append(number)
    return torch.stack(masks), torch.tensor(labels)


def read_shape(masks: Tensor) -> tuple[str, float]:
    """The shape whose templates overlap best with centred masks (V, S, S), on average over frames; and that overlap."""
    templates, labels = _templates()
    masks = masks.flatten(1)
    shared = masks @ templates.T
    overlap = shared / (masks.sum(1, keepdim=True) + templates.sum(1) - shared)
    best = torch.stack([overlap[:, labels == k].amax(1).mean() for k in range(len(SHAPES))])
    return SHAPES[int(best.argmax())], float(best.max())


def overlap_with(masks: Tensor, shape: str) -> float:
    """The best overlap of centred masks (V, S, S) with the templates of one shape, on average over frames."""
    templates, labels = _templates()
    templates, masks = templates[labels == SHAPES.index(shape)], masks.flatten(1)
    shared = masks @ templates.T
    union = masks.sum(1, keepdim=True) + templates.sum(1) - shared
    return float((shared / union).amax(1).mean())


# ---------------------------------------------------------------- motion
def read_motion(track: Track, frames: int) -> str:
    """Drift if it goes far, then orbit, bounce or sway by the room it takes, then pulse by area, spin by turning."""
    seconds = max(frames, 1) / FPS
    far = 0.5 * DRIFT * seconds
    net_x, net_y = float(track.x[-1]), float(track.y[-1])
    wide, tall = float(track.x.max() - track.x.min()), float(track.y.max() - track.y.min())
    if max(abs(net_x), abs(net_y)) > max(far, 0.6):
        if abs(net_x) > abs(net_y):
            return "right" if net_x > 0 else "left"
        return "down" if net_y > 0 else "up"
    if wide > 0.5 and tall > 0.5:
        return "orbit"
    if max(wide, tall) > 0.4:
        return "bounce" if tall > wide else "sway"
    if float(track.area.std() / track.area.mean()) > 0.22:
        return "pulse"
    return "spin" if _steadiness(track) < 0.86 else "still"


def _steadiness(track: Track) -> float:
    """How well the sprite overlaps with itself a third, a half and two thirds of a second later; the worst of these."""
    worst = 1.0
    for lag in (7, 11, 16):
        pairs = [
            (i, int(j)) for i, now in enumerate(track.when) for j in torch.where(track.when == now + lag // 2 * 2)[0]
        ]
        if pairs:
            a, b = (track.masks[list(index)] for index in zip(*pairs))
            shared = (a * b).sum((1, 2))
            worst = min(worst, float((shared / (a.sum((1, 2)) + b.sum((1, 2)) - shared)).mean()))
    return worst


# ---------------------------------------------------------------- scenery
@cache
def _places() -> tuple[Tensor, Tensor]:
    """Each scenery from many camera places, pooled to 8x8 (N, 3, 8, 8), and its number (N,)."""
    views = [
        (number, avg_pool2d(DRAW[name](camera, torch.zeros(1)), SIDE // 8)[0])
        for number, name in enumerate(SCENERIES)
        for camera in torch.linspace(-0.5, 0.5, 9).tolist()
    ]
    return torch.stack([view for _, view in views]), torch.tensor([number for number, _ in views])


def read_scenery(frames: Tensor, mask: Tensor) -> str:
    """The scenery whose picture is nearest to frames (T, 3, S, S) away from the sprite (T, S, S)."""
    places, labels = _places()
    clear = 1 - max_pool2d(mask.float()[:, None], 7, 1, 3)
    share = avg_pool2d(clear, SIDE // 8)
    view = avg_pool2d(frames * clear, SIDE // 8) / share.clamp_min(1e-3)
    usable = (share > 0.3).float()
    distance = ((view[:, None] - places).abs() * usable[:, None]).sum((2, 3, 4)) / usable.sum((1, 2, 3))[
        :, None
    ].clamp_min(1)
    return SCENERIES[int(labels[distance.mean(0).argmin()])]


# ---------------------------------------------------------------- scores
def wilson(hits: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson score interval of a share."""
    p, norm = hits / count, 1 + z * z / count
    centre, half = (p + z * z / (2 * count)) / norm, z * math.sqrt(p * (1 - p) / count + (z / (2 * count)) ** 2) / norm
    return max(0.0, centre - half), min(1.0, centre + half)


def score(asked: Sequence[Facts], read: Sequence[Verdict]) -> Mapping[str, Share]:
    """How often each fact that was asked for is what the judge reads: {colour, shape, motion, scenery: Share}."""
    if len(asked) != len(read) or not asked:
        raise ValueError(f"{len(asked)} prompts and {len(read)} verdicts: give as many of each, at least one")
    shares = {}
    for name in JUDGED:
        hits = sum(getattr(a, name) == getattr(r, name) for a, r in zip(asked, read))
        shares[name] = Share(hits, len(asked), *wilson(hits, len(asked)))
    return shares
