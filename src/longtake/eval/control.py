"""Control: the correlation of a control signal with the motion or size of the sprite in a model's video.

The model generates unseen clips from their first frame, a caption without a motion, and the control signal. Two more numbers
frame its score: the same measure on true renders, the best possible, and on each video against the control signal of another
clip, the score of a model that ignores the signal.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from longtake.engine.build import build_rollout
from longtake.engine.control import ControlSignal
from longtake.engine.events import Frames
from longtake.engine.inputs import RolloutInputs
from longtake.media.contact_sheet import save_sheet
from longtake.models.model import Model
from longtake.pipelines.settings.run_settings import RunSettings
from longtake.planning.script import Script
from longtake.pocket import Clip, caption, make_clip, render
from longtake.pocket.judge import find_sprite, follow_sprite

SCORES = ("follows", "true", "chance")
FRAMES = 97  # frames of a video
SEED = 10**6  # number of the first clip; training clips are numbered from 0


@dataclass(frozen=True)
class ControlledClip:
    """A clip for a model to generate: its caption, control signal, ground truth, and the seed of the noise."""

    clip: Clip
    text: str
    seed: int

    def signal(self, frames: int) -> Tensor:
        """Return the control signal of the first frames (T, D)."""
        return torch.from_numpy(self.clip.control_signal(0, frames)).float()

    def rendered(self, frames: int) -> Tensor:
        """Return the true frames (T, 3, S, S)."""
        return render(self.clip, 0, frames).frames


def unseen_clips(drive: str, count: int, seed: int = SEED) -> list[ControlledClip]:
    """Return clips that no training run used, driven by a "voice" or a "path"."""
    rng = random.Random(f"driven {drive} {seed}")
    clips = [make_clip(rng, FRAMES, drive=drive) for _ in range(count)]
    return [
        ControlledClip(clip, caption(clip.scenes[0].facts, rng, unsaid=True), seed + n) for n, clip in enumerate(clips)
    ]


def generate_clip(model: Model, wanted: ControlledClip, frames: int = FRAMES, scale: float = 1.0) -> Tensor:
    """Generate the clip; return (T, 3, S, S) in [0, 1]. scale: strength of the control signal ."""
    settings = RunSettings.of(model, wanted.text, seconds=frames / model.fps, seed=wanted.seed)
    start = wanted.rendered(1).transpose(0, 1)[None] * 2 - 1
    inputs = RolloutInputs(start=start, control=ControlSignal(wanted.signal(frames), scale=scale))
    rollout = build_rollout(
        model, Script.from_facts(settings.script), settings.make_plan(), seeds=(settings.seed,), inputs=inputs,
        guidance=settings.sampling.guidance_scale, solver=settings.sampling.solver or "euler",
    )  # fmt: skip
    video = torch.cat([event.frames[0] for event in rollout.run() if isinstance(event, Frames)])
    return video.permute(0, 3, 1, 2).float() / 255


def correlation(frames: Tensor, signal: Tensor) -> float:
    """Return the correlation, -1 to 1, of a voice (T, 1) with the sprite's size, or of a path (T, 2) with its position.

    It is 0 if fewer than a third of the frames (T, 3, S, S) show a sprite.
    """
    sprite = follow_sprite(find_sprite(frames)[1], 1)
    if len(sprite.frames) < len(frames) / 3:
        return 0.0
    read = sprite.area.sqrt()[:, None] if signal.shape[1] == 1 else torch.stack([sprite.x, sprite.y], 1)
    wanted = signal[sprite.frames]
    read, wanted = read - read.mean(0), wanted - wanted.mean(0)
    return float(((read * wanted).sum(0) / (read.norm(dim=0) * wanted.norm(dim=0)).clamp_min(1e-6)).mean())


def evaluate(model: Model, drive: str, count: int, sheet: Path, frames: int = FRAMES) -> dict[str, float]:
    """Return mean correlations over a few unseen clips, {follows, true, chance}, and write a contact sheet of them.

    follows: the model's videos; true: the true renders; chance: the model's videos against the signal of another clip.
    """
    clips = unseen_clips(drive, count)
    videos = [generate_clip(model, clip, frames) for clip in clips]
    save_sheet(sheet, [(clip.text, video) for clip, video in zip(clips, videos)])
    signals = [clip.signal(frames) for clip in clips]
    truth = [clip.rendered(frames) for clip in clips]
    values = (_mean(videos, signals), _mean(truth, signals), _mean(videos, [*signals[1:], *signals[:1]]))
    return dict(zip(SCORES, values))


def _mean(videos: Sequence[Tensor], signals: Sequence[Tensor]) -> float:
    return sum(correlation(video, signal) for video, signal in zip(videos, signals)) / len(videos)
