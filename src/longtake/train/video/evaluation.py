"""Evaluation of a video network in training: videos of a few prompts, their scores and a contact sheet."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from longtake.data.captions.captioners import evenly_spaced
from longtake.engine.build import build_rollout
from longtake.engine.control import ControlSignal
from longtake.engine.events import Frames
from longtake.engine.inputs import RolloutInputs
from longtake.eval.pocket_prompts import WINDOW, unseen_prompts
from longtake.media.contact_sheet import save_sheet
from longtake.models.model import Model
from longtake.pipelines.settings.run_settings import RunSettings
from longtake.planning.script import Script
from longtake.pocket.judge import judge, score
from longtake.train.datasets.footage import Footage


def prompt_scores(model: Model, count: int, sheet: Path) -> dict[str, float]:
    """Return the share of pocket prompts that the model's videos follow, {colour, shape, motion, scenery}.

    A contact sheet of the videos is written.
    """
    prompts = unseen_prompts(count)
    from_image = model.limits.conditioning == "concat"
    videos = [
        sampled(model, p.text, p.seed, WINDOW, p.rendered(1).transpose(0, 1)[None] * 2 - 1 if from_image else None)
        for p in prompts
    ]
    save_sheet(sheet, [(prompt.text, video) for prompt, video in zip(prompts, videos)])
    shares = score([prompt.facts for prompt in prompts], [judge(video) for video in videos])
    return {name: share.value for name, share in shares.items()}


def footage_sheet(model: Model, footage: Footage, count: int, sheet: Path) -> dict[str, float]:
    """Write a contact sheet of videos of a few captions, if there are clips of the usual size. Returns no scores.

    The captions are those of held-out clips, if there are some; the seeds are always the same.
    """
    sizes = [(clip.bucket.height, clip.bucket.width) for clip in footage.clips]
    usual = [number for number, size in enumerate(sizes) if size == footage.usual_size]
    usual = [number for number in usual if number in footage.held_out] or usual
    rows = []
    for number in evenly_spaced(usual, count):
        text, frames = footage.caption(number), footage.clips[number].bucket.frames
        first = footage.frames(number, 1) if model.limits.conditioning == "concat" else None
        controlled = footage.control_kind and model.features.control_width
        control = ControlSignal(footage.control_signal(number)) if controlled else None
        rows.append((text, thumbnail(sampled(model, text, number, frames, first, control))))
    if rows:
        save_sheet(sheet, rows, columns=6, scale=1)
    return {}


def sampled(
    model: Model, text: str, seed: int, frames: int, image: Tensor | None = None, control: ControlSignal | None = None
) -> Tensor:
    """Generate a video of a prompt (T, 3, H, W) in [0, 1], T = frames.

    image: (1, 3, 1, H, W), its first frame. control: its control signal.
    """
    settings = RunSettings.of(model, text, seconds=frames / model.fps, seed=seed)
    rollout = build_rollout(
        model, Script.from_facts(settings.script), settings.make_plan(), seeds=(settings.seed,),
        inputs=RolloutInputs(start=image, control=control), guidance=settings.sampling.guidance_scale, fps=settings.fps,
    )  # fmt: skip
    video = torch.cat([event.frames[0] for event in rollout.run() if isinstance(event, Frames)])
    return video.permute(0, 3, 1, 2).float() / 255


def thumbnail(video: Tensor, side: int = 128) -> Tensor:
    """Shrink a video (T, 3, H, W) so that its shorter side is at most `side` pixels."""
    scale = min(1.0, side / min(video.shape[2:]))
    return video if scale == 1 else interpolate(video, scale_factor=scale, mode="area")
