"""How well a model follows what drives a sprite: the correlation of what is told with what is seen.

Unseen clips, told by their first frame, a caption without a motion, and the track. Beside the model stands the same reading
of true renders (what is possible) and of each video against another's track (chance).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from longtake.engine import Rollout
from longtake.eval.judge import find_sprite, follow
from longtake.eval.sheet import save_sheet
from longtake.events import Frames
from longtake.models.base import Model
from longtake.script import Script
from longtake.settings import Settings
from longtake.track import Track
from longtake.world import Clip, caption, make_clip, render

SCORES = ("follows", "true", "chance")
FRAMES, SEED = 97, 10**6  # that are judged; of the clips, whose training ones are numbered from 0


@dataclass(frozen=True)
class Asked:
    """A clip that a model is to make: its words, what drives it, and how it truly looks."""

    clip: Clip
    text: str
    seed: int

    def rows(self, frames: int) -> Tensor:
        """What drives it, a row per frame (T, D)."""
        return torch.from_numpy(self.clip.track(0, frames)).float()

    def rendered(self, frames: int) -> Tensor:
        """The true picture (T, 3, S, S)."""
        return render(self.clip, 0, frames).frames


def unseen(drive: str, count: int, seed: int = SEED) -> list[Asked]:
    """Clips that no training saw."""
    rng = random.Random(f"driven {drive} {seed}")
    clips = [make_clip(rng, FRAMES, drive=drive) for _ in range(count)]
    return [Asked(clip, caption(clip.scenes[0].facts, rng, unsaid=True), seed + n) for n, clip in enumerate(clips)]


def made(model: Model, asked: Asked, frames: int = FRAMES, scale: float = 1.0) -> Tensor:
    """The model's video of it (T, 3, S, S) in [0, 1]. scale: see `Track`."""
    settings = Settings.resolve(model, asked.text, seconds=frames / model.fps, seed=asked.seed)
    start = asked.rendered(1).transpose(0, 1)[None] * 2 - 1
    rollout = Rollout(
        model, Script.from_facts(settings.script), settings.make_plan(), seeds=(settings.seed,), start=start,
        guidance=settings.guidance, solver=settings.solver, track=Track(asked.rows(frames), scale=scale),
    )  # fmt: skip
    video = torch.cat([event.frames[0] for event in rollout.run() if isinstance(event, Frames)])
    return video.permute(0, 3, 1, 2).float() / 255


def followed(frames: Tensor, rows: Tensor) -> float:
    """Correlation, -1 to 1, of a sprite's size with a voice (T, 1), or of its place with a path (T, 2); 0 if unseen."""
    seen = follow(find_sprite(frames)[1], 1)
    if len(seen.when) < len(frames) / 3:
        return 0.0
    read = seen.area.sqrt()[:, None] if rows.shape[1] == 1 else torch.stack([seen.x, seen.y], 1)
    told = rows[seen.when]
    read, told = read - read.mean(0), told - told.mean(0)
    return float(((read * told).sum(0) / (read.norm(dim=0) * told.norm(dim=0)).clamp_min(1e-6)).mean())


def check(model: Model, drive: str, count: int, sheet: Path, frames: int = FRAMES) -> dict[str, float]:
    """Mean correlation over a few unseen clips, {follows, true, chance}; a contact sheet shows them."""
    asked = unseen(drive, count)
    videos = [made(model, one, frames) for one in asked]
    save_sheet(sheet, [(one.text, video) for one, video in zip(asked, videos)])
    rows = [one.rows(frames) for one in asked]
    truth = [one.rendered(frames) for one in asked]
    values = (_mean(videos, rows), _mean(truth, rows), _mean(videos, [*rows[1:], *rows[:1]]))
    return dict(zip(SCORES, values))


def _mean(videos: Sequence[Tensor], rows: Sequence[Tensor]) -> float:
    return sum(followed(video, row) for video, row in zip(videos, rows)) / len(videos)
