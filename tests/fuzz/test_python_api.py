"""Every public callable with arguments of wrong kinds: it works, or it raises an error of longtake that explains itself.

The callables and their parameters are read from the public names, so a new one is tried at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import signal
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import longtake
from longtake.core.errors import LongtakeError

pytestmark = pytest.mark.long

ROOT = str(Path(longtake.__file__).parent)
WRONG: dict[str, Any] = {
    "None": None,
    "object": object(),
    "true": True,
    "zero": 0,
    "negative": -1,
    "large": 10**30,
    "fraction": 1.5,
    "nan": float("nan"),
    "infinite": float("inf"),
    "empty text": "",
    "text": "no such thing",
    "nul": "a\x00b",
    "bytes": b"abc",
    "list": [],
    "list of None": [None],
    "nested": [[["a"]]],
    "dict": {},
    "dict of None": {None: None},
    "tuple": (1, 2, 3),
    "type": int,
    "function": len,
    "path": Path("/no/such/place"),
    "folder": Path(),
    "array": np.zeros((2, 3)),
    "tensor": torch.zeros(3),
    "generator": torch.Generator(),
}
FEW = dict(num_frames=9, num_inference_steps=1)
SEQUENCE = {"count", "index", "astype"}  # which every sequence and array of Python has
FOLLOWERS = {"callback_on_step_end", "callback_on_frames", "preview", "on_event"}  # any function is accepted
SECONDS = 20  # that a call may take
ALONE = {
    "register_command",
    "register_family",
    "register_metric",
    "register_recipe",
    "register_strategy",
}  # change registries


@dataclasses.dataclass
class World:
    """What the calls are tried on. folder: may be written."""

    folder: Path
    pipe: Any
    result: Any
    run: Any


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    folder = tmp_path_factory.mktemp("python")
    pipe = longtake.load("clock")
    pipe.set_progress_bar_config(disable=True)
    return World(folder, pipe, pipe("one", **FEW), longtake.record(pipe, "one", output=folder / "run", **FEW))


def calls() -> dict[str, Callable[[World], tuple[Callable[..., Any], dict[str, Any]]]]:
    """Return every public callable with arguments that it accepts, by its name."""
    new = iter(range(10**9))
    found: dict[str, Any] = {
        "load": lambda w: (longtake.load, dict(name="clock")),
        "defaults_for": lambda w: (longtake.defaults_for, dict(model=w.pipe)),
        "strategy": lambda w: (longtake.strategy, dict(name="sliding")),
        "generate": lambda w: (longtake.generate, dict(script="one", model=w.pipe, **FEW)),
        "generate_video": lambda w: (longtake.generate_video, dict(image=None, prompt="one", model=w.pipe, **FEW)),
        "record": lambda w: (longtake.record, dict(pipe=w.pipe, prompt="one", output=w.folder / str(next(new)), **FEW)),
        "resume": lambda w: (longtake.resume, dict(folder=w.run.folder)),
        "keywords_like": lambda w: (longtake.keywords_like, dict(video=w.result.save(w.folder / "x.mp4")[0])),
        "read_settings": lambda w: (longtake.read_settings, dict(path=w.result.save(w.folder / "x.mp4")[0])),
        "open_run": lambda w: (longtake.open_run, dict(folder=w.run.folder)),
        "Pipeline()": lambda w: (longtake.Pipeline, dict(model=w.pipe.model)),
        "SkyReelsV2Pipeline()": lambda w: (longtake.SkyReelsV2Pipeline, dict(model=w.pipe.model)),
        "LTXVideoPipeline()": lambda w: (longtake.LTXVideoPipeline, dict(model=w.pipe.model)),
        "SkyReelsV2Pipeline.from_pretrained": lambda w: (
            longtake.SkyReelsV2Pipeline.from_pretrained,
            dict(name="clock"),
        ),
        "LTXVideoPipeline.from_pretrained": lambda w: (longtake.LTXVideoPipeline.from_pretrained, dict(name="clock")),
        "Condition": lambda w: (longtake.Condition, dict(image=np.zeros((8, 8, 3), np.uint8), frame=0)),
        "Guidance": lambda w: (longtake.Guidance, {}),
        "Scene": lambda w: (longtake.Scene, dict(prompt="one", seconds=1.0)),
        "Script": lambda w: (longtake.Script, dict(scenes=(longtake.Scene("one", 1.0),), fps=24.0)),
        "Script.of": lambda w: (longtake.Script.of, dict(prompt="one", fps=24.0, seconds=1.0)),
        "Length": lambda w: (longtake.Length, dict(seconds=1.0)),
        "Inputs": lambda w: (longtake.Inputs, {}),
        "SamplingOptions": lambda w: (longtake.SamplingOptions, {}),
        "LoadOptions": lambda w: (longtake.LoadOptions, {}),
        "Pipeline.__call__": lambda w: (w.pipe, dict(prompt="one", **FEW)),
    }
    for name, obj in (
        ("pipe", "pipe"),
        ("result", "result"),
        ("video", "result"),
        ("frames", "result"),
        ("run", "run"),
    ):
        kind = {"pipe": longtake.Pipeline, "result": longtake.VideoResult, "video": longtake.Video,
                "frames": longtake.VideoFrames, "run": longtake.Run}[name]  # fmt: skip
        for method, function in inspect.getmembers(kind, callable):
            if method.startswith("_") or method in SEQUENCE or inspect.isclass(function):
                continue

            def made(world: World, method: str = method, obj: str = obj, name: str = name) -> Any:
                target = getattr(world, obj)
                target = target[0] if name in ("video", "frames") else target
                return getattr(target.frames if name == "frames" else target, method), {}

            found[f"{name}.{method}"] = made
    return found


CALLS = calls()


class Late(BaseException):
    """The time is up."""


@contextlib.contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Raise Late in the block once the time is up."""

    def late(number: int, frame: Any) -> None:
        raise Late

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def problem(function: Callable[..., Any], given: dict[str, Any], own: bool) -> str:
    """Return the error of a call that is no error of longtake, with where it was raised; "" for any other end.

    own: an error of Python about the signature itself, raised before any line of longtake runs, is one for a reader.
    """
    try:
        with alarm(SECONDS):
            result = function(**given)
            if isinstance(result, Iterator):
                next(result, None)
    except Late:
        return f"took over {SECONDS} s"
    except LongtakeError as error:
        return "" if len(str(error)) > 15 else f"says only {error!s:}"
    except Exception as error:
        frames = [each for each in traceback.extract_tb(error.__traceback__) if each.filename.startswith(ROOT)]
        if own and not frames and isinstance(error, TypeError):
            return ""
        place = f"{Path(frames[-1].filename).relative_to(ROOT)}:{frames[-1].lineno}" if frames else "the signature"
        return f"{type(error).__name__}: {error} ({place})"
    return ""


@pytest.mark.parametrize("name", CALLS)
def test_wrong_arguments_are_explained(name, world, tmp_path, monkeypatch, recwarn):
    monkeypatch.chdir(tmp_path)
    function, given = CALLS[name](world)
    parameters = inspect.signature(function).parameters
    names = [each.name for each in parameters.values() if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        names += [
            "num_frames",
            "seconds",
            "seed",
            "height",
            "fps",
            "image",
            "video",
            "guidance_scale",
            "sigmas",
            "no_such",
        ]
    found = [] if not given else [problem(function, {}, own=True)]
    for parameter in names:
        for kind, value in WRONG.items():
            if parameter in FOLLOWERS and callable(value):
                continue
            function, given = CALLS[name](world)
            if why := problem(function, {**given, parameter: value}, own=True):
                found.append(f"{parameter}={kind}: {why}")
    assert not any(found), f"{name}: {len(found)}\n" + "\n".join(filter(None, found))


def test_every_public_callable_is_tried():
    tried = {name.split(".")[0].removesuffix("()") for name in CALLS} | ALONE
    plain = {
        name for name in longtake.__all__
        if inspect.isfunction(getattr(longtake, name)) or name.endswith("Pipeline")
    }  # fmt: skip
    assert plain <= tried | {"build_rollout"}, plain - tried
