"""What decoding a clip while the next one is made brings, where clips are handed over as latents. Both give equal frames.

    python bench/overlap.py                             pocket, three clips, one thread of torch for each of the two
    python bench/overlap.py --model svi-2.0-pro=FOLDER --image robot.png --device cuda --clips 2

Runs take turns, so that other work disturbs both alike. A run without overlap first says how its time is divided: decoding
can save no more than its own share. Appends a line to bench/results.jsonl.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from typing import Any

import torch
from common import report
from torch import Tensor

from longtake.engine import Rollout
from longtake.events import Frames
from longtake.given import Given
from longtake.models import load
from longtake.models.base import Model
from longtake.models.place import Place
from longtake.plans import plan
from longtake.script import Script
from longtake.settings import Settings


class Timed:
    """A codec that counts the seconds that its decoders take."""

    def __init__(self, codec: Any):
        self.codec, self.seconds = codec, 0.0
        self.stride, self.scale, self.channels, self.reach = codec.stride, codec.scale, codec.channels, codec.reach
        self.encode = codec.encode

    def decoder(self) -> Any:
        """See `Codec`."""
        inner, timed = self.codec.decoder(), self

        class Decoder:
            def push(self, latents: Tensor) -> Tensor:
                begun = time.perf_counter()
                made = inner.push(latents)
                if made.is_cuda:
                    torch.cuda.synchronize()
                timed.seconds += time.perf_counter() - begun
                return made

            def flush(self) -> Tensor:
                return inner.flush()

        return Decoder()


def made(model: Model, settings: Settings, given: Given, overlapped: bool) -> tuple[float, Tensor]:
    """Seconds that the video takes, and its frames."""
    told = settings.told(model, given if given else None)
    rollout = Rollout(
        model, Script.from_facts(settings.script), settings.make_plan(), seeds=(settings.seed,),
        guidance=settings.guidance, solver=settings.solver, start=told.start, overlapped=overlapped,
    )  # fmt: skip
    begun = time.perf_counter()
    frames = torch.cat([event.frames.cpu() for event in rollout.run() if isinstance(event, Frames)], 1)
    return time.perf_counter() - begun, frames


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--image", help="the first frame, for a model that is told of one")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clips", type=int, default=3)
    parser.add_argument("--times", type=int, default=3, help="runs of each kind")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    model = load(asked.model, placing=Place(device=asked.device))
    own = model.options if model.options.get("hand") == "latents" else dict(model.sampling, hand="latents", overlap=5)
    name = model.plan if model.plan == "crossclip" else "relay"
    window = 1 + model.codec.stride * (model.limits.view - 1)
    count = window + (asked.clips - 1) * (window - plan(name, **own).seam)
    given = Given(image=asked.image)
    settings = Settings.resolve(
        model, "a red ball bounces over the sea", seconds=count / model.fps, plan=name, options=own, given=given
    )
    codec = Timed(model.codec)
    alone, first = made(replace(model, codec=codec), settings, given, False)  # type: ignore[arg-type]
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(2 * asked.times):
        taken, frames = made(model, settings, given, overlapped=turn % 2 == 1)
        seconds[turn % 2 == 1].append(taken)
        if not torch.equal(frames, first):
            raise SystemExit("the frames differ: decoding beside denoising must change nothing")
    apart, beside = (statistics.median(seconds[kind]) for kind in (False, True))
    report(
        "overlap",
        {
            "one after the other": (apart, "s"),
            "decoding beside denoising": (beside, "s"),
            "times as fast": (apart / beside, ""),
            "share of decoding, which is the most that can be saved": (100 * codec.seconds / alone, "%"),
        },
        model=model.name, clips=asked.clips, frames=count, threads=asked.threads, device=asked.device,
    )  # fmt: skip


if __name__ == "__main__":
    main()
