"""The cost of a video before it is generated, without weights: windows, work, memory and disk.

Where a family gives `MetaNetworks`, nothing is estimated by formulas that could fall behind the code: the engine itself
runs the first windows with networks on PyTorch's meta device, where every tensor has its shape and no memory, while a
tracker counts what is alive. Other families count the work of a plan from the shape of their network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from longtake.core.errors import PlanError, SettingsError
from longtake.core.geometry import frames_of_seconds, latents_of_frames
from longtake.core.noise import NoiseKey
from longtake.core.profiling import FlopCounter, MemoryTracker, size_of
from longtake.engine.build import build_rollout
from longtake.engine.events import StepDone
from longtake.engine.inputs import RolloutInputs
from longtake.models import CheckpointLocation, locate
from longtake.models.interfaces import VAE
from longtake.models.registry import FAMILIES, family_of, presets, toy_families
from longtake.models.spec import CheckpointSpec, MetaModel, MetaNetworks, Work
from longtake.planning.cost import Cost, cost
from longtake.planning.script import Scene, Script
from longtake.planning.second_pass import second_pass_window
from longtake.planning.strategies.registry import STRATEGIES, default_options_for, make_plan, merge_options
from longtake.planning.window import Plan, Window, with_schedule

LAYERS = 2  # layers of a network that are run; the others are like them
STEPS = 3  # steps of a window that are run where every step is alike: the solver then remembers all it ever will


@dataclass(frozen=True)
class Estimate:
    """What a run takes. Bytes and floating-point operations.

    tokens: of a latent frame. call, decode: operations of one model call with all its branches of guidance, and of
    decoding the whole. weights: by part. calls_peak, vae_peak: beside the weights while the network is at work, and
    while the vae is; they hold all that lives through a run. memory: keys and values of remembered frames, text: of
    prompts. block: weights of the largest block.
    """

    cost: Cost
    frames: int
    tokens: int
    call: float
    total: float
    decode: float
    weights: dict[str, int]
    block: int
    outside: int
    calls_peak: int
    vae_peak: int
    memory: int
    text: int

    @property
    def peak(self) -> int:
        """Beside the loaded weights, at the worst moment."""
        return max(self.calls_peak, self.vae_peak)


@dataclass(frozen=True)
class CountedEstimate:
    """The cost of a plan that is counted from the shape of a network. two_stages: of both stages, or why there are none."""

    cost: Cost
    frames: int
    work: Work
    two_stages: TwoStageEstimate | str | None = None


@dataclass(frozen=True)
class TwoStageEstimate:
    """Steps of the first and of the second stage, and floating-point operations of both."""

    first_steps: int
    second_steps: int
    flops: float


@dataclass(frozen=True)
class PlannedVideo:
    """A strategy with the options that a checkpoint and the user chose, and the output frames of a video."""

    strategy: str
    options: Mapping[str, Any]
    frames: int

    def plan(self, **changes: Any) -> Plan:
        """Make the plan. Raises PlanError for an option that the strategy lacks."""
        return make_plan(self.strategy, **{**self.options, **changes})


def spec_of(name: str, size: tuple[int, int] | None = None) -> CheckpointSpec:
    """Describe what `--model` names, without its weights. Raises SettingsError if the family counts no costs."""
    known = None if Path(name).exists() else presets().get(name)
    toy = known is None and any(name == line.name for line in toy_families())
    location = CheckpointLocation(preset=known) if known is not None or toy else locate(name)
    line = FAMILIES[name] if toy else FAMILIES[location.preset.family] if location.preset else None
    if location.path is not None:
        line = family_of(location.path)
    if line is None or not line.has("spec"):
        raise SettingsError(
            f"the cost of {name} is not known before it is loaded: name a released checkpoint or a folder of one"
        )
    return line.get("spec")(location.path, location.preset, size)


def planned_video(
    spec: CheckpointSpec, strategy: str | None, asked: Mapping[str, Any], frames: int | None, seconds: float | None
) -> PlannedVideo:
    """Resolve a strategy, its options and a length (default: 10 seconds). Raises PlanError for no frames."""
    own = spec.defaults
    name = strategy or own.strategy
    options = default_options_for(
        name, own.strategy, own.strategy_options or own.sampling_options, own.sampling_options
    )
    known = STRATEGIES[name].options()
    options = {key: value for key, value in merge_options(options, asked).items() if key in known}
    count = frames if frames is not None else frames_of_seconds(10.0 if seconds is None else seconds, spec.format.fps)
    if count < 1:
        raise PlanError(f"--num-frames must be at least 1, not {count}")
    traits = make_plan(name, **options).traits
    if traits.single_window and frames is None and seconds is None:
        count = min(count, traits.window_frames or count)
    return PlannedVideo(name, options, count)


# ---------------------------------------------------------------- counted from the shape
def counted(spec: CheckpointSpec, video: PlannedVideo, asked: Mapping[str, Any]) -> CountedEstimate:
    """Count the work of a video from the shape of the network, in one stage and, where there are two, in both.

    A window longer than the positions of the network is counted too, so that its cost can be shown with a warning.
    """
    assert spec.work is not None
    stride = spec.temporal_compression
    window = video.options.get("window")
    most = max(spec.limits.max_latent_frames, 0 if window is None else 1 + (window - 1) // stride)
    limits = replace(spec.limits, max_latent_frames=most)
    windows = list(video.plan().windows(video.frames, stride, limits))
    work = spec.work(windows, spec.format, spec.defaults.guidance)
    stages: TwoStageEstimate | str | None = None
    if spec.two_stages is not None:
        first = merge_options({**video.options, "sigmas": ",".join(map(str, spec.two_stages.first_sigmas))}, asked)
        stages = _both(spec, list(make_plan(video.strategy, **first).windows(video.frames, stride, limits)))
    return CountedEstimate(cost(windows), video.frames, work, stages)


def _both(spec: CheckpointSpec, first: list[Window]) -> TwoStageEstimate | str:
    """Count both stages, the first at half of the height and width; a string says why the plan has no second stage."""
    assert spec.work is not None and spec.two_stages is not None
    try:
        later = [second_pass_window(window, spec.two_stages.second_sigmas) for window in first]
    except PlanError as error:
        return str(error)
    height, width = spec.format.size
    rows, columns = spec.format.size_multiple
    half = replace(
        spec.format, size=(height // 2, width // 2), tokens_per_frame=(height // 2 // rows) * (width // 2 // columns)
    )
    work = spec.work(first, half, spec.defaults.guidance).flops
    work += spec.work(later, spec.format, spec.two_stages.guidance).flops
    return TwoStageEstimate(cost(first).steps, cost(later).steps, work)


# ---------------------------------------------------------------- run on the meta device
def meta_noise(keys: Sequence[NoiseKey], shape: tuple[int, int, int]) -> Tensor:
    """Return noise that has a shape and no memory: a `Noise`."""
    channels, *size = shape
    return torch.empty(1, channels, len(keys), *size, device="meta")


def estimate(spec: CheckpointSpec, video: PlannedVideo) -> Estimate:
    """Run the first windows of a video on the meta device. Raises PlanError if the checkpoint cannot run the plan.

    Memory is that of a GPU; a CPU needs less, because there the feed-forward runs in smaller pieces.
    """
    meta = spec.meta
    assert meta is not None
    layers = min(LAYERS, meta.layers)
    model = meta.on_meta(layers)
    plan, stride = video.plan(), model.model.vae.temporal_compression
    start = torch.empty(1, 3, 1, *spec.format.size, device="meta") if spec.limits.conditioning == "concat" else None
    planned = cost(plan.windows(video.frames, stride, model.model.limits, 0 if start is None else 1))
    played = _Measured.of(model, _shortened(plan, spec), video.frames, spec, start)
    more, work = meta.layers / layers, meta.step_flops(1, words=512) / meta.step_flops(1, layers, words=512)
    branches = 1 if spec.defaults.guidance_scale == 1 else 2
    call = work * played.call if spec.limits.causal else branches * meta.step_flops(planned.widest)
    held = round((more - 1) * (played.memory + played.text))  # for the layers that were not run
    parts: dict[str, nn.Module] = {**model.parts, "network": meta.transformer()}
    blocks = [size_of(block) for block in parts["network"].blocks]  # type: ignore[union-attr]
    return Estimate(
        cost=planned,
        frames=video.frames,
        tokens=spec.format.tokens_per_frame,
        call=call,
        total=work * played.over(planned) if spec.limits.causal else call * planned.steps,
        decode=_decoding(model.model.vae, spec) * latents_of_frames(video.frames, stride),
        weights=_weights(parts, meta),
        block=max(blocks),
        outside=size_of(parts["network"]) - sum(blocks),
        calls_peak=played.calls_peak + held,
        vae_peak=played.vae_peak + held,
        memory=round(more * played.memory),
        text=round(more * played.text),
    )


def _weights(parts: Mapping[str, nn.Module], meta: MetaNetworks) -> dict[str, int]:
    """Return the bytes of every part's weights."""
    sizes = {part: size_of(net) * (meta.copies if part == "network" else 1) for part, net in parts.items()}
    return {**sizes, "text encoder": meta.text_bytes}


@dataclass
class _Measured:
    """What the first windows took: peaks in bytes, and operations of the first window, of the second, and of a step."""

    calls_peak: int = 0
    vae_peak: int = 0
    first: float = 0.0
    later: float = 0.0
    call: float = 0.0
    memory: int = 0
    text: int = 0

    @staticmethod
    def of(meta: MetaModel, plan: Plan, frames: int, spec: CheckpointSpec, start: Tensor | None) -> _Measured:
        """Run two windows and begin the third: by then everything that a run ever holds has been held."""
        found, own = _Measured(), spec.defaults
        script = Script.of([Scene("a")], spec.format.fps, frames / spec.format.fps)
        weights = [weight for net in meta.parts.values() for weight in net.parameters()]
        with torch.inference_mode(), MemoryTracker({"meta"}, weights) as tracker, FlopCounter() as work:
            rollout = build_rollout(
                meta.model, script, plan, guidance=own.guidance_scale, solver=own.solver, noise=meta_noise, inputs=RolloutInputs(start=start),
                overlapped=False,
            )  # fmt: skip
            for event in rollout.run():
                found._record(event, tracker, work)
                if isinstance(event, StepDone) and event.step == 1:
                    memory, found.text = meta.cached_bytes()
                    found.memory = max(found.memory, memory)
                if isinstance(event, StepDone) and event.index == 2:
                    break
        found.vae_peak = max(found.vae_peak, tracker.most)
        return found

    def _record(self, event: Any, tracker: MemoryTracker, work: FlopCounter) -> None:
        """Between a window's beginning and its last step the network computes, else the VAE."""
        if isinstance(event, StepDone):
            self.calls_peak = max(self.calls_peak, tracker.most)
            if event.step > 1 or event.steps == 1:
                self.call = max(self.call, work.flops)
            if event.index < 2:
                sums = "later" if event.index else "first"
                setattr(self, sums, getattr(self, sums) + work.flops)
        else:
            self.vae_peak = max(self.vae_peak, tracker.most)
        work.flops = 0
        tracker.restart()

    def over(self, planned: Cost) -> float:
        """Sum up the operations of all windows, if those after the second are like it."""
        return self.first + self.later * (planned.windows - 1)


def _shortened(plan: Plan, spec: CheckpointSpec) -> Plan:
    """Return the plan with fewer steps, where every step of a window runs all frames in view."""
    if spec.limits.causal or plan.schedule.steps <= STEPS or not plan.traits.stretches:
        return plan
    return with_schedule(plan, steps=STEPS)


def _decoding(vae: VAE, spec: CheckpointSpec) -> float:
    """Count the operations of decoding a latent frame that is not the first."""
    height, width = (side // vae.spatial_compression for side in spec.format.size)
    decoder, latent = vae.decoder(), torch.empty(1, vae.channels, 1, height, width, device="meta")
    decoder.push(latent)
    decoder.push(latent)
    with FlopCounter() as work:
        decoder.push(latent)
    return work.flops
