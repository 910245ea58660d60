"""Builds a rollout from a model, a script, a strategy's plan and the inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from longtake.core.errors import PlanError
from longtake.core.geometry import frames_of_latents, latents_of_frames
from longtake.core.guidance_settings import Guidance
from longtake.core.noise import CounterNoise, Noise
from longtake.core.solvers import SOLVERS
from longtake.engine.clips.clip import Clip, ClipContext
from longtake.engine.clips.keyframe_latents import ANCHOR, SOURCE, KeyframeLatents
from longtake.engine.clips.resolution import Resolution
from longtake.engine.clips.shot import Shot
from longtake.engine.conditioning import Conditioner, PromptCache
from longtake.engine.guidance import Guided, TextAndControlGuidance, guidance_of
from longtake.engine.inputs import ReadFrames, RolloutInputs
from longtake.engine.output.video_output import VideoOutput
from longtake.engine.prompt_notices import PromptNotices
from longtake.engine.rollout import Rollout
from longtake.models.interfaces import Session
from longtake.models.model import Model, check_loras
from longtake.planning.keyframes import plan_with_keyframes
from longtake.planning.scene_changes import PromptDistance
from longtake.planning.script import Script
from longtake.planning.shots import ShotPlanner
from longtake.planning.timeline import Timeline
from longtake.planning.window import Plan


def build_rollout(
    model: Model, script: Script, plan: Plan, inputs: RolloutInputs | None = None, *, seeds: Sequence[int] = (0,),
    guidance: float | Guidance | None = None, negative_prompt: str | None = None, solver: str = "euler",
    noise: Noise | None = None, fps: float | None = None, batched: bool = True, overlapped: bool = True,
    stg_mode: str | None = None, sample_posterior: bool = False, decode_context_noise: bool = False,
    soft_on_schedule: bool = False, strategy: str = "",
) -> Rollout:  # fmt: skip
    """Build the rollout of a video whose length is that of the script (None: without end).

    seeds: one per video of the batch. guidance: a scale, or all settings of guidance (None: those of the
    model); 1 calls the model once per step. noise: replaces the noise of the seeds. fps: frame rate that the model is
    conditioned on (None: its own). batched: run the branches of guidance as one batch. overlapped: decode a clip
    while the next one is generated, where that one is handed latents and so needs no frames. stg_mode: see `Guidance`
    (None: as it suits the model). sample_posterior, decode_context_noise, soft_on_schedule: see `SamplingOptions`.
    strategy: name of the plan's strategy, for messages.
    Raise PlanError or ValueError if the model cannot do what is asked for.
    """
    inputs = inputs or RolloutInputs()
    inputs.check()
    if inputs.keyframes:
        plan = plan_with_keyframes(
            plan, inputs.keyframes, script, model.vae.temporal_compression, inputs.start_offset, soft_on_schedule
        )
    for loras in dict.fromkeys(scene.lora for scene in script.scenes if scene.lora):
        check_loras(model, loras)
    if inputs.control is not None:
        inputs.control.check(model)
    scale, batch = guidance_of(model, guidance, stg_mode), len(seeds)
    negative, notices = (
        model.defaults.negative_prompt if negative_prompt is None else negative_prompt,
        PromptNotices(model),
    )
    notices.say_all(script, negative)
    prompts = PromptCache(model.text_encoder, batch, notices.say)
    conditioner = Conditioner(model, prompts, negative, model.fps if fps is None else fps, inputs.control)
    noise = noise or (model.defaults.noise(seeds) if model.defaults.noise else CounterNoise(tuple(seeds)))
    session = lambda branch: _new_session(model, branch, conditioner, batched)
    if sample_posterior and model.features.posterior is None:
        raise PlanError(f"only the mean of the posterior of {model.name} is known: leave --sample-posterior out")
    own = dict(sampled=sample_posterior, decodes_context_noise=decode_context_noise)
    resolutions = _resolutions(model, noise, batch, scale, session, inputs, own)
    timeline = _timeline(model, script, plan, conditioner, inputs, strategy)
    output = VideoOutput(
        model.vae, model.device, plan.traits.tail_frames, -inputs.start_offset,
        overlapped and not model.features.one_part_on_device,
    )  # fmt: skip
    shot, clip = _first_shot(resolutions, plan, inputs)
    return Rollout(timeline, conditioner, SOLVERS[solver], resolutions, output, shot, clip)


def _timeline(
    model: Model, script: Script, plan: Plan, conditioner: Conditioner, inputs: RolloutInputs, strategy: str
) -> Timeline:
    stride, given = model.vae.temporal_compression, 0
    if inputs.start is not None:
        given = latents_of_frames(inputs.start.shape[2], stride)
    planner = ShotPlanner(
        script, plan, model.limits, stride, PromptDistance(conditioner.prompts.embedding), given, inputs.start_offset,
        inputs.end is not None, strategy,
    )  # fmt: skip
    return Timeline(planner, conditioner.fps)


def _resolutions(
    model: Model, noise: Noise, batch: int, guidance: Guidance, session: Callable[[Guidance], Session],
    inputs: RolloutInputs, own: Mapping[str, Any],
) -> list[Resolution]:  # fmt: skip
    """List one resolution, or two where the model has a second stage, which starts from the latents of the first.

    own: further fields of each.
    """
    second, first = model.second_stage, lambda: session(guidance)
    found = [Resolution(model, noise, first, 1 if second is None else second.scale, **own)]
    if second is not None:
        branches = guidance if guidance.plain else replace(second.guidance, stg_mode=guidance.stg_mode)
        found.append(Resolution(model, noise, lambda: session(branches), second_stage=second, **own))
    return [
        replace(
            each, keyframes=KeyframeLatents.of(inputs.keyframes, inputs.end, each.encode, batch),
            source=_source_latents(each, inputs.source, batch),
        )
        for each in found
    ]  # fmt: skip


def _source_latents(
    resolution: Resolution, read: ReadFrames | None, batch: int
) -> Callable[[int, int], list[Tensor]] | None:
    """Return what encodes an input video from an output frame on, for `batch` videos that share it."""
    if read is None:
        return None

    def latents(first: int, count: int) -> list[Tensor]:
        frames = frames_of_latents(count, resolution.model.vae.temporal_compression)
        return [latent.expand(batch, -1, -1, -1) for latent in resolution.encode(read(first, frames), first, SOURCE)]

    return latents


def _new_session(model: Model, guidance: Guidance, conditioner: Conditioner, batched: bool) -> Session:
    """Start a session of the model, with the branches of guidance if there are any."""
    control = conditioner.control
    if control is not None and control.scale != 1:
        return TextAndControlGuidance(model.session, max(guidance.scale), control.scale, conditioner.negative)
    if guidance.plain:
        return model.session()
    negative = conditioner.negative if max(guidance.scale) > 1 else None
    return Guided(model.session, guidance, negative, batched)


def _first_shot(resolutions: Sequence[Resolution], plan: Plan, inputs: RolloutInputs) -> tuple[Shot, Clip]:
    """Start the first shot and its first clip, which begins with the input frames as other clips begin after a cut."""
    shot, clip = Shot(), Clip(resolutions, 0, -inputs.start_offset)
    if inputs.start is None:
        return shot, clip
    context = ClipContext.encoded(inputs.start, resolutions, clip.first)
    latents = [list(each) for each in context.latents]
    if inputs.anchor is not None:
        anchors = [each.encode(inputs.anchor, 0, ANCHOR)[0] for each in resolutions]
    else:
        anchors = [each[0] for each in latents]
    shot.anchors = dict(enumerate(anchors))
    if plan.traits.anchor:
        latents = [[anchor, *each[1:]] if len(each) > 1 else each for anchor, each in zip(anchors, latents)]
    clip.start(ClipContext(latents, context.pixels))
    model = resolutions[-1].model
    if model.limits.conditioning == "concat":
        first = inputs.start[:, :, :1] if inputs.anchor is None else inputs.anchor
        shot.first_frame = first.to(model.device)
    return shot, clip
