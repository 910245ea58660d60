"""The judge: reads colour, shape, motion and scenery of a pocket clip from its frames alone.

It reads the colour by distance to the palette, the shape by overlap with rendered templates, the motion from the
trajectory of the sprite's centre on the wrapping screen, and the scenery from the mean picture around the sprite.
Frames are (T, 3, S, S) in [0, 1], masks (T, S, S).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

from longtake.pocket.facts import COLOURS, JUDGED, SCENERIES, SHAPES, Facts
from longtake.pocket.motion import DRIFT, FPS
from longtake.pocket.scenery import DRAW, SIDE, X, Y
from longtake.pocket.sprites import FIELDS

NEAR = 0.26  # RGB distance to a colour within which a pixel counts as that colour
PALE = 0.135  # the most that a channel of a white sprite lacks of 1; suns, skies and snow lack more
SEEN = 10  # pixels from which on a frame shows a sprite
# the angle after which a shape looks the same again
TURNS = {"square": math.pi / 2, "triangle": 2 * math.pi / 3, "star": 2 * math.pi / 5, "heart": 2 * math.pi}


@dataclass(frozen=True)
class Verdict:
    """Facts that the judge reads; None if it finds no sprite. overlap: intersection over union with the best template."""

    colour: str | None
    shape: str | None
    motion: str | None
    scenery: str
    overlap: float


@dataclass(frozen=True)
class Share:
    """A share, hits / count, with its Wilson 95 % interval."""

    hits: int
    count: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share, 0 to 1."""
        return self.hits / self.count

    def __str__(self) -> str:
        return f"{100 * self.value:.0f} % ({100 * self.low:.0f}-{100 * self.high:.0f})"


@dataclass(frozen=True)
class Trajectory:
    """The sprite in the V frames that show it: masks (V, S, S) moved to the middle of the screen; the way of its centre
    x, y (V,) in units, unwrapped; area (V,) in pixels; frames (V,) their numbers."""

    masks: Tensor
    x: Tensor
    y: Tensor
    area: Tensor
    frames: Tensor


def judge(frames: Tensor, every: int = 2) -> Verdict:
    """Read every n-th frame of a clip (T, 3, S, S) at 24 fps. Telling motions apart takes about 2 s."""
    total, frames = len(frames), frames[::every]
    colour, mask = find_sprite(frames)
    path = follow_sprite(mask, every)
    scenery = read_scenery(frames[::4], mask[::4])
    if len(path.frames) < 0.3 * len(frames):
        return Verdict(None, None, None, scenery, 0.0)
    shape, overlap = read_shape(path.masks[:: max(1, 8 // every)])
    return Verdict(colour, shape, read_motion(path, total), scenery, overlap)


def find_sprite(frames: Tensor) -> tuple[str, Tensor]:
    """Return the palette colour with the most pixels in most frames, and those pixels (T, S, S). White is the last resort."""
    names, palette = list(COLOURS), torch.tensor(list(COLOURS.values()))
    difference = frames[:, None] - palette[None, :, :, None, None]
    distance = difference.square().sum(2).sqrt()  # a strided norm(dim=2) takes 20 times as long
    near = (distance < NEAR) & (distance == distance.amin(1, keepdim=True))
    white = names.index("white")
    near[:, white] = frames.amin(1) > 1 - PALE
    count = near.sum((2, 3)).float()  # (T, colours)
    typical = count.median(0).values
    typical[white] *= float(typical[:white].max() < SEEN)
    best = int(typical.argmax() if typical.max() >= SEEN else count.mean(0).argmax())
    return names[best], near[:, best]


def follow_sprite(mask: Tensor, every: int) -> Trajectory:
    """Follow the pixels of a sprite (T, S, S) on the wrapping screen. every: output frames between two masks."""
    area = mask.sum((1, 2))
    seen = torch.where(area >= SEEN)[0]
    weight = mask[seen].float()
    x, y = _circular_mean(weight, X), _circular_mean(weight, Y)
    middle = [
        torch.roll(m, (-round(b * SIDE / 2), -round(a * SIDE / 2)), (0, 1))
        for m, a, b in zip(weight, x.tolist(), y.tolist())
    ]
    masks = torch.stack(middle) if middle else weight
    return Trajectory(masks, _unwrap(x), _unwrap(y), area[seen].float(), seen * every)


def _circular_mean(weight: Tensor, axis: Tensor) -> Tensor:
    """Return the weighted mean position (V,) on a screen whose edges meet."""
    sine, cosine = (weight * torch.sin(math.pi * axis)).sum((1, 2)), (weight * torch.cos(math.pi * axis)).sum((1, 2))
    return torch.atan2(sine, cosine) / math.pi


def _unwrap(place: Tensor) -> Tensor:
    """Return the distance travelled since the first frame, the short way between neighbours."""
    steps = (place.diff() + 1) % 2 - 1
    return torch.cat((torch.zeros(1), steps.cumsum(0))) if len(place) else place


# ---------------------------------------------------------------- shape
@cache
def _templates() -> tuple[Tensor, Tensor]:
    """Return centred masks (N, S * S) of every shape at many sizes and angles, and the number of the shape (N,)."""
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
    """Return the shape whose templates overlap best with centred masks (V, S, S), averaged over frames, and that overlap."""
    templates, labels = _templates()
    masks = masks.flatten(1)
    shared = masks @ templates.T
    overlap = shared / (masks.sum(1, keepdim=True) + templates.sum(1) - shared)
    best = torch.stack([overlap[:, labels == k].amax(1).mean() for k in range(len(SHAPES))])
    return SHAPES[int(best.argmax())], float(best.max())


def overlap_with(masks: Tensor, shape: str) -> float:
    """Return the best overlap of centred masks (V, S, S) with the templates of one shape, averaged over frames."""
    templates, labels = _templates()
    templates, masks = templates[labels == SHAPES.index(shape)], masks.flatten(1)
    shared = masks @ templates.T
    union = masks.sum(1, keepdim=True) + templates.sum(1) - shared
    return float((shared / union).amax(1).mean())


# ---------------------------------------------------------------- motion
def read_motion(path: Trajectory, frames: int) -> str:
    """Read a drift from a long way, then orbit, bounce or sway from its extent, pulse from the area, spin from rotation."""
    seconds = max(frames, 1) / FPS
    far = 0.5 * DRIFT * seconds
    net_x, net_y = float(path.x[-1]), float(path.y[-1])
    wide, tall = float(path.x.max() - path.x.min()), float(path.y.max() - path.y.min())
    if max(abs(net_x), abs(net_y)) > max(far, 0.6):
        if abs(net_x) > abs(net_y):
            return "right" if net_x > 0 else "left"
        return "down" if net_y > 0 else "up"
    if wide > 0.5 and tall > 0.5:
        return "orbit"
    if max(wide, tall) > 0.4:
        return "bounce" if tall > wide else "sway"
    if float(path.area.std() / path.area.mean()) > 0.22:
        return "pulse"
    return "spin" if _steadiness(path) < 0.86 else "still"


def _steadiness(path: Trajectory) -> float:
    """Return the overlap of the sprite with itself 6, 10 and 16 frames later, the worst of the three."""
    worst, index_of = 1.0, {frame: index for index, frame in enumerate(path.frames.tolist())}
    for lag in (6, 10, 16):
        pairs = [(index, index_of[frame + lag]) for frame, index in index_of.items() if frame + lag in index_of]
        if pairs:
            a, b = (path.masks[list(index)] for index in zip(*pairs))
            shared = (a * b).sum((1, 2))
            worst = min(worst, float((shared / (a.sum((1, 2)) + b.sum((1, 2)) - shared)).mean()))
    return worst


# ---------------------------------------------------------------- scenery
@cache
def _places() -> tuple[Tensor, Tensor]:
    """Return each scenery from many camera positions, pooled to (N, 3, 8, 8), and its number (N,)."""
    views = [
        (number, avg_pool2d(DRAW[name](camera, torch.zeros(1)), SIDE // 8)[0])
        for number, name in enumerate(SCENERIES)
        for camera in torch.linspace(-0.5, 0.5, 9).tolist()
    ]
    return torch.stack([view for _, view in views]), torch.tensor([number for number, _ in views])


def read_scenery(frames: Tensor, mask: Tensor) -> str:
    """Return the scenery nearest to frames (T, 3, S, S) where they are clear of the sprite (T, S, S)."""
    places, labels = _places()
    clear = 1 - max_pool2d(mask.float()[:, None], 7, 1, 3)
    share = avg_pool2d(clear, SIDE // 8)
    view = avg_pool2d(frames * clear, SIDE // 8) / share.clamp_min(1e-3)
    usable = (share > 0.3).float()
    distance = ((view[:, None] - places).abs() * usable[:, None]).sum((2, 3, 4)) / usable.sum((1, 2, 3))[
        :, None
    ].clamp_min(1)
    return SCENERIES[int(labels[distance.mean(0).argmin()])]


def background(frames: Tensor) -> Tensor:
    """Return the median picture (3, S, S) of frames (T, 3, S, S) without their sprite; 0.5 where it always is."""
    _, mask = find_sprite(frames)
    bare = torch.where(mask[:, None], torch.nan, frames)
    return bare.nanmedian(0).values.nan_to_num(0.5)


# ---------------------------------------------------------------- scores
def wilson(hits: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Return the Wilson score interval of a share, (low, high)."""
    p, norm = hits / count, 1 + z * z / count
    centre, half = (p + z * z / (2 * count)) / norm, z * math.sqrt(p * (1 - p) / count + (z / (2 * count)) ** 2) / norm
    return max(0.0, centre - half), min(1.0, centre + half)


def score(wanted: Sequence[Facts], verdicts: Sequence[Verdict]) -> Mapping[str, Share]:
    """Return the share of verdicts that equal the wanted fact, {colour, shape, motion, scenery: Share}.

    Raises ValueError unless there are as many verdicts as facts, and at least one.
    """
    if len(wanted) != len(verdicts) or not wanted:
        raise ValueError(f"{len(wanted)} prompts and {len(verdicts)} verdicts cannot be scored: give as many of each")
    shares = {}
    for name in JUDGED:
        hits = sum(getattr(a, name) == getattr(r, name) for a, r in zip(wanted, verdicts))
        shares[name] = Share(hits, len(wanted), *wilson(hits, len(wanted)))
    return shares
