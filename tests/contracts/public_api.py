"""Every public name, used as a caller would; `test_public_types.py` has mypy check it strictly. It is never run."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import longtake
from longtake import (
    Condition,
    Frames,
    Guidance,
    InputError,
    Inputs,
    InputWarning,
    Length,
    LoadOptions,
    LongtakeError,
    LTXVideoPipeline,
    MediaError,
    Pipeline,
    PlanError,
    PublishedVideo,
    Request,
    Rollout,
    RolloutInputs,
    Run,
    RunError,
    RunFinished,
    RunOpened,
    RunSettings,
    SamplingOptions,
    Scene,
    SceneChanged,
    Script,
    ScriptError,
    SegmentWritten,
    SettingsError,
    SkyReelsV2Pipeline,
    SnapshotSaved,
    StepDone,
    Strategy,
    Video,
    VideoFrames,
    VideoResult,
    VideoSettings,
    WindowDone,
    WindowStarted,
)


def follow(pipe: Any, step: int, timestep: float, given: dict[str, Any]) -> Mapping[str, Any] | None:
    pipe.interrupt()
    return {"latents": given["latents"]} if timestep > 500 else None


def generated() -> None:
    pipe: Pipeline = longtake.load(
        "pocket", device="cpu", dtype="bf16", offload="model", attention="sdpa", compile=True
    )
    result: VideoResult = pipe(
        ["a", "b"], num_frames=25, num_inference_steps=4, guidance_scale=2.0, negative_prompt="c", height=64, width=64,
        fps=24.0, seed=[1, 2], num_videos_per_prompt=1, output_type="np", callback_on_step_end=follow, overlap=17,
        ar_step=5, loras={"style.safetensors": 0.8}, preview="preview.png", image="star.png",
    )  # fmt: skip
    video: Video = result[0]
    frames: VideoFrames = video.frames
    paths: list[Path] = result.save("x.mp4", crf=20, codec="hevc", audio="rain.wav")
    shape: tuple[int, int, int, int] = frames.shape
    defaults: dict[str, Any] = longtake.defaults_for(pipe, "async")
    pipe.to("cpu").enable_model_cpu_offload().set_progress_bar_config(disable=True)
    pipe.load_lora_weights("style.safetensors", adapter_name="style", weight=0.5)
    print(paths, shape, defaults, result.fps, result.seed, result.latents, video.settings)
    print(longtake.generate_video("star.png", "a", pipe).shape, sum(len(f) for f in longtake.generate("a", pipe)))


def again() -> None:
    found: VideoSettings = longtake.read_settings("x.mp4")
    keywords: dict[str, Any] = longtake.keywords_like("x.mp4", seed=7, image="star.png")
    files: list[str] = [one.name for one in found.needed]
    print(files, found.unknown, found.facts, found.script, longtake.load(found.model)(**keywords).fps)


def families() -> None:
    sky = SkyReelsV2Pipeline.from_pretrained("SkyworkAI/SkyReels-V2-540p", offload="blocks")
    sky("a", num_frames=250, base_num_frames=97, overlap_history=17, addnoise_condition=20, ar_step=5, steps=30)
    ltx = LTXVideoPipeline.from_pretrained("ltx-2b-0.9.5")
    ltx("a", guidance_scale=Guidance(scale=(3.0,)), height=512, width=768)
    print(Condition(image="star.png", frame=8))


def streamed(pipe: Pipeline) -> Iterator[int]:
    for event in pipe.events(scenes=[("a storm", 5.0), Scene("calm", 5.0), "night"]):
        if isinstance(event, Frames):
            yield event.first
        elif isinstance(event, StepDone | WindowStarted | WindowDone | SceneChanged):
            yield event.index
    for frames in pipe.stream(Script.of("a", 24.0, 5.0)):
        yield len(frames)


def recorded(pipe: Pipeline) -> bool:
    def show(event: object) -> None:
        if isinstance(event, RunFinished):
            published: PublishedVideo = event.published
            print(published.sha256)
        elif isinstance(event, RunOpened | SegmentWritten | SnapshotSaved):
            print(event)

    run: Run = longtake.record(pipe, "a", output="out/x", seconds=5.0, on_event=show)
    run = longtake.resume("out/x", device="cpu")
    run.replace("b", at=3.0)
    return all(check.passed for check in longtake.open_run(Path("out/x")).verify())


def registered(register: Callable[..., Any], line: Strategy) -> None:
    longtake.register_strategy("mine", line)
    for one in (
        longtake.register_family,
        longtake.register_metric,
        longtake.register_recipe,
        longtake.register_command,
    ):
        print(one is register)
    print(sorted(longtake.STRATEGIES), longtake.strategy("sliding", overlap=9))


def below(settings: RunSettings, inputs: RolloutInputs) -> list[type[Exception]]:
    request = Request("a", Length(seconds=1.0), Inputs(), SamplingOptions(seed=1), load=LoadOptions("cpu"))
    pipe = longtake.load("pocket")
    rollout: Rollout = longtake.build_rollout(
        pipe.model, Script.of("a", 24.0, 1.0), longtake.strategy("sliding"), inputs
    )
    print(request, settings.seed, rollout.state())
    warnings.simplefilter("ignore", InputWarning)
    return [LongtakeError, InputError, PlanError, ScriptError, SettingsError, MediaError, RunError]
