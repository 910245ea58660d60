"""Durable videos from Python: `record` one into a run directory, `resume` it after a stop or a kill, `open_run` to read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch

from longtake.core.errors import SettingsError
from longtake.core.files import path_of
from longtake.core.guidance_settings import Guidance
from longtake.core.options import SamplingOptions, check_value
from longtake.media.finished.file_kinds import Codec
from longtake.media.finished.save_video import save_video
from longtake.media.video_reader import timed_frames
from longtake.pipelines.call.batch import videos_of
from longtake.pipelines.call.callbacks import Callbacks, Preview, ProgressBar, StepCallback
from longtake.pipelines.call.keywords import VideoKeywords
from longtake.pipelines.call.prompts import Prompt, Scenes, one_video, own_names, python_words
from longtake.pipelines.pipeline import Pipeline, load
from longtake.pipelines.settings.request import Inputs, Length, documented
from longtake.runs.delivery import deliver, delivered
from longtake.runs.events import Event
from longtake.runs.files import journal, output_record
from longtake.runs.files.errors import OPENING, RunError, explained
from longtake.runs.files.folder import check_output_folder
from longtake.runs.files.manifest import manifest_of
from longtake.runs.files.output_record import FinishedFile, OutputRecord, seen_from
from longtake.runs.integrity.verify import Check, verify
from longtake.runs.prompt_stream import EditAnswer, PromptStream, SceneRow
from longtake.runs.publish import carried_by
from longtake.runs.recorder import publish_so_far
from longtake.runs.recorder import record as record_rollout
from longtake.runs.target import Target, expect_run, target_of
from longtake.runs.video_run import VideoRun, reopen

OnEvent = Callable[[Event], object]


class Run:
    """A run directory: its frames so far, its prompts, and edits of those to come. Also of a run that is in progress.

    folder: the run directory. fps: frames per second. size: (height, width).
    """

    def __init__(self, folder: Path | str):
        folder = expect_run(_path("the run directory", folder))
        self._prompts = PromptStream(folder)
        self._layout = self._prompts.layout
        self.folder = self._layout.folder
        manifest = manifest_of(self.folder)
        self.fps, self.size = float(manifest.fps), tuple(manifest.size)
        self.settings: Mapping[str, Any] = manifest.settings

    @property
    def finished(self) -> bool:
        """Whether the video is complete."""
        return journal.done_line(self._layout.journal) is not None

    @property
    def video(self) -> Path | None:
        """The path of the finished file, else of video.mp4; None before the video is complete, or published as far as it is."""
        record = output_record.load(self.folder)
        file = None if record is None or not record.written else record.finished.path(self.folder)
        return next((path for path in (file, self._layout.video) if path is not None and path.exists()), None)

    def __len__(self) -> int:
        """The number of durable output frames."""
        return self._prompts.durable_frames

    def frames(self) -> Iterator[np.ndarray]:
        """Yield the durable frames, uint8 (H, W, 3), one segment in memory at a time."""
        init = self._layout.init.read_bytes() if self._layout.init.exists() else b""
        for entry in journal.segments(self._layout.journal):
            media = self._layout.segment(entry.index).read_bytes()
            yield from (frame.numpy() for _, frame in timed_frames(init + media))

    def save(
        self, path: Path | str, *, crf: int | None = None, codec: Codec = "h264", audio: Path | str | None = None,
        metadata: bool = True, fps: float | None = None,
    ) -> Path:  # fmt: skip
        """Write the durable frames as another video file (see `Video.save`); `video` is the file as it was recorded."""
        manifest = manifest_of(self.folder)
        comment = carried_by(self._layout, manifest, len(self)) if metadata and manifest.metadata else ""
        rate = self.fps if fps is None else fps
        return save_video(path, self.frames(), rate, codec=codec, crf=crf, audio=audio, comment=comment)

    # ------------------------------------------------------------ prompts
    def scenes(self) -> list[SceneRow]:
        """Return every scene with its times in seconds, its prompt, and whether it is generated, in progress or planned."""
        return self._prompts.scenes()

    @property
    def earliest(self) -> float:
        """The first second of the video that an edit can still change."""
        return self._prompts.earliest / self.fps

    def add(self, prompt: str, *, seconds: float | None = None, cut: bool | str | None = None) -> EditAnswer:
        """Request a scene behind the last one, which makes the video longer."""
        with python_words():
            return self._prompts.add(prompt, seconds=seconds, cut=cut)

    def insert(
        self, prompt: str, *, at: float | None = None, seconds: float | None = None, cut: bool | str | None = None
    ) -> EditAnswer:
        """Request a scene from second `at` on (None: as early as possible); later scenes move back."""
        with python_words():
            return self._prompts.insert(prompt, at=at, seconds=seconds, cut=cut)

    def replace(self, prompt: str, *, at: float | None = None, cut: bool | str | None = None) -> EditAnswer:
        """Request another prompt from second `at` (None: as early as possible) to the end of the scene there."""
        with python_words():
            return self._prompts.replace(prompt, at=at, cut=cut)

    # ------------------------------------------------------------ checks
    def verify(self, *, regenerate: bool = False, segment: int | None = None) -> list[Check]:
        """Compare every hash of the run; return the checks, each with `passed` and `text`.

        regenerate: also generate one segment again (None: a random one) and compare the bytes, which loads the model.
        """
        check_value("regenerate", regenerate, "bool")
        run = reopen(self.folder) if regenerate else None
        again, now = (run.generation, run.manifest) if run else (None, None)
        return list(verify(self.folder, again, segment, now))

    def __repr__(self) -> str:
        height, width = self.size
        state = "finished" if self.finished else "not finished"
        return f"Run({str(self.folder)!r}, {len(self)} frames of {width}x{height}, {state})"


@documented(Length, Inputs, SamplingOptions)
def record(
    pipe: Pipeline | str | Path, prompt: Prompt | None = None, *, output: Path | str | None = None, scenes: Scenes | None = None,
    strategy: str | None = None, loras: Any = (),
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    callback_on_step_end: StepCallback | None = None, preview: Preview | None = None,
    on_event: OnEvent | None = None, metadata: bool = True, **options: Unpack[VideoKeywords],
) -> Run:  # fmt: skip
    """Generate one video into a new run directory and return it; a kill at any time loses nothing that was written.

    pipe: a pipeline, or what `longtake.load` takes. output: the folder, or a video file, beside which the run lies as
    NAME.run. on_event: called with every event (`Frames`, `StepDone`, `SegmentWritten`, ...). metadata: video.mp4 carries the
    settings. All else is as in
    the call of a pipeline; a callback cannot change latents here. `pipe.interrupt()` stops after the current step, and
    `resume` continues. endless=True generates until then. Raises RunError if the folder holds a run already.
    """
    if isinstance(prompt, Pipeline):
        raise SettingsError("record takes the pipeline first, then the prompt")
    if output is None:
        raise SettingsError('output is missing: name a folder for the run, such as output="out/storm"')
    _check_follower(on_event)
    check_value("metadata", metadata, "bool")
    target, pipe = target_of(_path("output", output)), _pipeline(pipe)
    callbacks = Callbacks(callback_on_step_end, None, preview, recorded=True)
    with python_words():
        if any(options.get(name) is not None for name in ("prompt_embeds", "negative_prompt_embeds")):  # type: ignore[call-overload]
            raise SettingsError(
                "a run directory records prompts, not their embeddings: give the prompt, or call the pipeline"
            )
        video = one_video("a run", videos_of(prompt, scenes, 1, generator, **options))
        started = pipe.start(video.script, strategy=strategy, loras=loras, seed=video.seed, **own_names(video.options))
        if started.settings is None or started.inputs is None:
            raise SettingsError("a call with keyframes cannot be recorded: call the pipeline, and save the result")
        if isinstance(started.settings.sampling.guidance_scale, Guidance):
            raise SettingsError("a run directory records guidance_scale as a number: give one, or call the pipeline")
    run = VideoRun(started.settings, pipe.model, started.inputs, target.folder, metadata=metadata)
    _name_file(target, video.seed)
    return _recorded(run, pipe, callbacks, on_event, fresh=True)


def resume(
    folder: Path | str, *, device: str | None = None, offload: str | None = None, allow: str | Sequence[str] = (),
    callback_on_step_end: StepCallback | None = None, preview: Preview | None = None,
    on_event: OnEvent | None = None,
) -> Run:  # fmt: skip
    """Continue a run that was stopped or killed and return it; the video gets the bytes of an uninterrupted run.

    device, offload: other ones than at the start. allow: names of settings that may differ ("all": any). The callbacks are
    those of `record`. Raises RunError with a sentence that says what to do.
    """
    callbacks = Callbacks(callback_on_step_end, None, preview, recorded=True)
    _check_follower(on_event)
    check_value("offload", offload, "str | None")
    names = (allow,) if isinstance(allow, str) else allow
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise SettingsError(f"allow is the name of a setting or a list of names, not {allow!r}")
    with python_words():
        folder = expect_run(_path("the run directory", folder))
        run = reopen(folder, None if device is None else str(device), offload)
    return _recorded(run, Pipeline(run.model), callbacks, on_event, allow=tuple(names))


def open_run(folder: Path | str) -> Run:
    """Open a run directory to read its frames and to edit its prompts, also while it is generated. Loads no model.

    Raises RunError if the folder is not a run directory.
    """
    return Run(folder)


def _path(what: str, path: Any) -> Path:
    return path_of(what, path)


def _name_file(target: Target, seed: int) -> None:
    """Note in the run directory which file its video becomes. RunError if it is there already, or if the run is."""
    check_output_folder(target.folder, fresh=True)
    if target.file is None:
        return
    if target.file.exists():
        raise RunError(f"{target.file} exists already: remove it, or choose another output")
    with explained(target.folder, OPENING):
        target.folder.mkdir(parents=True, exist_ok=True)
    finished = FinishedFile(seen_from(target.folder, target.file))
    output_record.save(target.folder, OutputRecord((), "", seed, finished))


def _check_follower(on_event: Any) -> None:
    if on_event is not None and not callable(on_event):
        raise SettingsError(f"on_event must be a function of an event, not {on_event!r}")


def _pipeline(pipe: Any) -> Pipeline:
    """Return the pipeline, or that of a model's name."""
    if isinstance(pipe, str | Path):
        return load(pipe)
    if not isinstance(pipe, Pipeline):
        raise SettingsError(f"record takes a pipeline first, which longtake.load returns, not {pipe!r}")
    return pipe


def _recorded(
    run: VideoRun, pipe: Pipeline, callbacks: Callbacks, on_event: OnEvent | None, *, fresh: bool = False,
    allow: tuple[str, ...] = (),
) -> Run:  # fmt: skip
    """Record a run until its end, or until the pipeline is interrupted; an endless one is published as far as it is."""
    pipe.interrupted = False
    events = record_rollout(
        run.generation(), run.manifest, run.folder, fresh=fresh, allow=allow, inputs=run.inputs.files
    )
    model, frames = run.settings.video_model(run.model), run.settings.frames
    with closing(
        ProgressBar(pipe.progress_bar, frames).shown(callbacks.followed(delivered(events, run.folder), pipe, model))
    ) as shown:
        for event in shown:
            if on_event is not None:
                on_event(event)
    if pipe.interrupted and frames is None and (published := publish_so_far(run.folder)) is not None:
        deliver(run.folder, published)
    return Run(run.folder)
