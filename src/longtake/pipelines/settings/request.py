"""What a user asks for, before a model is loaded. Importing it needs no torch, so the command line builds its flags of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from longtake.core.errors import PlanError, SettingsError
from longtake.core.options import (
    LENGTH,
    WHAT,
    SamplingOptions,
    changed,
    check_value,
    check_values,
    declared,
    option,
    split,
)
from longtake.core.other_names import ANSWERS, name_here, spelled
from longtake.core.registry import suggestion
from longtake.core.units import parse_pixels
from longtake.planning.script import Scene, Script
from longtake.planning.script_files import first_image
from longtake.planning.strategies.registry import STRATEGIES

if TYPE_CHECKING:
    from torch import Tensor

    from longtake.media.images import ImageInput
    from longtake.models.runtime.load_options import LoadOptions

DEFAULT_SECONDS = 10.0
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Length:
    """The length of the new video: one of three, or that of the script (a single prompt: 10 seconds)."""

    seconds: float | None = option(None, "Length of the new video (default: 10, or that of the script).", LENGTH)
    num_frames: int | None = option(None, "Length as an exact number of frames, instead of --seconds.", LENGTH)
    endless: bool = option(False, "Generate until Ctrl-C; everything generated so far can be watched.", LENGTH)

    def __post_init__(self):
        check_values(self)
        given = [f"--{name.replace('_', '-')}" for name in changed(self)]
        if len(given) > 1:
            raise SettingsError(f"{' and '.join(given)} contradict each other: give one of them")
        if self.num_frames is not None and self.num_frames < 1:
            raise SettingsError(f"--num-frames must be at least 1, not {self.num_frames}")

    def in_seconds(self, fps: float, default: float | None) -> float | None:
        """Return the length in seconds at a frame rate; None without end. default: where no length is given."""
        if self.num_frames is not None:
            return self.num_frames / fps
        return default if self.seconds is None and not self.endless else self.seconds


@dataclass(frozen=True)
class Inputs:
    """Images, a video and a control signal that the new video is conditioned on, as files or in memory.

    image: its first frame. last_image: its last one. video: frames that it continues, a file, or an array or tensor
    (T, H, W, 3) at the frame rate of the run (see `longtake.media.arrays` for its range). input_video: such frames that it
    is made from (video to video). control: a signal for its new frames, a file or rows (T, D). anchor_image: the first
    image of the whole video, where that is neither `image` nor the first frame of `video`.
    PlanError if there are both an image and a video, or two videos.
    """

    image: ImageInput | None = option(
        None, "Image to use as the first frame; it is cropped to the size of the video.", WHAT, kind="Path"
    )
    last_image: ImageInput | None = option(None, "Image to use as the last frame.", WHAT, kind="Path")
    video: Path | Tensor | None = option(None, "Video file to continue.", WHAT, kind="Path")
    input_video: Path | Tensor | None = option(
        None, "Video file to make into another video (video to video).",
        WHAT, kind="Path",
    )  # fmt: skip
    control: Path | Tensor | None = option(
        None, "Control signal: a .csv with a row per frame, or a sound file.", WHAT, kind="Path"
    )
    anchor_image: ImageInput | None = option(
        None, "First image of the whole video, for models with an anchor.", WHAT, kind="Path"
    )
    cache: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self):
        if self.image is not None and self.video is not None:
            raise PlanError("A video starts with an image or continues a video, not both: remove one of them.")
        if self.input_video is not None and self.video is not None:
            raise PlanError("A video continues another one or is made from it, not both: remove one of the two.")
        for name in ("video", "input_video", "control"):
            value = getattr(self, name)
            if isinstance(value, str):
                value = Path(value)
            elif value is not None and not isinstance(value, Path):
                value = _one_array(value)
            object.__setattr__(self, name, value)
            check_value(name, value, "Path | Tensor | None")
            if not (value is None or isinstance(value, Path) or hasattr(value, "ndim")):
                raise SettingsError(
                    f"--{name.replace('_', '-')} must be a file, frames or a list of images, not {value!r}"
                )

    def __bool__(self) -> bool:
        return self.has_frames or self.control is not None or self.input_video is not None

    @property
    def has_frames(self) -> bool:
        """Whether there is an image or a video."""
        return any(one is not None for one in (self.image, self.last_image, self.video))

    @property
    def files(self) -> dict[str, Path]:
        """The inputs that are files, by the name of their field."""
        given = {name: value for name, value in changed(self).items() if name != "anchor_image"}
        return {name: Path(value) for name, value in given.items() if isinstance(value, str | Path)}


@dataclass(frozen=True)
class Request:
    """A video that a user asks for, built alike by the command line, the Python calls and the pipelines.

    script: a prompt, scenes, the Path of a .txt or .toml file, or a Script. strategy: a name (None: the model's own) with
    strategy_options. loras: files and strengths for every scene. load: how the model was loaded (None: on
    the CPU, as it is).
    """

    script: Script | str | Path | list[Scene]
    length: Length = Length()
    inputs: Inputs = field(default_factory=Inputs)
    sampling: SamplingOptions = SamplingOptions()
    strategy: str | None = None
    strategy_options: Mapping[str, Any] = field(default_factory=dict)
    loras: Sequence[tuple[str, float]] = ()
    load: LoadOptions | None = None

    def __post_init__(self):
        check_value("strategy", self.strategy, "str | None")
        pairs = isinstance(self.loras, list | tuple) and all(isinstance(one, list | tuple) for one in self.loras)
        if not pairs or any(len(one) != 2 for one in self.loras):
            raise SettingsError(
                f"loras is a list of files with their strengths, such as [(file, 0.8)], not {self.loras!r}"
            )
        if self.inputs.image is None and self.inputs.video is None and (first := first_image(self.script)) is not None:
            object.__setattr__(self, "inputs", replace(self.inputs, image=first))

    @staticmethod
    def of(
        script: Script | str | Path | list[Scene], *, strategy: str | None = None,
        loras: Sequence[tuple[str, float]] = (), load: LoadOptions | None = None, **keywords: Any,
    ) -> Request:  # fmt: skip
        """Build a request from keyword arguments: fields of Length, Inputs and SamplingOptions, and strategy options."""
        (length, inputs, sampling), options = split(keywords, Length, Inputs, SamplingOptions)
        _check_options(options)
        return Request(script, length, inputs, sampling, strategy, options, loras, load)

    @property
    def heading(self) -> str:
        """The prompt of the first scene; the path of a script file."""
        scenes = self.script.scenes if isinstance(self.script, Script) else self.script
        return scenes[0].prompt if isinstance(scenes, list | tuple) and scenes else str(scenes)

    @property
    def seconds_by_default(self) -> float | None:
        """The length in seconds where none is given: 10 for a single prompt, else that of the script."""
        return DEFAULT_SECONDS if isinstance(self.script, str) else None


def _one_array(value: Any) -> Any:
    from longtake.media.arrays import one_array  # imports torch

    return one_array(value)


def _check_options(options: Iterable[str]) -> None:
    """Raise SettingsError for an option that neither a video nor any strategy has, with the name probably meant."""
    for name in options:
        known = {option for strategy in STRATEGIES.values() for option in strategy.options()}
        if name not in known:
            known |= {one.name for options in (Length, Inputs, SamplingOptions) for one in declared(options)}
            here = name_here(name, [option.replace("_", "-") for option in known])
            hint = f"use {here.replace('-', '_')!r}" if here else ANSWERS.get(spelled(name), "")
            hint = hint or suggestion(name, sorted(known))
            raise SettingsError(f"there is no option {name!r}: {hint}")


def size_options(size: str, options: Mapping[str, Any]) -> dict[str, int]:
    """Return height and width of the text of --size. SettingsError if `options` has one of them too."""
    if options.get("height") is not None or options.get("width") is not None:
        raise SettingsError("--size contradicts --height and --width: give one of the two forms")
    height, width = parse_pixels(size)
    return {"height": height, "width": width}


def prompt_scenes(prompt: str | Sequence[str]) -> list[Scene]:
    """Return a scene for each prompt; scenes without a length share that of the video."""
    return [Scene(text) for text in ([prompt] if isinstance(prompt, str) else prompt)]


def documented(*classes: type, without: Sequence[str] = ()) -> Callable[[F], F]:
    """Decorate a function whose **keywords are fields of options classes: its signature and docstring name them all."""

    def decorate(function: F) -> F:
        """Give a function the signature and the docstring with these keywords."""
        own = inspect.signature(function)
        known = list(own.parameters.values())
        rest = known.pop()
        assert rest.kind is inspect.Parameter.VAR_KEYWORD
        found = [one for options in classes for one in declared(options) if one.name not in without]
        names = {parameter.name for parameter in known}
        known += [
            inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=one.type)
            for one in found
            if one.name not in names
        ]
        function.__signature__ = own.replace(parameters=[*known, rest])  # type: ignore[attr-defined]
        lines = [f"        {one.name}: {one.metadata['help'].replace('--', '')}" for one in found]
        function.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\nKeywords:\n" + "\n".join(
            line.removeprefix("    ") for line in lines
        )
        return function

    return decorate
