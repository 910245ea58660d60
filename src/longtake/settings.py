"""The settings of a run, resolved once: what run.json records and what resume and verify build the same rollout from."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longtake.script import Scene, Script

if TYPE_CHECKING:
    from longtake.engine import Rollout
    from longtake.models.base import Model
    from longtake.plans import Plan


class SettingsError(ValueError):
    """A request that this model or machine cannot meet; the message says what to do."""


@dataclass(frozen=True)
class Settings:
    """Everything that decides the frames of a run, json-able. script: as Script.facts. options: of the plan, all given."""

    model: str
    script: dict[str, Any]
    plan: str
    options: dict[str, Any]
    fps: float
    seed: int
    guidance: float
    negative: str
    solver: str

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
    ) -> Settings:
        """Fill in what the model suggests. SettingsError, ScriptError or PlanError say what cannot be done."""
        rate = model.fps if fps is None else fps
        if not (math.isfinite(rate) and rate > 0):
            raise SettingsError(f"--fps must be a positive number, not {rate}")
        if model.rates and rate not in model.rates:
            can = ", ".join(f"{r:g}" for r in model.rates)
            raise SettingsError(
                f"{model.name} makes {can} frames per second, not {rate:g}: use --fps {model.rates[0]:g}"
            )
        if guidance is not None and not math.isfinite(guidance):
            raise SettingsError(f"--guidance must be a number, not {guidance}")
        if seed < 0:
            raise SettingsError(f"--seed must be 0 or more, not {seed}")
        from longtake.plans import plan as plan_named
        from longtake.solve import SOLVERS

        if solver is not None and solver not in SOLVERS:
            raise SettingsError(f"--solver is one of {', '.join(SOLVERS)}, not {solver!r}")
        name = plan or model.plan
        own = model.options if name == model.plan else model.sampling
        return Settings(
            model=model.source or (str(model.path.resolve()) if model.path and not model.builtin else model.name),
            script=Script.of(source, rate, seconds, endless).facts(),
            plan=name,
            options=asdict(plan_named(name, **{**own, **(options or {})})),  # type: ignore[call-overload]
            fps=rate,
            seed=seed,
            guidance=model.guidance if guidance is None else guidance,
            negative=model.negative if negative is None else negative,
            solver=solver or model.solver,
        )

    def make_plan(self) -> Plan:
        """The plan. PlanError says which option it does not have."""
        from longtake.plans import plan

        return plan(self.plan, **self.options)

    def rollout(self, model: Model) -> Rollout:
        """A new rollout of these settings."""
        from longtake.engine import Rollout

        return Rollout(
            model,
            Script.from_facts(self.script),
            self.make_plan(),
            seeds=(self.seed,),
            guidance=self.guidance,
            negative=self.negative,
            solver=self.solver,
            fps=self.fps,
        )

    @property
    def frames(self) -> int | None:
        """Output frames of the whole (None: endless)."""
        return self.script["frames"]

    def facts(self) -> dict[str, Any]:
        """A flat json-able record."""
        return asdict(self)

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


def default_threads() -> int:
    """Torch threads for small models: more than four cost more than they bring."""
    return max(1, min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))
