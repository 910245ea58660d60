"""How well a pocket model does what it is told: unseen prompts, judged from the frames alone.

    python -m longtake.eval.pocket --prompts 60
    python -m longtake.eval.pocket --prompts 12 --windows 8
    python -m longtake.eval.pocket --prompts 60 --switch

Beside the model stand the judge's reading of true renders (what is possible at all), of the same renders after the
codec (what the codec leaves), and of the model's videos against each other's prompts (chance). With --windows the first
window of a long video is compared with the last one; with --switch one fact of the prompt changes after the first window,
and the frames that begin 63 frames (less than the new frames of one window) later are judged. Shares are given with Wilson
95 % intervals.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtake.api import generate
from longtake.eval.judge import Share, Verdict, find_sprite, judge, score
from longtake.eval.sheet import save_sheet
from longtake.models import load
from longtake.models.base import Codec, Model
from longtake.script import Scene as Story
from longtake.train.data import Source
from longtake.world import Clip, Facts, Scene, brief, caption, render, sample_facts
from longtake.world.facts import JUDGED, ROUND, TABLES

WINDOW = 97  # frames that are judged: 25 latents
SEED = 10**6  # of the prompts; training clips are numbered from 0
SWITCHED = ("colour", "scenery", "motion")  # facts that --switch changes, in turn
Known = tuple[str, ...]  # colour, shape, motion, scenery


@dataclass(frozen=True)
class Prompt:
    """What is asked, what it means, and the seed of the noise (and of the render that shows how it should look)."""

    text: str
    facts: Facts
    seed: int

    def rendered(self, frames: int = WINDOW) -> Tensor:
        """The true picture (T, 3, S, S)."""
        return render(Clip((Scene(self.facts),), self.seed), 0, frames).frames

    def briefly(self) -> Prompt:
        """The same, but its text says how the sprite moves and nothing else: a picture shows the rest."""
        return replace(self, text=brief(self.facts, random.Random(f"brief {self.seed}")))

    def asked(self, model: Model, script: str | tuple[Story, ...] = "", frames: int = WINDOW) -> Ask:
        """Its video, or one of other scenes; from the true first frame if the model brings pictures to life."""
        picture = (self.rendered(1)[0].permute(1, 2, 0) * 255).round().byte() if beside(model) else None
        return Ask(script or self.text, self.seed, frames, picture)


@dataclass(frozen=True)
class Settings:
    """How videos are made; None leaves it to the model."""

    steps: int | None = None
    shift: float | None = None
    guidance: float | None = None
    solver: str = "euler"
    context: float | None = None

    def options(self) -> dict[str, Any]:
        """Arguments of `generate`."""
        return {name: value for name, value in asdict(self).items() if value is not None}


Row = Mapping[str, Share]


# ---------------------------------------------------------------- prompts
def seen(model: Model) -> frozenset[Known]:
    """The combinations of facts that the model saw in training, from the clips its longtake.json names."""
    about = json.loads((model.path / "longtake.json").read_text()) if model.path else {}
    told = dict(about.get("clips", {}))
    count = told.pop("count", 0)
    scenes = (scene for n in range(count) for scene in Source(**told).clip(n).scenes)
    return frozenset(known(scene.facts) for scene in scenes)


def known(facts: Facts) -> Known:
    """The facts that are judged."""
    return tuple(getattr(facts, name) for name in JUDGED)


def unseen_prompts(count: int, seed: int = SEED, without: frozenset[Known] = frozenset()) -> list[Prompt]:
    """Prompts whose combination of colour, shape, motion and scenery is not in `without`."""
    rng = random.Random(f"pocket prompts {seed}")
    prompts: list[Prompt] = []
    while len(prompts) < count:
        facts = sample_facts(rng)
        if known(facts) not in without:
            prompts.append(Prompt(caption(facts, rng), facts, seed + len(prompts)))
    return prompts


# ---------------------------------------------------------------- videos
@dataclass(frozen=True)
class Ask:
    """A video to make: a text or scenes, the seed of its noise, its frames if scenes do not say, and its first picture
    (H, W, 3) in bytes."""

    script: str | tuple[Story, ...]
    seed: int
    frames: int = WINDOW
    image: Tensor | None = None

    def made(self, model: Model, settings: Settings = Settings()) -> Tensor:
        """The model's video (T, 3, S, S) in [0, 1]."""
        script = self.script if isinstance(self.script, str) else list(self.script)
        seconds = self.frames / model.fps if isinstance(script, str) else None
        parts = list(generate(model, script, seconds=seconds, seed=self.seed, image=self.image, **settings.options()))
        return torch.cat(parts).permute(0, 3, 1, 2).float() / 255


def beside(model: Model) -> bool:
    """Whether a model is told of a picture beside its input, and makes nothing without one."""
    return model.limits.context == "beside"


def make(model: Model, asked: Sequence[Ask], settings: Settings = Settings(), jobs: int = 1) -> list[Tensor]:
    """The model's videos, made by so many processes of one thread, or one by one in this one."""
    if jobs == 1 or model.path is None:
        return [ask.made(model, settings) for ask in asked]
    with ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        return list(pool.map(_made, repeat(str(model.path)), asked, repeat(settings)))


def _made(path: str, ask: Ask, settings: Settings) -> Tensor:
    return ask.made(_loaded(path), settings)


_loaded = lru_cache(1)(load)


@torch.no_grad()
def reconstruct(codec: Codec, frames: Tensor) -> Tensor:
    """Frames (T, 3, S, S) in [0, 1] after encoding and decoding."""
    decoder, latents = codec.decoder(), codec.encode((frames * 2 - 1).transpose(0, 1)[None])
    video = torch.cat([decoder.push(latents), decoder.flush()], 2)
    return (video[0].transpose(0, 1) / 2 + 0.5).clamp(0, 1)


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal to noise of two pictures in [0, 1], in dB."""
    return float(-10 * (a - b).pow(2).mean().clamp_min(1e-10).log10())


# ---------------------------------------------------------------- tables
def shuffled(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Each verdict beside another prompt than its own: what chance gives."""
    return [*verdicts[1:], *verdicts[:1]]


def obedience(
    model: Model, prompts: Sequence[Prompt], settings: Settings, jobs: int = 1
) -> tuple[dict[str, Row], list[Tensor]]:
    """Shares of true renders, reconstructions, the model, and shuffled prompts; and the model's videos."""
    facts = [prompt.facts for prompt in prompts]
    truth = [prompt.rendered() for prompt in prompts]
    videos = make(model, [prompt.asked(model) for prompt in prompts], settings, jobs)
    read = [judge(made) for made in videos]
    return {
        "true renders": score(facts, [judge(frames) for frames in truth]),
        "after the codec": score(facts, [judge(reconstruct(model.codec, frames)) for frames in truth]),
        model.name: score(facts, read),
        "other prompts": score(facts, shuffled(read)),
    }, videos


def drift(
    model: Model, prompts: Sequence[Prompt], windows: int, settings: Settings, jobs: int = 1
) -> tuple[dict[str, Row], list[Tensor], float]:
    """Shares in the first and in the last window of long videos; the videos; how well the sceneries of both agree, in dB."""
    frames = WINDOW + (windows - 1) * _new_frames(model)
    videos = make(model, [prompt.asked(model, frames=frames) for prompt in prompts], settings, jobs)
    facts = [prompt.facts for prompt in prompts]
    ends = {"window 1": [v[:WINDOW] for v in videos], f"window {windows}": [v[-WINDOW:] for v in videos]}
    likeness = [psnr(background(v[:WINDOW]), background(v[-WINDOW:])) for v in videos]
    rows = {name: score(facts, [judge(clip) for clip in clips]) for name, clips in ends.items()}
    return rows, videos, float(torch.tensor(likeness).median())


def switches(
    model: Model, prompts: Sequence[Prompt], settings: Settings, jobs: int = 1
) -> tuple[dict[str, Row], list[Tensor]]:
    """Videos whose prompt changes in one fact after the first window: shares of all facts where each of them changed."""
    later = [changed(prompt, SWITCHED[number % len(SWITCHED)]) for number, prompt in enumerate(prompts)]
    lengths = (WINDOW / model.fps, 2 * _new_frames(model) / model.fps)
    asked = [
        old.asked(model, (Story(old.text, lengths[0]), Story(new.text, lengths[1]))) for old, new in zip(prompts, later)
    ]
    videos = make(model, asked, settings, jobs)
    rows = {}
    for number, name in enumerate(SWITCHED):
        facts = [prompt.facts for prompt in later[number :: len(SWITCHED)]]
        rows[f"new {name}"] = score(facts, [judge(made[-WINDOW:]) for made in videos[number :: len(SWITCHED)]])
    return rows, videos


def changed(prompt: Prompt, fact: str) -> Prompt:
    """The prompt with another value of one fact, in other words."""
    rng = random.Random(f"pocket switch {prompt.seed}")
    values = [value for value in TABLES[fact] if value != getattr(prompt.facts, fact)]
    if prompt.facts.shape in ROUND and fact == "motion":
        values.remove("spin")
    facts = replace(prompt.facts, **{fact: rng.choice(values)})
    return Prompt(caption(facts, rng), facts, prompt.seed)


def _new_frames(model: Model) -> int:
    """Frames that every window but the first adds."""
    return WINDOW - model.options.get("overlap", 17)


def background(frames: Tensor) -> Tensor:
    """The typical picture (3, S, S) of frames without their sprite; 0.5 where it always is."""
    _, mask = find_sprite(frames)
    bare = torch.where(mask[:, None], torch.nan, frames)
    return bare.nanmedian(0).values.nan_to_num(0.5)


def described(prompt: Prompt, made: Tensor) -> str:
    """A prompt, and what of it the first window does not show."""
    read = judge(made[:WINDOW])
    wrong = [f"{n} {getattr(read, n)}" for n in JUDGED if getattr(read, n) != getattr(prompt.facts, n)]
    return f"{prompt.text}: {', '.join(wrong) or 'as asked'}"


def table(rows: Mapping[str, Row]) -> str:
    """Shares in per cent, as text."""
    head = f"{'':18}" + "".join(f"{name:>16}" for name in JUDGED)
    return "\n".join([head, *(f"{name:18}" + "".join(f"{row[f]!s:>16}" for f in JUDGED) for name, row in rows.items())])


# ---------------------------------------------------------------- command
def main(arguments: Iterable[str] | None = None) -> None:
    """Run what the command line asks for."""
    given = _parser().parse_args(None if arguments is None else list(arguments))
    torch.set_num_threads(given.threads)
    model, begun = load(given.model), time.monotonic()
    settings = Settings(given.steps, given.shift, given.guidance, given.solver, given.context)
    if given.show:
        return show(model, given.show, given.seed, settings, given.out or Path("."))
    prompts = unseen_prompts(given.prompts, given.seed, seen(model))
    if given.brief:
        prompts = [prompt.briefly() for prompt in prompts]
    likeness = None
    if given.windows > 1:
        rows, videos, likeness = drift(model, prompts, given.windows, settings, given.jobs)
    else:
        rows, videos = (switches if given.switch else obedience)(model, prompts, settings, given.jobs)
    if given.verbose:
        print(*(described(prompt, made) for prompt, made in zip(prompts, videos)), sep="\n")
    print(table(rows))
    if likeness is not None:
        print(f"the sceneries of both windows agree to {likeness:.1f} dB (median)")
    print(f"{len(prompts)} unseen prompts, {time.monotonic() - begun:.0f} s")
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        save_sheet(given.out / "sheet.png", [(p.text, v) for p, v in zip(prompts, videos)][: given.rows])
        told = {name: {fact: asdict(share) for fact, share in row.items()} for name, row in rows.items()}
        (given.out / "scores.json").write_text(json.dumps({"settings": settings.options(), **told}, indent=2) + "\n")
        print(f"written: {given.out / 'sheet.png'}, {given.out / 'scores.json'}")


def show(model: Model, texts: Sequence[str], seed: int, settings: Settings, out: Path) -> None:
    """Write a contact sheet of prompts of your own; nothing is judged."""
    out.mkdir(parents=True, exist_ok=True)
    videos = make(model, [Ask(text, seed) for text in texts], settings)
    save_sheet(out / "sheet.png", list(zip(texts, videos)))
    print(f"written: {out / 'sheet.png'}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m longtake.eval.pocket", description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=60, help="how many")
    parser.add_argument("--model", default="pocket", help="name or folder")
    parser.add_argument("--seed", type=int, default=SEED, help="of the prompts and the noise")
    parser.add_argument("--windows", type=int, default=1, help="above 1: compare the first with the last")
    parser.add_argument("--out", type=Path, help="folder for a contact sheet and the scores as JSON")
    parser.add_argument("--rows", type=int, default=24, help="of the contact sheet")
    parser.add_argument("--show", nargs="+", metavar="PROMPT", help="only make these prompts and their contact sheet")
    parser.add_argument("--steps", type=int, help="model calls per window")
    parser.add_argument("--shift", type=float, help="of the noise levels")
    parser.add_argument("--guidance", type=float, help="how strongly the prompt counts")
    parser.add_argument("--solver", default="euler", help="euler or unipc")
    parser.add_argument("--context", type=float, help="noise on the history of later windows")
    parser.add_argument("--switch", action="store_true", help="change a fact after the first window")
    parser.add_argument("--brief", action="store_true", help="prompts that tell the motion alone")
    parser.add_argument("--jobs", type=int, default=1, help="processes that make videos, of one thread each")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--verbose", action="store_true", help="a line for every prompt")
    return parser


if __name__ == "__main__":
    main()
