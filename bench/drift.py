"""Measure how much long videos drift: several ways to generate them, on the same prompts and noise, segment by segment.

    python bench/drift.py --arm base=pocket --arm noisy=pocket,context_noise=0.05 --seeds 8 --segments 30 -o out/drift
    python bench/drift.py --arm base=FOLDER --arm recycled=FOLDER,lora=out/recycle/lora.safetensors -o out/svi
    python bench/drift.py --arm relay=pocket,strategy=relay --arm rolling=pocket,strategy=rolling -o out/strategies
    python bench/drift.py --join out/drift out/drift-more -o out/both      # other prompts, measured before

An arm is NAME=MODEL with options of its strategy and `strategy`, `lora` (a file, at strength 1) or `guidance`. The other
arms are compared with the first one, and with every arm that --against names. An image-to-video model gets the true first
frame; with --brief its prompts state the motion alone, so that earlier frames alone show what the sprite looks like.

Writes segments.jsonl (a line per segment; a stopped run continues from there), curves.svg, videos and strips of the first
prompts, and drift.md. It prints a table of slopes and appends it to bench/results.jsonl. Metrics, prompts and seeds are
fixed before anything runs: those of longtake.metrics, longtake.pocket.metrics and longtake.eval.pocket_prompts.
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
from drift_report import FOLLOWS, FRAMES, METRICS, curves, joined, rows, show
from torch import Tensor

from longtake import generate
from longtake.eval.drift import drift, measure
from longtake.eval.pocket_prompts import Prompt, training_combinations, unseen_prompts
from longtake.media import video_io
from longtake.media.contact_sheet import save_sheet
from longtake.metrics import Segment
from longtake.models import load
from longtake.models.model import Model
from longtake.planning.script import Scene
from longtake.pocket.judge import judge


@dataclass(frozen=True)
class Arm:
    """One way to generate videos: a model, a strategy with its options, a LoRA and a guidance scale."""

    name: str
    model: str
    strategy: str | None = None
    lora: str | None = None
    guidance: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def read(text: str) -> Arm:
        """Parse NAME=MODEL,key=value,... Raises SystemExit with a sentence if it is anything else."""
        name, equals, rest = text.partition("=")
        model, *pairs = rest.split(",")
        if not (name and equals and model) or any("=" not in pair for pair in pairs):
            raise SystemExit(f"{text!r} is no arm: write NAME=MODEL,key=value,...")
        options = {key: _value(value) for key, value in (pair.split("=", 1) for pair in pairs)}
        own = {key: options.pop(key) for key in ("strategy", "lora", "guidance") if key in options}
        return Arm(name, model, **own, options=options)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


# ---------------------------------------------------------------- videos
def segments(model: Model, arm: Arm, prompt: Prompt, count: int) -> Iterator[Tensor]:
    """Generate a video segment by segment, (FRAMES, 3, S, S) in [0, 1], in constant memory."""
    scene = Scene(prompt.text, lora=((arm.lora, 1.0),) if arm.lora else ())
    parts = generate(
        [scene], model, strategy=arm.strategy, seconds=count * FRAMES / model.fps, seed=prompt.seed, guidance=arm.guidance,
        image=prompt.request(model).image, **arm.options,
    )  # fmt: skip
    waiting = torch.empty(0, 3, *model.size)
    for frames in parts:
        waiting = torch.cat([waiting, frames.permute(0, 3, 1, 2).float() / 255])
        while len(waiting) >= FRAMES:
            yield waiting[:FRAMES]
            waiting = waiting[FRAMES:]


def measure_all(arms: Sequence[Arm], prompts: Sequence[Prompt], count: int, out: Path, kept: int, jobs: int) -> None:
    """Measure the videos that segments.jsonl lacks, prompt by prompt, so that all arms advance alike.

    The videos of the first `kept` prompts are written too. jobs: processes of one thread each.
    """
    done = {(row["arm"], row["seed"]) for row in rows(out) if row["segment"] == count - 1}
    left = [
        (arm, prompt, count, out if index < kept else None)
        for index, prompt in enumerate(prompts)
        for arm in arms
        if (arm.name, prompt.seed) not in done
    ]
    with ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        running = {pool.submit(measure_one, *video): video[:2] for video in left}
        for ended in as_completed(running):
            arm, prompt = running[ended]
            found, seconds = ended.result()
            with (out / "segments.jsonl").open("a") as file:
                about = {"arm": arm.name, "seed": prompt.seed}
                file.write("".join(json.dumps({**about, "segment": n, **row}) + "\n" for n, row in enumerate(found)))
            print(f"{arm.name}, seed {prompt.seed}: {len(found)} segments in {seconds:.0f} s", flush=True)


def measure_one(arm: Arm, prompt: Prompt, count: int, out: Path | None) -> tuple[list[dict[str, float]], float]:
    """Return the measurements of one video and the seconds that it took; write the video to `out` unless it is None."""
    start, model = time.monotonic(), opened(arm.model)
    film = Film(out, f"{prompt.seed}-{arm.name}", Fraction(model.fps)) if out else None
    found = measurements(segments(model, arm, prompt, count), model.fps, prompt, film)
    return found, time.monotonic() - start


opened = lru_cache(2)(load)


def measurements(video: Iterator[Tensor], fps: float, prompt: Prompt, film: Film | None) -> list[dict[str, float]]:
    """Return the drift of every segment of a video, and whether it moves as its prompt says."""
    first, found = None, []
    for frames in video:
        now = measure(Segment.of(frames, fps), METRICS)
        first = first or now
        follows = float(judge(frames).motion == prompt.facts.motion)
        found.append({**drift(now, first, METRICS), FOLLOWS: follows})
        if film is not None:
            film.add(frames)
    if film is not None:
        film.close(prompt.text)
    return found


class Film:
    """A video kept to look at: an MP4, and a strip of the middle frame of every segment."""

    def __init__(self, out: Path, name: str, fps: Fraction):
        self.out, self.name, self.fps = out, name, fps
        self.parts: list[video_io.Encoded] = []
        self.middles: list[Tensor] = []

    def add(self, frames: Tensor) -> None:
        """Encode the next segment (FRAMES, 3, S, S) in [0, 1]."""
        pixels = (frames.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1)
        number = len(self.parts)
        self.parts.append(video_io.encode(pixels, number * FRAMES, self.fps, number))
        self.middles.append(frames[FRAMES // 2])

    def close(self, text: str) -> None:
        """Write both files."""
        for folder in ("videos", "strips"):
            (self.out / folder).mkdir(exist_ok=True)
        path = self.out / "videos" / f"{self.name}.mp4"
        video_io.join(self.parts[0].init, (part.media for part in self.parts), path)
        strip = torch.stack(self.middles)
        save_sheet(self.out / "strips" / f"{self.name}.png", [(f"{self.name}: {text}", strip)], min(15, len(strip)), 1)


# ---------------------------------------------------------------- command
def main() -> None:
    """Measure the arms of the command line and report them."""
    args = parser().parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    if args.join:
        return show(joined(args.join), args.against, args.output)
    if not args.arm:
        raise SystemExit("there is nothing to measure: give --arm NAME=MODEL, once for each arm")
    names = [arm.name for arm in args.arm]
    if len(set(names)) < len(names):
        raise SystemExit(f"two arms have the same name: {', '.join(names)}")
    if strange := [name for name in args.against if name not in names]:
        raise SystemExit(f"--against {strange[0]} names no arm: choose {', '.join(names)}")
    about = {
        "arms": [asdict(arm) for arm in args.arm],
        "segments": args.segments,
        "first": args.first,
        "frames": FRAMES,
    }
    about |= {"brief": True} if args.brief else {}
    settings = args.output / "settings.json"
    if settings.exists() and json.loads(settings.read_text()) != json.loads(json.dumps(about)):
        raise SystemExit(f"{args.output} holds other arms or lengths: choose another folder")
    settings.write_text(json.dumps(about, indent=2) + "\n")
    prompts = unseen_prompts(args.seeds, args.first, training_combinations(load(args.arm[0].model)))
    if args.brief:
        prompts = [prompt.briefly() for prompt in prompts]
    measure_all(args.arm, prompts, args.segments, args.output, args.videos, args.jobs)
    return show(curves([args.output], names, args.segments), args.against, args.output)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--arm", action="append", default=[], type=Arm.read, help="One arm: NAME=MODEL,key=value,...")
    made.add_argument("--join", nargs="+", type=Path, default=[], help="Report these measured folders instead of arms.")
    made.add_argument("--seeds", type=int, default=8, help="Number of videos of each arm.")
    made.add_argument("--segments", type=int, default=30, help="Number of segments of each video, of 80 frames each.")
    made.add_argument("--first", type=int, default=2 * 10**6, help="Seed of the first prompt and its noise.")
    made.add_argument("--brief", action="store_true", help="Use prompts that state the motion alone.")
    made.add_argument("--against", action="append", default=[], help="Another arm to compare the others with.")
    made.add_argument("--videos", type=int, default=2, help="Number of prompts whose videos are kept.")
    made.add_argument("--jobs", type=int, default=2, help="Processes that generate videos, of one thread each.")
    made.add_argument("-o", "--output", type=Path, required=True, help="Folder of the measurements and the report.")
    return made


if __name__ == "__main__":
    main()
