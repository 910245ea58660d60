"""What a job asks for: the keyword arguments of a pipeline call as JSON values, checked as the command line checks them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from longtake.core.errors import ScriptError, SettingsError
from longtake.core.options import SamplingOptions, declared
from longtake.models.runtime.load_options import LoadOptions
from longtake.pipelines.call.prompts import own_names, scenes_of
from longtake.pipelines.settings.request import Inputs, Length, Request, size_options
from longtake.planning.strategies.registry import check_options

MOST_BYTES = 1 << 20  # of the JSON of a request; a longer one is a mistake
INPUT_KINDS = ("image", "last_image", "video", "input_video", "control")
SAME = (
    {"prompt", "scenes"},
    {"seconds", "num_frames", "endless"},
    {"size", "height", "width"},
    {"num_inference_steps", "steps"},
    {"guidance_scale", "guidance"},
    {"sigmas", "shift", "sigma_spacing"},
)  # names of which a new value replaces all
_FULL_NAMES = {one.metadata["short"]: one.name for one in declared(SamplingOptions) if one.metadata["short"]}


@dataclass(frozen=True)
class JobRequest:
    """A video that is asked for. scenes: instead of a prompt, each as a JSON object with the fields of `Scene`.

    loras: files and strengths for every scene. load: fields of `LoadOptions`, but for the device, which is the worker's.
    options: fields of Length and SamplingOptions, and strategy options. inputs: the name of every input file, which lies
    in the folder `inputs` of the run.
    """

    model: str = "pocket"
    prompt: str | None = None
    scenes: tuple[Mapping[str, Any], ...] | None = None
    strategy: str | None = None
    loras: tuple[tuple[str, float], ...] = ()
    load: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def of(
        *, model: str = "pocket", prompt: str | None = None, scenes: Any = None, strategy: str | None = None,
        loras: Any = (), size: str | None = None, **keywords: Any,
    ) -> JobRequest:  # fmt: skip
        """Sort keyword arguments. InputErrors say what is wrong with one that no model could use.

        Also takes the fields of `LoadOptions`, and `size` as WIDTHxHEIGHT. Input files are given to `with_inputs`.
        """
        for kind in INPUT_KINDS:
            if keywords.pop(kind, None) is not None:
                raise SettingsError(f"--{kind.replace('_', '-')} of a job is a file: give it with the inputs")
        names = {one.name for one in declared(LoadOptions)} - {"device"}
        load = {name: keywords.pop(name) for name in names & keywords.keys() if keywords[name] is not None}
        options = {_FULL_NAMES.get(name, name) if _FULL_NAMES.get(name) not in keywords else name: value
                   for name, value in own_names(keywords).items()}  # fmt: skip
        if size is not None:
            options |= size_options(size, options)
        listed = None if scenes is None else tuple(_facts(one) for one in scenes_of(scenes))
        request = JobRequest(
            model, prompt, listed, strategy, tuple((name, weight) for name, weight in loras or ()), load, options
        )
        request.check()
        return request

    def with_inputs(self, files: Mapping[str, Path]) -> JobRequest:
        """Return the request with input files, named after their kind. SettingsError for a kind that there is not."""
        for kind in files:
            if kind not in INPUT_KINDS:
                raise SettingsError(f"there is no input {kind!r}: a video has {', '.join(INPUT_KINDS)}")
        made = replace(self, inputs={kind: kind + path.suffix.lower() for kind, path in files.items()})
        made.check()
        return made

    def check(self) -> None:
        """Raise an InputError for what no model could use."""
        if not isinstance(self.model, str) or not self.model:
            raise SettingsError(f"--model must be the name of a model, not {self.model!r}")
        if self.strategy is not None and not isinstance(self.strategy, str):
            raise SettingsError(f"--strategy must be the name of a strategy, not {self.strategy!r}")
        if (self.prompt is None) == (self.scenes is None):
            raise ScriptError("give a prompt, or scenes for a timeline, not both")
        try:
            size = len(json.dumps(self.facts(), ensure_ascii=False, allow_nan=False).encode())
        except (TypeError, ValueError) as error:
            raise SettingsError(f"a job is kept as JSON, which cannot hold a value of it ({error})") from error
        if size > MOST_BYTES:
            raise SettingsError(f"the request has {size:,} bytes: at most {MOST_BYTES:,} can be queued")
        request = self.request(Path("inputs"))
        if self.strategy is not None:
            check_options(self.strategy, request.strategy_options)

    def request(self, inputs: Path) -> Request:
        """Return the request that a model resolves. inputs: the folder of the input files."""
        script: Any = self.prompt if self.scenes is None else scenes_of([dict(one) for one in self.scenes])
        if not isinstance(script, str | list):
            raise ScriptError(f"the prompt must be text, not {script!r}")
        files = {kind: inputs / name for kind, name in self.inputs.items()}
        return Request.of(
            script, strategy=self.strategy, loras=list(self.loras),
            load=self.load_options("auto"), **self.options, **files,
        )  # fmt: skip

    def load_options(self, device: str) -> LoadOptions:
        """Return how to load the model on a device."""
        return LoadOptions(device=device, **self.load)

    def merged(self, values: Mapping[str, Any]) -> JobRequest:
        """Return the request with other keyword arguments over its own; input files stay. InputErrors as in `of`.

        What is given takes the place of what says the same in another way: a prompt that of scenes, seconds that of frames.
        """
        own: dict[str, Any] = {
            "model": self.model,
            "prompt": self.prompt,
            "scenes": self.scenes,
            "strategy": self.strategy,
        }
        own |= {"loras": self.loras, **self.load, **self.options}
        given = {name: value for name, value in values.items() if value is not None}
        for group in SAME:
            if any(name in given for name in group):
                own = {name: value for name, value in own.items() if name not in group}
        other = given.get("strategy", self.strategy) != self.strategy
        if other:  # the options of the old one do not suit it
            known = {one.name for options in (Length, SamplingOptions) for one in declared(options)}
            own = {name: value for name, value in own.items() if name not in self.options or name in known}
        return replace(JobRequest.of(**{**own, **given}), inputs=self.inputs)

    def varied(self, number: int) -> JobRequest:
        """Return variation `number` of the video: the same with a seed that is higher by this number."""
        return self if not number else replace(self, options={**self.options, "seed": self.seed + number})

    @property
    def seed(self) -> int:
        """The seed of the noise."""
        return self.options.get("seed", 0)

    @property
    def text(self) -> str:
        """The prompt, or those of all scenes, one a line."""
        return self.prompt if self.prompt is not None else "\n".join(one["prompt"] for one in self.scenes or ())

    def facts(self) -> dict[str, Any]:
        """Return the request as JSON values; what is at its default is omitted."""
        return {one.name: value for one in fields(self) if (value := getattr(self, one.name)) not in (None, (), {})}

    @staticmethod
    def from_facts(facts: Mapping[str, Any]) -> JobRequest:
        """Read the request of `facts`. TypeError if it has other fields."""
        scenes, loras = facts.get("scenes"), facts.get("loras", ())
        listed = None if scenes is None else tuple(scenes)
        return JobRequest(**{**facts, "scenes": listed, "loras": tuple((name, weight) for name, weight in loras)})


def _facts(scene: Any) -> dict[str, Any]:
    """Return a scene as JSON values; what is at its default is omitted."""
    found = {"prompt": scene.prompt, "seconds": scene.seconds, "cut": scene.cut, "lora": [list(o) for o in scene.lora]}
    return {name: value for name, value in found.items() if value not in (None, False, [])}


assert {one.name for one in declared(Inputs)} == {*INPUT_KINDS, "anchor_image"}, (
    "an input of a video has no place in a job"
)
