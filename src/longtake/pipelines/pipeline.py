"""A loaded model that is called like a pipeline of diffusers: the same call for every family."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar, Unpack

import torch
from torch import Tensor

from longtake.core.errors import SettingsError
from longtake.core.options import SamplingOptions
from longtake.engine.events import Event, Frames, WindowDone
from longtake.models.model import Model
from longtake.models.registry import ModelError
from longtake.pipelines.call.batch import VideoArguments, videos_of
from longtake.pipelines.call.callbacks import Callbacks, FramesCallback, Preview, ProgressBar, StepCallback
from longtake.pipelines.call.diffusers_names import DiffusersNames
from longtake.pipelines.call.frame_store import MEMORY_BUDGET, OUTPUT_TYPES, FrameStore, OutputType, VideoFrames
from longtake.pipelines.call.given_embeddings import GivenEmbeddings, with_embeddings
from longtake.pipelines.call.keywords import VideoKeywords
from longtake.pipelines.call.loading import LoadKeywords, Source
from longtake.pipelines.call.loading_again import LoadingMethods
from longtake.pipelines.call.lora_state import LoraMethods
from longtake.pipelines.call.prompts import Prompt, Scenes, one_video, own_names, python_words
from longtake.pipelines.call.result import Video, VideoResult
from longtake.pipelines.carried.facts import carried_by_call
from longtake.pipelines.settings.request import Inputs, Length, Request, documented
from longtake.pipelines.settings.run_settings import RunSettings

P = TypeVar("P", bound="Pipeline")


class Generated(Protocol):
    """A video while it is generated."""

    def run(self) -> Iterator[Event]:
        """Generate the video and yield all events."""


@dataclass(frozen=True)
class Started:
    """A video that is ready to be generated. frames: output frames in all (None: without end).

    settings: what a run directory records (None: the call has something that none can record).
    """

    generation: Generated
    model: Model
    fps: float
    seed: int
    frames: int | None
    settings: RunSettings | None = None
    inputs: Inputs | None = None


class Pipeline(LoraMethods, LoadingMethods, DiffusersNames):
    """A loaded model. `longtake.load` makes one; call it to generate videos.

    model: the networks and what belongs to them. loras: {name: (file, strength)} used in every call. progress_bar: see
    `set_progress_bar_config`. frame_memory: bytes of frames of one video that stay in memory; frames beyond lie in a
    temporary file.
    """

    family: ClassVar[str | None] = None  # `from_pretrained` refuses checkpoints of another one
    other_names: ClassVar[Mapping[str, str]] = {}  # names of checkpoints that stand for names here

    def __init__(self, model: Model, source: Source | None = None):
        if not isinstance(model, Model):
            raise SettingsError(
                f"a pipeline is made of a model: call longtake.load(NAME), not {type(self).__name__}({model!r})"
            )
        self.model, self.source = model, source
        self.loras: dict[str, tuple[str, float]] = {}
        self.progress_bar: dict[str, Any] = {}
        self.frame_memory = MEMORY_BUDGET
        self.interrupted = False

    @classmethod
    def from_pretrained(cls: type[P], name: str | Path = "pocket", **options: Unpack[LoadKeywords]) -> P:
        """Open a checkpoint by what `longtake.load` takes. ModelError, WeightsError or HubError say what to do."""
        with python_words():
            source = Source.of(cls.other_names.get(str(name), name), options)
            if cls.family is not None and (found := source.family()) not in (None, cls.family):
                raise ModelError(f"{name} is of the family {found}, but {cls.__name__} needs one of {cls.family}")
            return cls(source.open(), source)

    # ------------------------------------------------------------ generating
    @documented(Length, Inputs, SamplingOptions)
    def __call__(
        self, prompt: Prompt | Sequence[str] | None = None, *, scenes: Scenes | None = None, strategy: str | None = None,
        loras: Any = (), generator: torch.Generator | Sequence[torch.Generator] | None = None,
        num_videos_per_prompt: int = 1, prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None, output_type: OutputType = "np",
        callback_on_step_end: StepCallback | None = None, callback_on_frames: FramesCallback | None = None,
        preview: Preview | None = None, **options: Unpack[VideoKeywords],
    ) -> VideoResult:  # fmt: skip
        """Generate videos and return them all.

        prompt: a text (10 seconds where no length is given), or several: a batch, one video each. The text may be the path
        of an existing .toml or .txt script. scenes: a timeline instead, such as [("a storm", 5), ("calm", 5)] with
        seconds; without seconds the scenes share the length evenly. strategy: a name of `longtake.STRATEGIES` (None: the
        model's own); its options are keywords too. loras: {file: strength}, or a list of files. seed: of the first video;
        video i has seed + i, or seed[i] where it is a list. generator: stands for its `initial_seed()`, since noise
        depends on the seed and the position of a frame alone; several give one seed per video. prompt_embeds,
        negative_prompt_embeds: (prompts, L, D) of `encode_prompt`, instead of texts. negative_prompt, image, last_image and
        anchor_image may be lists with one for every prompt. video: only new frames come out.
        output_type: "np", "pt" or "pil" frames as in diffusers, or "latent". callback_on_step_end: called with (pipeline,
        step, timestep, {"latents", "window", "sigmas"}), timestep the highest of the window's frames; it may return
        other latents under the same key, from which the next step continues. callback_on_frames: called with uint8 frames
        (T, H, W, 3) and the number of the first. preview: called with a strip of small images and the step, or a .png file that every step writes.
        Raises InputError, a ValueError, whose message says what to do.
        """
        if not isinstance(output_type, str) or output_type not in OUTPUT_TYPES:
            raise SettingsError(f"output_type must be one of {', '.join(OUTPUT_TYPES)}, not {output_type!r}")
        if options.get("endless") is True:
            raise SettingsError("an endless video cannot be returned as a whole: iterate over `stream`, or `record` it")
        callbacks = Callbacks(callback_on_step_end, callback_on_frames, preview)
        with python_words():
            jobs = self._jobs(
                prompt, scenes, num_videos_per_prompt, generator, strategy=strategy, loras=loras,
                prompt_embeds=prompt_embeds, negative_prompt_embeds=negative_prompt_embeds, **options,
            )  # fmt: skip
        self.interrupted = False
        videos: list[Video] = []
        for job in jobs:
            if not self.interrupted:
                videos.append(self._collected(job(), callbacks, output_type))
        return VideoResult(tuple(videos), output_type)

    @documented(Length, Inputs, SamplingOptions)
    def stream(
        self, prompt: Prompt | None = None, *, scenes: Scenes | None = None, strategy: str | None = None,
        loras: Any = (), generator: torch.Generator | None = None, prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None, callback_on_step_end: StepCallback | None = None,
        preview: Preview | None = None, **options: Unpack[VideoKeywords],
    ) -> Iterator[Tensor]:  # fmt: skip
        """Generate one video of any length; return an iterator of frames, uint8 (T, H, W, 3), as they are decoded.

        Leaving the loop stops the generation. Errors come at the call. The arguments are those of the call.
        """
        events = self.events(
            prompt, scenes=scenes, strategy=strategy, loras=loras, generator=generator, prompt_embeds=prompt_embeds,
            negative_prompt_embeds=negative_prompt_embeds, callback_on_step_end=callback_on_step_end, preview=preview,
            **options,
        )  # fmt: skip
        return (event.frames[0] for event in events if isinstance(event, Frames))

    @documented(Length, Inputs, SamplingOptions)
    def events(
        self, prompt: Prompt | None = None, *, scenes: Scenes | None = None, strategy: str | None = None,
        loras: Any = (), generator: torch.Generator | None = None, prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None, callback_on_step_end: StepCallback | None = None,
        preview: Preview | None = None, **options: Unpack[VideoKeywords],
    ) -> Iterator[Event]:  # fmt: skip
        """Generate one video and return an iterator of its events: WindowStarted, StepDone, Frames, WindowDone, SceneChanged.

        The arguments are those of the call.
        """
        callbacks = Callbacks(callback_on_step_end, None, preview)
        with python_words():
            job = one_video("a stream", self._jobs(
                prompt, scenes, 1, generator, strategy=strategy, loras=loras, prompt_embeds=prompt_embeds,
                negative_prompt_embeds=negative_prompt_embeds, **options,
            ))  # fmt: skip
            started = job()
        self.interrupted = False
        return callbacks.followed(started.generation.run(), self, started.model)

    def interrupt(self) -> None:
        """End the running call after the current step; it returns what was generated so far. From any thread or callback."""
        self.interrupted = True

    def encode_prompt(self, prompt: str | Sequence[str]) -> Tensor:
        """Encode a prompt, or a list of them: (prompts, L, D), for `prompt_embeds` or `negative_prompt_embeds`."""
        texts = [prompt] if isinstance(prompt, str) else prompt
        if not (isinstance(texts, list | tuple) and texts and all(isinstance(one, str) for one in texts)):
            raise SettingsError(f"encode_prompt takes a text, or a list of texts, not {prompt!r}")
        with torch.no_grad():
            return torch.cat([self.model.text_encoder.encode([one]).clone() for one in texts])

    @property
    def device(self) -> str:
        """The device of the model, such as "cpu" or "cuda:0"."""
        return self.model.device

    @property
    def _interrupt(self) -> bool:
        """The name that diffusers has for `interrupted`; `pipe._interrupt = True` ends a call like `interrupt`."""
        return self.interrupted

    @_interrupt.setter
    def _interrupt(self, value: bool) -> None:
        self.interrupted = bool(value)

    def set_progress_bar_config(self, **config: Any) -> None:
        """Configure the progress bar of the next calls: disable (bool) and desc (text).

        Without disable it is shown where standard error is a terminal.
        """
        self.progress_bar = config

    def __repr__(self) -> str:
        height, width = self.model.size
        return f"{type(self).__name__}({self.model.name!r}, {width}x{height} at {self.model.fps:g} fps, {self.model.device})"

    # ------------------------------------------------------------ one video
    def start(self, script: Any, *, strategy: str | None = None, loras: Any = (), **options: Any) -> Started:
        """Resolve the arguments of one video; nothing is generated yet. Families override it where they take more."""
        load = None if self.source is None else self.source.options
        request = Request.of(script, strategy=strategy, loras=self.all_loras(loras), load=load, **own_names(options))
        return self.start_request(request)

    def start_request(self, request: Request) -> Started:
        """Resolve a request; nothing is generated yet."""
        if not isinstance(request, Request):
            raise SettingsError(f"start_request takes a longtake.Request, not {request!r}")
        model, settings = self.model, RunSettings.resolve(self.model, request)
        rollout = settings.new_rollout(model, request.inputs)
        frames = None if settings.frames is None else settings.frames - settings.before
        return Started(
            rollout, settings.video_model(model), settings.fps, settings.seed, frames, settings, request.inputs
        )

    def _with_model(self: P, model: Model) -> P:
        """Return a pipeline like this one with another model."""
        if model is self.model:
            return self
        other = type(self)(model, self.source)
        other.loras = self.loras
        return other

    def _jobs(
        self, prompt: Any, scenes: Any, per_prompt: Any, generator: Any, **arguments: Any
    ) -> list[Callable[[], Started]]:
        """Return what starts each video; the first is resolved already, so that errors come at the call."""

        def job(video: VideoArguments) -> Callable[[], Started]:
            model = with_embeddings(self.model, video.prompt_embeds, video.negative_prompt_embeds)
            return lambda: self._with_model(model).start(video.script, seed=video.seed, **video.options)

        jobs = [job(video) for video in videos_of(prompt, scenes, per_prompt, generator, **arguments)]
        first = jobs[0]()
        return [lambda: first, *jobs[1:]]

    def _collected(self, started: Started, callbacks: Callbacks, output_type: OutputType) -> Video:
        height, width = started.model.size
        store, latents = FrameStore(height, width, self.frame_memory), []
        if started.frames is not None:
            store.check_room(started.frames)
        events = callbacks.followed(started.generation.run(), self, started.model)
        for event in ProgressBar(self.progress_bar, started.frames).shown(events):
            if isinstance(event, Frames):
                store.append(event.frames[0])
            elif isinstance(event, WindowDone) and event.latents is not None:
                latents.append(event.latents[0].cpu())
        frames = VideoFrames(store, output_type if output_type != "latent" else "np")
        settings, carried = started.settings, None
        if settings is not None and not isinstance(started.model.text_encoder, GivenEmbeddings):
            carried = carried_by_call(settings, started.model, started.inputs, len(frames))
        return Video(
            frames, torch.cat(latents, 1) if latents else None, started.fps, started.seed, settings, self.interrupted,
            carried,
        )  # fmt: skip


def load(name: str | Path = "pocket", **options: Unpack[LoadKeywords]) -> Pipeline:
    """Load a model; the pipeline that is returned generates videos with it.

    name: a built-in or toy model ("pocket" is in the package); a folder or file of weights; PRESET=PATH, where the files
    alone do not say which checkpoint they are; a preset, or an id of the hub (Org/Name), fetched at `revision` unless
    `offline`. device: auto (a GPU if there is one), cpu, cuda or cuda:N. dtype: "fp32", "bf16", "fp16" or a torch dtype.
    The others are fields of `LoadOptions`. Raises ModelError, WeightsError, HubError, LoadOptionsError, AttentionError,
    CompileError or StepCacheError, all of them ValueError.
    """
    return Pipeline.from_pretrained(name, **options)


def defaults_for(model: Pipeline | Model | str | Path, strategy: str | None = None) -> dict[str, Any]:
    """Return the keyword arguments that a call with this model and strategy uses where none are given."""
    own = model_of(model)
    settings = RunSettings.of(own, "defaults", strategy=strategy, seconds=1.0)
    height, width = settings.sampling.size(own.size)
    sampling = {**vars(settings.sampling), "height": height, "width": width}
    return {"strategy": settings.strategy, **sampling, **settings.strategy_options}


def model_of(model: Pipeline | Model | str | Path) -> Model:
    """Return the model of a pipeline, or load one by name."""
    if isinstance(model, Pipeline):
        return model.model
    return model if isinstance(model, Model) else load(model).model
