"""The settings of a run, resolved once: what run.json records and what resume and verify build the same rollout from."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longtake import adapters
from longtake.script import Scene, Script

if TYPE_CHECKING:
    from longtake.engine import Rollout
    from longtake.given import Continued, Given, Told
    from longtake.models.base import Model
    from longtake.plans import Plan

TOLD = 17  # frames of an earlier video that a plan is told of which does not say by how many its windows overlap


class SettingsError(ValueError):
    """A request that this model or machine cannot meet; the message says what to do."""


@dataclass(frozen=True)
class Settings:
    """Everything that decides the frames of a run, json-able. script: as Script.facts. options: of the plan, all given.

    size: (height, width), where it is not the model's own. given: the names and SHA-256 of files that the video begins
    with, comes to, or goes on from, of the frames that they become, and how many there are of an earlier video. loras:
    {path: SHA-256} of those that scenes ask for. track_scale: how much a given track counts. place: where the weights lie, if not on the CPU as they are.
    """

    model: str
    script: dict[str, Any]
    plan: str
    options: dict[str, Any]
    fps: float
    seed: int
    guidance: float
    negative: str
    solver: str
    size: list[int] | None = None
    given: dict[str, Any] = field(default_factory=dict)
    loras: dict[str, str] = field(default_factory=dict)
    place: dict[str, Any] = field(default_factory=dict)
    track_scale: float = 1.0

    @staticmethod
    def resolve(
        model: Model,
        source: str | Path | Script | list[Scene],
        *,
        seconds: float | None = None,
        endless: bool = False,
        plan: str | None = None,
        options: Mapping[str, Any] | None = None,
        fps: float | None = None,
        seed: int = 0,
        guidance: float | None = None,
        negative: str | None = None,
        solver: str | None = None,
        size: tuple[int, int] | None = None,
        given: Given | None = None,
        loras: Sequence[tuple[str, float]] = (),
        place: Mapping[str, Any] | None = None,
        track_scale: float = 1.0,
    ) -> Settings:
        """Fill in what the model suggests. SettingsError, ScriptError or PlanError say what cannot be done.

        size: (height, width); by default the model's, turned if what is given is portrait and the model's is not, or
        the other way round. loras: files and strengths for all scenes. place: `Place.facts` of where the
        model was loaded.
        """
        rate = rate_of(model, fps)
        if guidance is not None and not math.isfinite(guidance):
            raise SettingsError(f"--guidance must be a number, not {guidance}")
        if seed < 0:
            raise SettingsError(f"--seed must be 0 or more, not {seed}")
        from longtake.given import able
        from longtake.models.base import paced, sized

        if given:
            able(model, given)
        name, own_size = plan or model.plan, model.size
        model = paced(sized(model, _size(model, size, given)), rate)
        strategy = plan_of(model, name, options or {})
        script = adapters.placed(Script.of(source, rate, seconds, endless), loras)
        told = _told(given, model, strategy, rate) if given else None
        if "shift" not in (options or {}):
            strategy = by_tokens(model, strategy, next(iter(script.shots())).frames, told)
        return Settings(
            model=model.source or (str(model.path.resolve()) if model.path and not model.builtin else model.name),
            script=script.facts(),
            plan=name,
            options=asdict(strategy),  # type: ignore[call-overload]
            fps=rate,
            seed=seed,
            guidance=model.guidance if guidance is None else guidance,
            negative=model.negative if negative is None else negative,
            solver=solver_of(model, solver),
            size=None if model.size == own_size else list(model.size),
            given=_facts(given, told) if given and told else {},
            loras=adapters.hashes(script),
            place=dict(place or {}),
            track_scale=track_scale,
        )

    def make_plan(self) -> Plan:
        """The plan. PlanError says which option it does not have."""
        from longtake.plans import plan

        return plan(self.plan, **self.options)

    def model_of(self, model: Model) -> Model:
        """The model, making video of the size and at the rate that were asked for."""
        from longtake.models.base import paced, sized

        return paced(model if self.size is None else sized(model, (self.size[0], self.size[1])), self.fps)

    def told(self, model: Model, given: Given | None) -> Told:
        """What the engine is told of what was given. SettingsError if that became other frames than at first."""
        from longtake.given import Told

        if not self.given:
            return Told()
        if not given:
            raise SettingsError("this run was given pictures, a video or a track: give them again")
        told = _told(given, self.model_of(model), self.make_plan(), self.fps)
        if told.sha256 != self.given["pixels"]:
            raise SettingsError(
                "the pictures or the video that this run was given become other frames here than when it began: use the "
                "versions of pillow and av that it was begun with"
            )
        return told

    def rollout(self, model: Model, given: Given | None = None) -> Rollout | Continued:
        """A new rollout of these settings, behind the frames of the video that it goes on from."""
        from longtake.given import Continued

        rollout, before = self.new_part(model, given), self.before
        return rollout if given is None or not before else Continued(rollout, given, before)

    def new_part(self, model: Model, given: Given | None = None) -> Rollout:
        """`rollout`, but without frames of an earlier video."""
        from longtake.engine import Rollout
        from longtake.track import Track

        told = self.told(model, given)
        return Rollout(
            self.model_of(model),
            Script.from_facts(self.script),
            self.make_plan(),
            seeds=(self.seed,),
            guidance=self.guidance,
            negative=self.negative,
            solver=self.solver,
            fps=self.fps,
            start=told.start,
            extend=told.extend,
            end=told.end,
            anchor=told.anchor,
            track=None if told.track is None else Track(told.track, scale=self.track_scale),
        )

    @property
    def frames(self) -> int | None:
        """Output frames of the whole, with those of an earlier video (None: endless)."""
        return None if self.script["frames"] is None else self.before + self.script["frames"]

    @property
    def before(self) -> int:
        """Frames of the video that this one goes on from."""
        return self.given.get("video", {}).get("frames", 0)

    def facts(self) -> dict[str, Any]:
        """A flat json-able record. What was not asked for is left out, as before one could."""
        unasked: dict[str, Any] = {"size": None, "given": {}, "loras": {}, "place": {}, "track_scale": 1.0}
        return {name: value for name, value in asdict(self).items() if name not in unasked or value != unasked[name]}

    @staticmethod
    def from_facts(facts: Mapping[str, Any]) -> Settings:
        """Undo `facts`. SettingsError if another version, or something else, wrote them."""
        try:
            settings = Settings(**facts)
            Script.from_facts(settings.script)
        except (TypeError, KeyError) as error:
            raise SettingsError(
                f"its settings are not those of this longtake ({error}): use the version that made it"
            ) from error
        return settings


def plan_of(model: Model, name: str, asked: Mapping[str, Any]) -> Plan:
    """The plan of that name with what is asked for, and else with what suits the model; its usual window is as long as
    the model sees at most. PlanError says what cannot be."""
    from longtake.geometry import frames_of_latents
    from longtake.plans import chosen, plan, suited

    own = suited(name, model.plan, model.options, model.sampling)
    if own.get("window"):
        own["window"] = min(own["window"], frames_of_latents(model.limits.view, model.codec.stride))
    return plan(name, **chosen(own, asked))


def by_tokens(model: Model, plan: Plan, frames: int | None, told: Told | None = None) -> Plan:
    """The plan with the shift of the tokens of its first window, where the model was published so."""
    if not model.shift_by_tokens:
        return plan
    from longtake.geometry import latents_of_frames
    from longtake.noise import token_shift

    start = told.start.shape[2] if told is not None and told.start is not None else 0
    if frames is not None and told is not None and told.extend:
        frames += start
    known = latents_of_frames(start, model.codec.stride)
    first = next(plan.windows(frames, model.codec.stride, model.limits, known))
    shown = len(first.frames) - first.role.count("guide")
    return replace(plan, shift=token_shift(shown * model.tokens))  # type: ignore[type-var]


def rate_of(model: Model, fps: float | None) -> float:
    """Frames per second: those asked for, or the model's own. SettingsError names what it can make."""
    rate = model.fps if fps is None else fps
    if not (math.isfinite(rate) and rate > 0):
        raise SettingsError(f"--fps must be a positive number, not {rate}")
    if model.rates and rate not in model.rates:
        can = ", ".join(f"{r:g}" for r in model.rates)
        raise SettingsError(f"{model.name} makes {can} frames per second, not {rate:g}: use --fps {model.rates[0]:g}")
    return rate


def solver_of(model: Model, solver: str | None) -> str:
    """The solver that was asked for, or the one that suits the model. SettingsError names those that there are."""
    from longtake.solve import SOLVERS

    if solver is not None and solver not in SOLVERS:
        raise SettingsError(f"--solver is one of {', '.join(SOLVERS)}, not {solver!r}")
    return model.solver if solver is None else solver


def _size(model: Model, asked: tuple[int, int] | None, given: Given | None) -> tuple[int, int]:
    """(height, width): as asked; else the model's, turned if the given pictures stand the other way."""
    height, width = asked or model.size
    if asked or not given or height == width:
        return height, width
    return (height, width) if given.portrait in (None, height > width) else (width, height)


def _told(given: Given, model: Model, plan: Plan, rate: float) -> Told:
    """What the engine is told: of an earlier video as many frames as its windows overlap by."""
    overlap = getattr(plan, "overlap", None)
    most = max(1, min(TOLD if overlap is None else overlap, model.codec.stride * (model.limits.view - 1)))
    return given.told(model.size, rate, most, model.codec.stride)


def _facts(given: Given, told: Told) -> dict[str, Any]:
    """The record of what was given."""
    facts: dict[str, Any] = {"pixels": told.sha256}
    for kind, path in given.files.items():
        with open(path, "rb") as file:
            facts[kind] = {
                "name": kind + path.suffix.lower(),
                "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
            }
    if told.before:
        facts["video"] = {**facts.get("video", {}), "frames": told.before}
    return facts


def default_threads() -> int:
    """Torch threads for small models: more than four cost more than they bring."""
    return max(1, min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))
