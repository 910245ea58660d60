"""How much long videos drift: several ways of making them, on the same noise and prompts, measured clip by clip.

    python bench/drift.py --arm base=pocket --arm light=pocket,context=0.05 --seeds 8 --clips 30 -o out/drift
    python bench/drift.py --arm base=FOLDER --arm recycled=FOLDER,lora=out/recycle/lora.safetensors -o out/svi
    python bench/drift.py --arm relay=pocket,plan=relay --arm endless=pocket,plan=endless -o out/plans
    python bench/drift.py --join out/drift out/drift-more -o out/both     # videos of other prompts, measured before

An arm is NAME=MODEL and then options of its plan, `plan`, `lora` (a file, at strength 1) or `guidance`. The first arm is
the base that others are compared with, and so is every arm named by --against. A model that makes video from an image
is given the true first frame; with --brief its prompts say how the sprite moves and nothing else, so that what it looks
like is known from the frames before alone.

Writes clips.jsonl (a line per clip; a run that was stopped goes on from there), curves.svg, videos and strips of the first
prompts, and drift.md. Metrics, prompts and seeds are those of longtake.eval.drift and are fixed before anything runs.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtake import generate, media
from longtake.eval.drift import (
    METRICS,
    bootstrap,
    look,
    measured,
    paired_difference,
    paired_ratio,
    slopes,
    start_end,
    svg,
)
from longtake.eval.judge import judge
from longtake.eval.pocket import Prompt, seen, unseen_prompts
from longtake.eval.sheet import save_sheet
from longtake.models import load
from longtake.models.base import Model
from longtake.script import Scene

CLIP = 80  # frames: what a clip of 81 adds when one is shared
MOVES = "moves"  # whether the judge reads the motion that was asked for, 0 or 1: a still video drifts little
Curves = dict[str, dict[str, Tensor]]  # {arm: {metric: (videos, clips)}}


@dataclass(frozen=True)
class Arm:
    """One way of making videos."""

    name: str
    model: str
    plan: str | None = None
    lora: str | None = None
    guidance: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def read(text: str) -> Arm:
        """NAME=MODEL,key=value,... SystemExit says what is wrong."""
        name, equals, rest = text.partition("=")
        model, *pairs = rest.split(",")
        if not (name and equals and model) or any("=" not in pair for pair in pairs):
            raise SystemExit(f"an arm is NAME=MODEL,key=value,..., not {text!r}")
        told = {key: _value(value) for key, value in (pair.split("=", 1) for pair in pairs)}
        own = {key: told.pop(key) for key in ("plan", "lora", "guidance") if key in told}
        return Arm(name, model, **own, options=told)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


# ---------------------------------------------------------------- making
def clips(model: Model, arm: Arm, prompt: Prompt, count: int) -> Iterator[Tensor]:
    """The video of a prompt, clip after clip (CLIP, 3, S, S) in [0, 1], in constant memory."""
    scene = Scene(prompt.text, lora=((arm.lora, 1.0),) if arm.lora else ())
    made = generate(
        model, [scene], arm.plan, seconds=count * CLIP / model.fps, seed=prompt.seed, guidance=arm.guidance,
        image=prompt.asked(model).image, **arm.options,
    )  # fmt: skip
    waiting = torch.empty(0, 3, *model.size)
    for frames in made:
        waiting = torch.cat([waiting, frames.permute(0, 3, 1, 2).float() / 255])
        while len(waiting) >= CLIP:
            yield waiting[:CLIP]
            waiting = waiting[CLIP:]


def make(arms: Sequence[Arm], prompts: Sequence[Prompt], count: int, out: Path, kept: int, jobs: int) -> None:
    """Measure what is not yet in clips.jsonl: prompt by prompt, so that all arms are always about as far.

    The videos of the first `kept` prompts are written too. jobs: processes of one thread each.
    """
    done = {(row["arm"], row["seed"]) for row in rows(out) if row["clip"] == count - 1}
    left = [
        (arm, prompt, count, out if index < kept else None)
        for index, prompt in enumerate(prompts)
        for arm in arms
        if (arm.name, prompt.seed) not in done
    ]
    with ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        begun = {pool.submit(one, *video): video[:2] for video in left}
        for ended in as_completed(begun):
            arm, prompt = begun[ended]
            found, seconds = ended.result()
            with (out / "clips.jsonl").open("a") as file:
                about = {"arm": arm.name, "seed": prompt.seed}
                file.write("".join(json.dumps({**about, "clip": n, **row}) + "\n" for n, row in enumerate(found)))
            print(f"{arm.name}, seed {prompt.seed}: {len(found)} clips in {seconds:.0f} s", flush=True)


def one(arm: Arm, prompt: Prompt, count: int, out: Path | None) -> tuple[list[dict[str, float]], float]:
    """The measurements of one video, and the seconds that it took; it is written to `out` if that is given."""
    begun, model = time.monotonic(), opened(arm.model)
    film = Film(out, f"{prompt.seed}-{arm.name}", Fraction(model.fps)) if out else None
    return measurements(clips(model, arm, prompt, count), prompt, film), time.monotonic() - begun


opened = lru_cache(2)(load)


def measurements(video: Iterator[Tensor], prompt: Prompt, film: Film | None) -> list[dict[str, float]]:
    """The metrics of every clip of a video, and whether it moves as its prompt says."""
    first, found = None, []
    for frames in video:
        now = look(frames)
        first = first or now
        found.append({**measured(now, first), MOVES: float(judge(frames).motion == prompt.facts.motion)})
        if film is not None:
            film.add(frames)
    if film is not None:
        film.close(prompt.text)
    return found


class Film:
    """A video kept for people: as MP4, and as a strip with the middle frame of every clip."""

    def __init__(self, out: Path, name: str, fps: Fraction):
        self.out, self.name, self.fps = out, name, fps
        self.parts: list[media.Encoded] = []
        self.middles: list[Tensor] = []

    def add(self, frames: Tensor) -> None:
        """The next clip (CLIP, 3, S, S) in [0, 1]."""
        pixels = (frames.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1)
        number = len(self.parts)
        self.parts.append(media.encode(pixels, number * CLIP, self.fps, number))
        self.middles.append(frames[CLIP // 2])

    def close(self, text: str) -> None:
        """Write both files."""
        for folder in ("videos", "strips"):
            (self.out / folder).mkdir(exist_ok=True)
        media.join(self.parts[0].init, (part.media for part in self.parts), self.out / "videos" / f"{self.name}.mp4")
        strip = torch.stack(self.middles)
        save_sheet(self.out / "strips" / f"{self.name}.png", [(f"{self.name}: {text}", strip)], min(15, len(strip)), 1)


def rows(out: Path) -> Iterator[dict[str, Any]]:
    """What was measured before; a torn last line does not count."""
    path = out / "clips.jsonl"
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            yield json.loads(line)
        except ValueError:
            return


# ---------------------------------------------------------------- what it says
def curves(outs: Sequence[Path], arms: Sequence[str], count: int) -> Curves:
    """The measurements of the videos that every arm has made, in any of the folders."""
    table = {(row["arm"], row["seed"], row["clip"]): row for out in outs for row in rows(out)}
    seeds = sorted({seed for _, seed, _ in table})
    whole = [seed for seed in seeds if all((arm, seed, count - 1) in table for arm in arms)]
    if not whole:
        raise SystemExit("no video was made by every arm")
    return {
        arm: {
            name: torch.tensor([[table[arm, seed, n][name] for n in range(count)] for seed in whole])
            for name in (*METRICS, MOVES)
        }
        for arm in arms
    }


def joined(outs: Sequence[Path]) -> Curves:
    """The measurements in several folders, of the arms that the first one has, and of as many clips."""
    about = json.loads((outs[0] / "settings.json").read_text())
    return curves(outs, [arm["name"] for arm in about["arms"]], about["clips"])


def report(found: Curves, against: Sequence[str] = ()) -> str:
    """Slopes per clip, start-end contrasts, motion as told, and each arm against the first and those of `against`, with
    95 % bootstrap intervals."""
    base = next(iter(found))
    videos, count = next(iter(found[base].values())).shape
    lines = [f"{videos} videos of {count} clips of {CLIP} frames per arm; 95 % bootstrap intervals over videos.", ""]
    for title, of in (("Slope per clip", slopes), ("Last quarter less the first", start_end)):
        lines += [f"## {title}", "", "| metric | " + " | ".join(found) + " |", "|---" * (len(found) + 1) + "|"]
        for name in METRICS:
            cells = [str(bootstrap(of(arm[name]))) for arm in found.values()]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines.append("")
    shares = [str(bootstrap(100 * arm[MOVES].double().mean(1))) for arm in found.values()]
    lines += ["## Clips that move as told, in per cent", "", "| " + " | ".join(found) + " |", "|---" * len(found) + "|"]
    lines += ["| " + " | ".join(shares) + " |", ""]
    for other in dict.fromkeys((base, *against)):
        for arm in found:
            if arm not in (base, other):
                lines += compared(found, arm, other)
    return "\n".join(lines)


def compared(found: Curves, arm: str, other: str) -> list[str]:
    """An arm against another one, video by video."""
    lines = [f"## {arm} against {other}", "", "| metric | ratio of slopes | difference of slopes |", "|---|---|---|"]
    for name in METRICS:
        mine, theirs = slopes(found[arm][name]), slopes(found[other][name])
        lines.append(f"| {name} | {paired_ratio(mine, theirs)} | {paired_difference(mine, theirs)} |")
    mine, theirs = (100 * found[name][MOVES].double().mean(1) for name in (arm, other))
    return [*lines, "", f"Clips that move as told: {paired_difference(mine, theirs)} points more.", ""]


def show(found: Curves, against: Sequence[str], out: Path) -> None:
    """Print what was found, and write it with its curves, and with the strips that are in the folder."""
    (out / "curves.svg").write_text(svg(found))
    text = report(found, against)
    strips = "".join(f"![{path.stem}](strips/{path.name})\n" for path in sorted((out / "strips").glob("*.png")))
    (out / "drift.md").write_text(f"# Drift\n\n![curves](curves.svg)\n\n{text}\n{strips}")
    print(text)
    print(f"written: {out / 'curves.svg'}, {out / 'drift.md'}")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arm", action="append", default=[], type=Arm.read, help="NAME=MODEL,key=value,...")
    parser.add_argument("--join", nargs="+", type=Path, default=[], help="folders that were measured, in place of arms")
    parser.add_argument("--seeds", type=int, default=8, help="videos per arm")
    parser.add_argument("--clips", type=int, default=30, help="clips per video")
    parser.add_argument("--first", type=int, default=2 * 10**6, help="seed of the first prompt and noise")
    parser.add_argument("--brief", action="store_true", help="prompts that tell the motion alone")
    parser.add_argument("--against", action="append", default=[], help="an arm that others are compared with too")
    parser.add_argument("--videos", type=int, default=2, help="prompts whose videos are kept")
    parser.add_argument("--jobs", type=int, default=2, help="processes that make videos, of one thread each")
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.join:
        show(joined(given.join), given.against, given.out)
        return
    if not given.arm:
        raise SystemExit("there is nothing to compare: give --arm NAME=MODEL, and again for others")
    names = [arm.name for arm in given.arm]
    if len(set(names)) < len(names):
        raise SystemExit("two arms have one name")
    if strange := [name for name in given.against if name not in names]:
        raise SystemExit(f"--against {strange[0]} names no arm: there are {', '.join(names)}")
    about = {"arms": [asdict(arm) for arm in given.arm], "clips": given.clips, "first": given.first, "frames": CLIP}
    about |= {"brief": True} if given.brief else {}
    settings = given.out / "settings.json"
    if settings.exists() and json.loads(settings.read_text()) != json.loads(json.dumps(about)):
        raise SystemExit(f"{given.out} holds other arms or lengths: choose another folder")
    settings.write_text(json.dumps(about, indent=2) + "\n")
    prompts = unseen_prompts(given.seeds, given.first, seen(load(given.arm[0].model)))
    if given.brief:
        prompts = [prompt.briefly() for prompt in prompts]
    make(given.arm, prompts, given.clips, given.out, given.videos, given.jobs)
    show(curves([given.out], names, given.clips), given.against, given.out)


if __name__ == "__main__":
    main()
