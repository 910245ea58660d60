"""Prompts of the pocket world that no training clip shows, and the videos that a model generates from them."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import repeat
from multiprocessing import get_context
from typing import Any

import torch
from torch import Tensor

from longtake.models import load
from longtake.models.model import Model
from longtake.pipelines.generate import generate
from longtake.planning.script import Scene as PromptScene
from longtake.pocket import Clip, Facts, Scene, brief, caption, render, sample_facts
from longtake.pocket.clips import Source
from longtake.pocket.facts import JUDGED, ROUND, TABLES

WINDOW = 97  # frames that the judge reads: 25 latents
SEED = 10**6  # first seed of prompts and noise; training clips are numbered from 0
Combination = tuple[str, ...]  # colour, shape, motion, scenery


@dataclass(frozen=True)
class Prompt:
    """A caption, the facts that it states, and the seed of the noise and of the true render."""

    text: str
    facts: Facts
    seed: int

    def rendered(self, frames: int = WINDOW) -> Tensor:
        """Return the true frames (T, 3, S, S)."""
        return render(Clip((Scene(self.facts),), self.seed), 0, frames).frames

    def briefly(self) -> Prompt:
        """Return the same prompt with a text that states the motion alone, for models that see an image of the rest."""
        return replace(self, text=brief(self.facts, random.Random(f"brief {self.seed}")))

    def changed(self, fact: str) -> Prompt:
        """Return the prompt in other words, with another value of one fact."""
        rng = random.Random(f"pocket switch {self.seed}")
        values = [value for value in TABLES[fact] if value != getattr(self.facts, fact)]
        if self.facts.shape in ROUND and fact == "motion":
            values.remove("spin")
        facts = replace(self.facts, **{fact: rng.choice(values)})
        return Prompt(caption(facts, rng), facts, self.seed)

    def request(self, model: Model, script: str | tuple[PromptScene, ...] = "", frames: int = WINDOW) -> VideoRequest:
        """Return the request for its video, or for one of other scenes. Image-to-video models get the true first frame."""
        image = (self.rendered(1)[0].permute(1, 2, 0) * 255).round().byte() if needs_image(model) else None
        return VideoRequest(script or self.text, self.seed, frames, image)


@dataclass(frozen=True)
class Sampling:
    """Sampling options of a benchmark; None keeps the model's default."""

    steps: int | None = None
    shift: float | None = None
    guidance: float | None = None
    solver: str = "euler"
    context_noise: float | None = None

    def options(self) -> dict[str, Any]:
        """Return the arguments of `generate`."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class VideoRequest:
    """A video to generate: a prompt or scenes, the seed of the noise, the number of frames (unless the scenes have
    lengths), and the first frame (H, W, 3) uint8 of an image-to-video model."""

    script: str | tuple[PromptScene, ...]
    seed: int
    frames: int = WINDOW
    image: Tensor | None = None

    def generate(self, model: Model, sampling: Sampling = Sampling()) -> Tensor:
        """Generate the video; return (T, 3, S, S) in [0, 1]."""
        script = self.script if isinstance(self.script, str) else list(self.script)
        seconds = self.frames / model.fps if isinstance(script, str) else None
        parts = list(generate(script, model, seconds=seconds, seed=self.seed, image=self.image, **sampling.options()))
        return torch.cat(parts).permute(0, 3, 1, 2).float() / 255


def combination(facts: Facts) -> Combination:
    """Return the values of the facts that the judge reads."""
    return tuple(getattr(facts, name) for name in JUDGED)


def training_combinations(model: Model) -> frozenset[Combination]:
    """Return the combinations of facts in the model's training clips, which its longtake.json names."""
    about = json.loads((model.info.path / "longtake.json").read_text(encoding="utf-8")) if model.info.path else {}
    clips = dict(about.get("clips", {}))
    count = clips.pop("count", 0)
    scenes = (scene for number in range(count) for scene in Source(**clips).clip(number).scenes)
    return frozenset(combination(scene.facts) for scene in scenes)


def unseen_prompts(count: int, seed: int = SEED, without: frozenset[Combination] = frozenset()) -> list[Prompt]:
    """Draw prompts whose combination of colour, shape, motion and scenery is not in `without`."""
    rng = random.Random(f"pocket prompts {seed}")
    prompts: list[Prompt] = []
    while len(prompts) < count:
        facts = sample_facts(rng)
        if combination(facts) not in without:
            prompts.append(Prompt(caption(facts, rng), facts, seed + len(prompts)))
    return prompts


def needs_image(model: Model) -> bool:
    """Return whether a model concatenates an image by channel and generates nothing without one."""
    return model.limits.conditioning == "concat"


def generate_all(
    model: Model, requests: Sequence[VideoRequest], sampling: Sampling = Sampling(), jobs: int = 1
) -> list[Tensor]:
    """Generate videos, one after another, or in `jobs` processes of one thread each."""
    if jobs == 1 or model.info.path is None:
        return [request.generate(model, sampling) for request in requests]
    with ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        return list(pool.map(_generated, repeat(str(model.info.path)), requests, repeat(sampling)))


def _generated(path: str, request: VideoRequest, sampling: Sampling) -> Tensor:
    return request.generate(_loaded(path), sampling)


_loaded = lru_cache(1)(load)
