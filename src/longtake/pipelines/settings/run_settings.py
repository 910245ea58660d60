"""The settings of a run, resolved once: run.json records them, and resume and verify build the same rollout from them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from longtake.core.errors import InputError, PlanError, SettingsError
from longtake.core.options import SamplingOptions, changed, check_value
from longtake.core.solvers import SOLVERS
from longtake.engine.build import build_rollout
from longtake.engine.inputs import RolloutInputs
from longtake.engine.rollout import Rollout
from longtake.models.model import Model
from longtake.models.runtime.load_options import LoadOptions
from longtake.pipelines.settings import loras as lora_files
from longtake.pipelines.settings.inputs import (
    LoadedInputs,
    check_inputs,
    is_portrait,
    load_inputs,
    source_frames,
    video_frames,
)
from longtake.pipelines.settings.request import Inputs, Request
from longtake.pipelines.settings.resolve import fps_of, plan_for, resolve_sampling, video_model, with_token_shift
from longtake.pipelines.settings.video_continuation import VideoExtension
from longtake.planning.script import Script
from longtake.planning.script_files import load_script
from longtake.planning.strategies.options import SCHEDULE_OPTIONS
from longtake.planning.strategies.registry import STRATEGIES, make_plan
from longtake.planning.video_to_video import VideoToVideoPlan, usual_skip
from longtake.planning.window import Plan


@dataclass(frozen=True)
class RunSettings:
    """Everything that decides the frames of a run.

    model: what `longtake.load` takes. script: `Script.facts`. strategy_options: the strategy's own options, all of them. sampling:
    resolved for the model. inputs: for every input file its name, that of its copy and its SHA-256, the SHA-256 of the frames that they become
    ("pixels"), and the number of frames of an input video. loras: {path: SHA-256} of the files that scenes name. load:
    `LoadOptions.facts`.
    """

    model: str
    script: dict[str, Any]
    strategy: str
    strategy_options: dict[str, Any]
    sampling: SamplingOptions
    inputs: dict[str, Any] = field(default_factory=dict)
    loras: dict[str, str] = field(default_factory=dict)
    load: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(model: Model, script: Any, **keywords: Any) -> RunSettings:
        """Resolve the request of `Request.of` for a model."""
        return RunSettings.resolve(model, Request.of(script, **keywords))

    @staticmethod
    def resolve(model: Model, request: Request) -> RunSettings:
        """Fill in the model's own values where none is requested. InputErrors say what cannot be done."""
        inputs, info = request.inputs, model.info
        check_inputs(model, inputs)
        if request.sampling.control_scale != 1 and inputs.control is None:
            raise SettingsError("--control-scale guides by a control signal: give --control too, or leave it out")
        sampling = resolve_sampling(model, request.sampling, is_portrait(inputs))
        sized = video_model(model, sampling)
        name = request.strategy or model.defaults.strategy
        options = {**request.strategy_options, **sampling.schedule()}
        plan, script = plan_for(sized, name, options), _script(request, sampling)
        if inputs.input_video is not None:
            sampling = with_skip(sampling, plan)
        loaded = load_inputs(inputs, sized, plan, sampling) if inputs else LoadedInputs()
        if "shift" not in options:
            frames = next(iter(script.shots())).frames
            plan = with_token_shift(sized, plan, frames, loaded.rollout)
        return RunSettings(
            model=info.source or (str(info.path.resolve()) if info.path and not info.builtin else model.name),
            script=script.facts(),
            strategy=name,
            strategy_options=_own_options(name, plan),
            sampling=sampling.with_schedule(plan.schedule),
            inputs=_input_facts(inputs, loaded) if inputs else {},
            loras=lora_files.hashes(script),
            load={} if request.load is None else request.load.facts(),
        )

    # ------------------------------------------------------------ what they say
    @property
    def fps(self) -> float:
        """Frames per second."""
        return fps_of(self.sampling)

    @property
    def seed(self) -> int:
        """The seed of the noise."""
        return self.sampling.seed

    @property
    def frames(self) -> int | None:
        """Output frames of the whole video, those of an input video included (None: endless)."""
        return None if self.script["frames"] is None else self.before + self.script["frames"]

    @property
    def before(self) -> int:
        """Frames of the input video that this one continues."""
        return self.inputs.get("video", {}).get("frames", 0)

    def make_plan(self) -> Plan:
        """Return the plan of the strategy with its options. PlanError if it has no such option."""
        plan = make_plan(self.strategy, **self.strategy_options, **self.sampling.schedule())
        if "input_video" not in self.inputs:
            return plan
        return VideoToVideoPlan(plan, self.sampling.skip_initial_inference_steps or 0)

    def video_model(self, model: Model) -> Model:
        """Return the model generating video of the size and at the frame rate of the run."""
        return video_model(model, self.sampling)

    # ------------------------------------------------------------ the rollout
    def rollout_inputs(self, model: Model, inputs: Inputs | None) -> RolloutInputs:
        """Load the inputs. SettingsError if they are missing, or decode to other frames than when the run started."""
        if not self.inputs:
            return RolloutInputs()
        if not inputs:
            raise SettingsError("this run has input images, a video or a control signal: give them again")
        loaded = load_inputs(inputs, self.video_model(model), self.make_plan(), self.sampling)
        if loaded.sha256 != self.inputs["pixels"]:
            raise SettingsError(
                "the input images or video decode to other frames than when this run started: use the versions of "
                "pillow and av that it started with"
            )
        return loaded.rollout

    def new_rollout(self, model: Model, inputs: Inputs | None = None) -> Rollout:
        """Return a rollout of the new frames, from the start."""
        return new_rollout(
            self.video_model(model), Script.from_facts(self.script), self.make_plan(), self.sampling,
            self.rollout_inputs(model, inputs), self.strategy,
        )  # fmt: skip

    def generation(self, model: Model, inputs: Inputs | None = None) -> Rollout | VideoExtension:
        """Return a rollout from the start; where the run continues an input video, that video's frames come first."""
        rollout = self.new_rollout(model, inputs)
        if inputs is None or not self.before:
            return rollout
        earlier_frames = partial(video_frames, inputs, self.video_model(model).size, self.fps)
        return VideoExtension(rollout, earlier_frames, self.before)

    # ------------------------------------------------------------ run.json
    def facts(self) -> dict[str, Any]:
        """Return the settings as JSON values; options at their defaults and empty groups are omitted."""
        values = {**vars(self), "sampling": changed(self.sampling)}
        return {name: value for name, value in values.items() if value != {}}

    @staticmethod
    def from_facts(facts: Mapping[str, Any]) -> RunSettings:
        """Read the settings of `facts`. SettingsError if another version wrote them, or a value cannot be."""
        try:
            settings = RunSettings(**{**facts, "sampling": SamplingOptions(**facts.get("sampling", {}))})
            settings._check()
        except (TypeError, KeyError, AttributeError, InputError) as error:
            raise SettingsError(
                f"the settings of this run are not those of this version of longtake ({error}): use the version that "
                "started it"
            ) from error
        return settings

    def _check(self) -> None:
        """Raise an error if a value is of another type than `resolve` gives it, or if no run can have it."""
        for name in ("model", "strategy"):
            check_value(name, getattr(self, name), "str")
        for name in ("script", "strategy_options", "inputs", "loras", "load"):
            if not isinstance(vars(self)[name], dict):
                raise SettingsError(f"{name} is {vars(self)[name]!r}, not a table")
        if self.sampling.fps is None or self.sampling.solver is None:
            raise SettingsError("its sampling has no fps or no solver")
        if self.sampling.solver not in SOLVERS:
            raise SettingsError(f"its solver is {self.sampling.solver!r}")
        Script.from_facts(self.script)
        LoadOptions(**self.load)
        self.make_plan()


def with_skip(sampling: SamplingOptions, plan: Plan) -> SamplingOptions:
    """Fill in the steps that video to video leaves out."""
    if sampling.skip_initial_inference_steps is not None:
        return sampling
    return replace(sampling, skip_initial_inference_steps=usual_skip(plan.schedule))


def new_rollout(
    model: Model, script: Script, plan: Plan, sampling: SamplingOptions, inputs: RolloutInputs, strategy: str = ""
) -> Rollout:
    """Return a rollout of resolved options: the only place that hands them to the engine."""
    if sampling.skip_initial_inference_steps and inputs.source is None:
        raise SettingsError(
            "--skip-initial-inference-steps is for video to video: give --input-video too, or leave it out"
        )
    if inputs.control is not None:
        inputs = replace(inputs, control=replace(inputs.control, scale=sampling.control_scale))
    return build_rollout(
        model, script, plan, inputs, seeds=(sampling.seed,), guidance=sampling.guidance_scale,
        negative_prompt=sampling.negative_prompt, solver=sampling.solver or model.defaults.solver, fps=sampling.fps,
        stg_mode=sampling.stg_mode, sample_posterior=bool(sampling.sample_posterior),
        decode_context_noise=bool(sampling.decode_context_noise), soft_on_schedule=bool(sampling.soft_on_schedule),
        strategy=strategy,
    )  # fmt: skip


def _own_options(name: str, plan: Plan) -> dict[str, Any]:
    """Return the options of a plan that a user may set, but for those of its sigma schedule."""
    return {option: getattr(plan, option) for option in STRATEGIES[name].options() if option not in SCHEDULE_OPTIONS}


def _script(request: Request, sampling: SamplingOptions) -> Script:
    fps, length = fps_of(sampling), request.length
    most, default = source_frames(request.inputs, fps), request.seconds_by_default
    if most and default is not None:
        default = most / fps
    seconds = length.in_seconds(fps, default)
    script = load_script(request.script, fps, seconds, length.endless)
    if most and (script.frames is None or script.frames > most):
        asked = "a video without end" if script.frames is None else f"{script.frames}"
        raise PlanError(f"the input video has {most} frames at {fps:g} fps, not {asked}: ask for --num-frames {most}")
    return lora_files.placed(script, request.loras)


def _input_facts(inputs: Inputs, loaded: LoadedInputs) -> dict[str, Any]:
    facts: dict[str, Any] = {"pixels": loaded.sha256}
    for kind, path in inputs.files.items():
        facts[kind] = {"name": kind + path.suffix.lower(), "file": path.name, "sha256": _sha256(path)}
    if loaded.source_frames:
        facts["input_video"] = {**facts.get("input_video", {}), "frames": loaded.source_frames}
    if loaded.before:
        facts["video"] = {**facts.get("video", {}), "frames": loaded.before}
    return facts


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
