"""The prompts, scenes, seeds and names of a pipeline call, as the scripts, seeds and options of its videos."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from longtake.core.errors import InputError, ScriptError, SettingsError
from longtake.core.options import check_names, check_value, plain
from longtake.planning.script import Scene, Script

Prompt = str | Path | Script | list[Scene]
Scenes = Sequence[Scene | str | tuple[str, float] | Mapping[str, Any]]
T = TypeVar("T")
FLAG = re.compile(r"--([a-z][a-z0-9-]*)")

SKYREELS_NAMES = {
    "base_num_frames": "window",
    "overlap_history": "overlap",
    "addnoise_condition": "context_noise",
}


def scripts_of(prompt: Any, scenes: Any) -> list[Any]:
    """Return the script of every video: one, or one per prompt of a batch. ScriptError if there is not one of both."""
    if (prompt is None) == (scenes is None):
        raise ScriptError("give a prompt, or scenes for a timeline" + ("" if prompt is None else ", not both"))
    if scenes is not None:
        return [scenes_of(scenes)]
    if isinstance(prompt, list | tuple) and prompt and all(isinstance(one, str | Path) for one in prompt):
        return [file_or_text(one) for one in prompt]
    if isinstance(prompt, list | tuple) and prompt and all(isinstance(one, Scene | tuple | Mapping) for one in prompt):
        return [[_scene(one) for one in prompt]]
    if isinstance(prompt, list | tuple) and prompt:
        wrong = next(one for one in prompt if not isinstance(one, str | Path))
        raise ScriptError(f"a list of prompts has texts, not {wrong!r}; a timeline is scenes=[...]")
    return [file_or_text(prompt)]


def seeds_of(seed: Any, generator: Any, videos: int) -> list[int]:
    """Return the seed of every video. SettingsError if seed and generator contradict, or a list has another length."""
    if seed is not None and generator is not None:
        raise SettingsError("seed and generator both name the noise: give one of them")
    if generator is not None:
        several = isinstance(generator, Sequence) and not isinstance(generator, str)
        found = [_seed_of_generator(one) for one in (generator if several else [generator])]
        seed = found if several else found[0]
    seed = 0 if seed is None else plain(seed)
    if isinstance(seed, int) and not isinstance(seed, bool):
        return [seed + i for i in range(videos)]
    listed = seed.tolist() if getattr(seed, "ndim", None) == 1 else seed
    whole = isinstance(listed, Sequence) and all(isinstance(plain(one), int) for one in listed)
    if not whole or isinstance(listed, str):
        raise SettingsError(f"seed must be a whole number, or a list of one per video, not {seed!r}")
    if len(listed) != videos:
        raise SettingsError(f"there are {videos} videos, but {len(listed)} seeds: give one seed, or one per video")
    return [plain(one) for one in listed]


def _seed_of_generator(generator: Any) -> int:
    if not hasattr(generator, "initial_seed"):
        raise SettingsError(f"generator must be a torch.Generator, or a list of one per video, not {generator!r}")
    return generator.initial_seed()


def one_video(what: str, videos: Sequence[T]) -> T:
    """Return the only video of a call that can make no batch. SettingsError if there are several."""
    if len(videos) != 1:
        raise SettingsError(
            f"a list of prompts is a batch, and {what} is one video: call the pipeline for a batch, or give "
            'scenes=[("a storm", 5), ...] for a timeline'
        )
    return videos[0]


@contextmanager
def python_words() -> Iterator[None]:
    """Name options in errors as keyword arguments, not as flags: num_frames, not --num-frames."""
    try:
        yield
    except InputError as error:
        error.args = tuple(in_python_words(arg) if isinstance(arg, str) else arg for arg in error.args)
        raise


def in_python_words(text: str) -> str:
    """Return a sentence with keyword arguments in place of flags."""
    return FLAG.sub(lambda flag: flag[1].replace("-", "_"), text)


def first_option(text: str) -> str | None:
    """Return the keyword argument of the first flag that a sentence names; None if it names none."""
    flag = FLAG.search(text)
    return None if flag is None else flag[1].replace("-", "_")


def scenes_of(scenes: Any) -> list[Scene]:
    """Return the scenes of a timeline: texts, pairs of a text and its seconds, tables of their fields, or `Scene`s."""
    if not isinstance(scenes, Sequence) or isinstance(scenes, str):
        raise ScriptError(f'scenes is a list, such as [("a storm", 5), ("calm", 5)], not {scenes!r}')
    return [_scene(one) for one in scenes]


def _scene(one: Any) -> Scene:
    if isinstance(one, Scene):
        return one
    if isinstance(one, str):
        return Scene(one)
    if isinstance(one, Mapping):
        check_names(one, [each.name for each in fields(Scene)], "a scene")
        return Scene(**one)
    if isinstance(one, Sequence) and len(one) == 2:
        return Scene(one[0], plain(one[1]))
    raise ScriptError(f'a scene is a text, ("a storm", 5) with its seconds, or a Scene, not {one!r}')


def file_or_text(prompt: Any) -> Any:
    """Return the Path of a script if a text is the path of one, else what was given."""
    if isinstance(prompt, str) and prompt.endswith((".toml", ".txt")) and len(prompt) < 1024 and Path(prompt).is_file():
        return Path(prompt)
    return prompt


def own_names(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options under the names of the strategies where they have names of SkyReels-V2; None is left out.

    base_num_frames is the window, overlap_history the overlap, and addnoise_condition the context noise in thousandths of
    sigma, drawn anew for every step. SettingsError if an option is given under both of its names.
    """
    given = {name: plain(value) for name, value in options.items() if value is not None}
    if "script" in given:
        raise SettingsError("script is the prompt here, which comes first: a text, scenes, a Script or the path of one")
    for published, own in SKYREELS_NAMES.items():
        if published not in given:
            continue
        if own in given:
            raise SettingsError(f"{published} is {own} here: give one of them")
        given[own] = given.pop(published)
        if own == "context_noise":
            check_value(published, given[own], "float")
            given[own] /= 1000
            given.setdefault("context_noise_mode", "resampled")
    return given
