"""Endless video from open diffusion models: LTX-Video, SkyReels-V2 and Stable Video Infinity in one engine."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from longtake.api import generate, generate_video
    from longtake.engine import Rollout
    from longtake.guidance import Guidance
    from longtake.models import load
    from longtake.pipeline_ltx import Condition, LTXVideoPipeline
    from longtake.pipelines import SkyReelsV2Pipeline
    from longtake.plan import PlanError
    from longtake.plans import PLANS
    from longtake.plans import plan as strategy
    from longtake.script import Scene, Script, ScriptError

__version__ = "0.1.0"
_HOME = {
    "Rollout": "engine",
    "generate": "api",
    "generate_video": "api",
    "load": "models",
    "PlanError": "plan",
    "PLANS": "plans",
    "strategy": "plans:plan",
    "Scene": "script",
    "Script": "script",
    "SkyReelsV2Pipeline": "pipelines",
    "LTXVideoPipeline": "pipeline_ltx",
    "Condition": "pipeline_ltx",
    "Guidance": "guidance",
    "ScriptError": "script",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import longtake` is instant."""
    if name in _HOME:
        module, _, own = _HOME[name].partition(":")
        return getattr(import_module(f"longtake.{module}"), own or name)
    raise AttributeError(f"module 'longtake' has no attribute {name!r}")
