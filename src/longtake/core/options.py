"""Options as frozen dataclasses: each is written once, and is a flag, a keyword argument and a record of a run by that.

The command line makes a flag of every field that `option` declares; `split` sorts the keyword arguments of a Python call
by the classes that they belong to; run.json holds the fields that differ from their defaults.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from difflib import get_close_matches
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, get_args

from longtake.core.errors import InputError, SettingsError
from longtake.core.guidance_settings import STG_MODES

if TYPE_CHECKING:
    from longtake.core.guidance_settings import Guidance
    from longtake.core.sigmas import SigmaSchedule

WHAT, LENGTH, QUALITY = "What to show", "Length and size", "Quality and speed"
STRATEGY, MEMORY, OUTPUT = "Long-video strategy", "Device and memory", "Output"
SHOTS = "Which shots to keep"
GROUPS = (WHAT, LENGTH, QUALITY, STRATEGY, MEMORY, OUTPUT, SHOTS)  # headings of the command line's help, in order


def option(
    default: Any, help: str, group: str, *, short: str | None = None, kind: str | None = None,
    choices: tuple[str, ...] = (), shown: bool = True,
) -> Any:  # fmt: skip
    """Declare a field of an options dataclass.

    help: one full sentence. group: the heading of the help that lists it. short: another, shorter name of the flag.
    kind: the type of the flag where it is not the field's own: int, float, str, bool or Path. choices: the only values.
    shown: whether the help of a command lists the flag.
    """
    about = dict(help=help, group=group, short=short, kind=kind, choices=choices, shown=shown)
    return field(default=default, metadata=about)


def declared(options: type) -> list[Field[Any]]:
    """Return the fields of an options dataclass that `option` declared."""
    return [one for one in fields(options) if "help" in one.metadata]


KINDS = {"int": "a whole number", "float": "a number", "str": "text", "bool": "True or False", "None": "None"}


def check_value(name: str, value: Any, annotation: Any, error: type[InputError] = SettingsError) -> None:
    """Raise `error` unless a value is of an option's type, such as "int | None" (as written) or int | None.

    A type other than those of `KINDS` takes any object but a number, a text, a list or a dict.
    """
    kinds = [one.strip() for one in annotation.split("|")] if isinstance(annotation, str) else _names(annotation)
    if isinstance(value, float) and not math.isfinite(value):
        raise error(f"--{name.replace('_', '-')} must be a finite number, not {value}")
    plain = value is None or isinstance(value, str | Real | list | tuple | dict)
    plain = plain or (hasattr(value, "ndim") and not {"Tensor", "Any"}.intersection(kinds))  # an array
    if any(_fits(value, kind) for kind in kinds) or (not plain and any(kind not in KINDS for kind in kinds)):
        return
    if "" not in kinds:
        wanted = " or ".join(KINDS.get(kind, f"a {kind}") for kind in kinds if kind != "None")
        raise error(f"--{name.replace('_', '-')} must be {wanted}, not {value!r}")


def check_values(options: Any, error: type[InputError] = SettingsError) -> None:
    """Raise `error` unless every declared field of an options dataclass has a value of its type; files are not checked."""
    for one in declared(type(options)):
        if one.metadata["kind"] != "Path":
            check_value(one.name, getattr(options, one.name), one.type, error)


def plain(value: Any) -> Any:
    """Return a number of NumPy or PyTorch (a scalar, or an array without dimensions) as one of Python; all else unchanged."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def _names(annotation: Any) -> list[str]:
    """Return the names of the types of a union; "" for a Literal, whose owner checks it."""
    kinds = get_args(annotation) or (annotation,)
    return ["None" if kind is type(None) else kind.__name__ if isinstance(kind, type) else "" for kind in kinds]


def _fits(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "bool"
    types: dict[str, type] = {"int": Integral, "float": Real, "str": str, "None": type(None)}
    return kind in types and isinstance(value, types[kind])


def changed(options: Any) -> dict[str, Any]:
    """Return the declared fields of an options dataclass that differ from their defaults."""
    values = {one.name: (getattr(options, one.name), one.default) for one in declared(type(options))}
    given = {name: value for name, (value, default) in values.items() if value is not None}
    return {name: value for name, value in given.items() if values[name][1] is None or value != values[name][1]}


def split(keywords: Mapping[str, Any], *classes: type) -> tuple[list[Any], dict[str, Any]]:
    """Sort keyword arguments by the options classes that declare them, under their names or short names.

    Returns one instance per class, and the keywords that belong to none. A keyword that is None counts as not given.
    SettingsError if an option is given under both of its names.
    """
    rest = {name: plain(value) for name, value in keywords.items() if value is not None}
    made = []
    for options in classes:
        own = {}
        for one in declared(options):
            for name in {one.name, one.metadata["short"]} & rest.keys():
                if one.name in own:
                    raise SettingsError(f"{one.metadata['short']} is short for {one.name}: give one of them")
                own[one.name] = rest.pop(name)
        made.append(options(**own))
    return made, rest


def check_names(keywords: Iterable[str], known: Iterable[str], owner: str) -> None:
    """Raise SettingsError for a keyword that is not known, with the name that was probably meant."""
    known = list(known)
    for name in keywords:
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(known)}."
            raise SettingsError(f"{owner} has no option {name!r}: {hint}")


@dataclass(frozen=True)
class SamplingOptions:
    """How a video is sampled, whatever it shows. None stands for the model's own value.

    A resolved instance, such as the one that run.json records, has a value in every field, except that None stands for
    the model's own size in height and width, and for "off" in fields that need no value. `published` stands for other options, which a resolved instance has.
    """

    negative_prompt: str | None = option(None, "Text prompt of what the video must not show.", WHAT)
    control_scale: float = option(1.0, "Guidance scale of the control signal; 1 turns its guidance off.", WHAT)
    image_cond_blur: float | None = option(
        None, "Blur of input frames: sigma of a 3x3 Gaussian, 0 for none (default: the model's; LTX-Video 1).", WHAT
    )  # fmt: skip
    image_cond_crf: int | None = option(
        None, "H.264 CRF that input frames go through, 0 for none (default: the model's; LTX-Video 29).", WHAT
    )  # fmt: skip
    fps: float | None = option(None, "Frames per second, for a model that can generate several rates.", LENGTH)
    height: int | None = option(None, "Height in pixels (default: the model's).", LENGTH)
    width: int | None = option(None, "Width in pixels (default: the model's).", LENGTH)
    seed: int = option(0, "Seed of the noise; equal seeds and options give equal bytes.", QUALITY)
    num_inference_steps: int | None = option(
        None, "Model calls that denoise a frame from noise to video (default: the model's).", QUALITY, short="steps"
    )
    skip_initial_inference_steps: int | None = option(
        None, "First steps to leave out with --input-video (default: those above sigma 0.95).", QUALITY
    )  # fmt: skip
    guidance_scale: float | Guidance | None = option(
        None, "Classifier-free guidance scale. 1 turns guidance off and halves the cost.", QUALITY, short="guidance",
        kind="float",
    )  # fmt: skip
    stg_mode: str | None = option(
        None, "What the perturbed branch of guidance (STG) changes (default: the model's).", QUALITY, choices=STG_MODES
    )  # fmt: skip
    solver: str | None = option(
        None,
        "Sampler: euler, unipc, unipc-skyreels, or stochastic (euler with fresh noise, for distilled models).",
        QUALITY,
    )
    sample_posterior: bool | None = option(
        None,
        "Sample the VAE's posterior of input frames, as published for LTX-Video, instead of taking its mean.",
        QUALITY,
        shown=False,
    )
    decode_context_noise: bool | None = option(
        None, "Decode clean context frames with the noise that --image-cond-noise-scale added in the last step, as published "
        "for LTX-Video.", QUALITY, shown=False,
    )  # fmt: skip
    soft_on_schedule: bool | None = option(
        None, "Start a keyframe of strength below 1 at the next sigma of the schedule, as published for LTX-Video, though its "
        "noise is of sigma 1 - strength.", QUALITY, shown=False,
    )  # fmt: skip
    published: bool | None = option(
        None,
        "Do as the model's published code where longtake differs on purpose; sets the options for it.",
        QUALITY,
    )
    shift: float | None = option(None, "Timestep shift; above 1, more of the steps run at high noise.", QUALITY)
    sigma_spacing: str | None = option(
        None, "Spacing of the sigmas: linear, skyreels, diffusers, quadratic or terminal.", QUALITY
    )
    sigmas: str | Sequence[float] | None = option(
        None,
        "Sigma before every step, such as 1,0.99,0.9,0.7, instead of steps, shift and spacing.",
        QUALITY,
        kind="str",
    )

    def __post_init__(self) -> None:
        given: Any = self.sigmas
        listed = given.tolist() if hasattr(given, "tolist") else given  # an array or a tensor
        if isinstance(listed, list | tuple):
            object.__setattr__(self, "sigmas", ",".join(str(plain(one)) for one in listed))
        check_values(self)

    def schedule(self) -> dict[str, Any]:
        """Return the fields of the sigma schedule as options of a strategy."""
        names = {"steps": "num_inference_steps", "shift": "shift", "sigma_spacing": "sigma_spacing", "sigmas": "sigmas"}
        values = {own: getattr(self, name) for own, name in names.items()}
        return {own: value for own, value in values.items() if value is not None}

    def with_schedule(self, schedule: SigmaSchedule) -> SamplingOptions:
        """Return the options with all fields of a sigma schedule."""
        return replace(
            self, num_inference_steps=schedule.steps, shift=schedule.shift, sigma_spacing=schedule.sigma_spacing,
            sigmas=schedule.sigmas,
        )  # fmt: skip

    def size(self, own: tuple[int, int]) -> tuple[int, int]:
        """Return (height, width) in pixels, with the model's `own` where one is not given."""
        return own[0] if self.height is None else self.height, own[1] if self.width is None else self.width

    @property
    def sized(self) -> bool:
        """Whether a height or a width is given."""
        return self.height is not None or self.width is not None
