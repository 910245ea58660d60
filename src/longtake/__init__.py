"""Long video from open diffusion models: LTX-Video, SkyReels-V2 and Stable Video Infinity in one engine.

    pipe = longtake.load("pocket")                     # or a folder, a preset, an id of the hub
    pipe("a red ball over the sea", seconds=5).save("ball.mp4")

Generate: load, Pipeline, SkyReelsV2Pipeline, LTXVideoPipeline, Condition, Guidance, VideoResult, Video, VideoFrames,
    defaults_for; generate and generate_video are shorthands.
Timelines: Script, Scene.
Settings of a video file: read_settings, VideoSettings, keywords_like.
Durable videos: record, resume, open_run, Run.
Events: WindowStarted, StepDone, Frames, WindowDone, SceneChanged; of a run also RunOpened, SegmentWritten, SnapshotSaved,
    RunFinished with a PublishedVideo.
Strategies: STRATEGIES, Strategy, strategy, register_strategy.
Add your own: register_family, register_metric, register_recipe, register_command.
Errors: LongtakeError; InputError (a ValueError) with PlanError, ScriptError, SettingsError; MediaError; RunError.
Warnings: InputWarning; the log is logging.getLogger("longtake").
Below the pipelines: Request, Inputs, Length, SamplingOptions, LoadOptions, RunSettings, build_rollout, RolloutInputs, Rollout.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from longtake.core.version import VERSION

if TYPE_CHECKING:
    from longtake.cli.registry import register_command
    from longtake.core.errors import InputError, LongtakeError, MediaError, PlanError, ScriptError, SettingsError
    from longtake.core.guidance_settings import Guidance
    from longtake.core.options import SamplingOptions
    from longtake.core.process.notices import InputWarning
    from longtake.engine.build import build_rollout
    from longtake.engine.events import Frames, StepDone, WindowDone, WindowStarted
    from longtake.engine.inputs import RolloutInputs
    from longtake.engine.rollout import Rollout
    from longtake.metrics.registry import register_metric
    from longtake.models.registry import register_family
    from longtake.models.runtime.load_options import LoadOptions
    from longtake.pipelines.call.frame_store import VideoFrames
    from longtake.pipelines.call.result import Video, VideoResult
    from longtake.pipelines.carried.video_settings import VideoSettings, read_settings
    from longtake.pipelines.generate import generate, generate_video
    from longtake.pipelines.like import keywords_like
    from longtake.pipelines.ltx import Condition, LTXVideoPipeline
    from longtake.pipelines.pipeline import Pipeline, defaults_for, load
    from longtake.pipelines.settings.request import Inputs, Length, Request
    from longtake.pipelines.settings.run_settings import RunSettings
    from longtake.pipelines.skyreels import SkyReelsV2Pipeline
    from longtake.planning.scene_changes import SceneChanged
    from longtake.planning.script import Scene, Script
    from longtake.planning.strategies.registry import STRATEGIES, Strategy, register_strategy
    from longtake.planning.strategies.registry import make_plan as strategy
    from longtake.runs.events import PublishedVideo, RunFinished, RunOpened, SegmentWritten, SnapshotSaved
    from longtake.runs.files.errors import RunError
    from longtake.runs.python_api import Run, open_run, record, resume
    from longtake.train.recipes.registry import register_recipe

__version__ = VERSION
_HOME = {
    "Condition": "pipelines.ltx",
    "Frames": "engine.events",
    "Guidance": "core.guidance_settings",
    "InputError": "core.errors",
    "InputWarning": "core.process.notices",
    "Inputs": "pipelines.settings.request",
    "LTXVideoPipeline": "pipelines.ltx",
    "Length": "pipelines.settings.request",
    "LoadOptions": "models.runtime.load_options",
    "LongtakeError": "core.errors",
    "MediaError": "core.errors",
    "Pipeline": "pipelines.pipeline",
    "PlanError": "core.errors",
    "PublishedVideo": "runs.events",
    "Request": "pipelines.settings.request",
    "Rollout": "engine.rollout",
    "RolloutInputs": "engine.inputs",
    "Run": "runs.python_api",
    "RunError": "runs.files.errors",
    "RunFinished": "runs.events",
    "RunOpened": "runs.events",
    "RunSettings": "pipelines.settings.run_settings",
    "STRATEGIES": "planning.strategies.registry",
    "SamplingOptions": "core.options",
    "Scene": "planning.script",
    "SceneChanged": "planning.scene_changes",
    "Script": "planning.script",
    "ScriptError": "core.errors",
    "SegmentWritten": "runs.events",
    "SettingsError": "core.errors",
    "SkyReelsV2Pipeline": "pipelines.skyreels",
    "SnapshotSaved": "runs.events",
    "StepDone": "engine.events",
    "Strategy": "planning.strategies.registry",
    "Video": "pipelines.call.result",
    "VideoFrames": "pipelines.call.frame_store",
    "VideoResult": "pipelines.call.result",
    "VideoSettings": "pipelines.carried.video_settings",
    "WindowDone": "engine.events",
    "WindowStarted": "engine.events",
    "build_rollout": "engine.build",
    "defaults_for": "pipelines.pipeline",
    "generate": "pipelines.generate",
    "generate_video": "pipelines.generate",
    "keywords_like": "pipelines.like",
    "load": "pipelines.pipeline",
    "open_run": "runs.python_api",
    "read_settings": "pipelines.carried.video_settings",
    "record": "runs.python_api",
    "register_command": "cli.registry",
    "register_family": "models.registry",
    "register_metric": "metrics.registry",
    "register_recipe": "train.recipes.registry",
    "register_strategy": "planning.strategies.registry",
    "resume": "runs.python_api",
    "strategy": "planning.strategies.registry:make_plan",
}
__all__ = [
    "STRATEGIES",
    "Condition",
    "Frames",
    "Guidance",
    "InputError",
    "InputWarning",
    "Inputs",
    "LTXVideoPipeline",
    "Length",
    "LoadOptions",
    "LongtakeError",
    "MediaError",
    "Pipeline",
    "PlanError",
    "PublishedVideo",
    "Request",
    "Rollout",
    "RolloutInputs",
    "Run",
    "RunError",
    "RunFinished",
    "RunOpened",
    "RunSettings",
    "SamplingOptions",
    "Scene",
    "SceneChanged",
    "Script",
    "ScriptError",
    "SegmentWritten",
    "SettingsError",
    "SkyReelsV2Pipeline",
    "SnapshotSaved",
    "StepDone",
    "Strategy",
    "Video",
    "VideoFrames",
    "VideoResult",
    "VideoSettings",
    "WindowDone",
    "WindowStarted",
    "build_rollout",
    "defaults_for",
    "generate",
    "generate_video",
    "keywords_like",
    "load",
    "open_run",
    "read_settings",
    "record",
    "register_command",
    "register_family",
    "register_metric",
    "register_recipe",
    "register_strategy",
    "resume",
    "strategy",
]


def __dir__() -> list[str]:
    """List the public names, which are imported when they are first used."""
    return sorted({*__all__, "__version__", "__all__", "__doc__", "__name__", "__path__"})


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import longtake` is instant."""
    if name in _HOME:
        module, _, own = _HOME[name].partition(":")
        return getattr(import_module(f"longtake.{module}"), own or name)
    raise AttributeError(f"module 'longtake' has no attribute {name!r}")
