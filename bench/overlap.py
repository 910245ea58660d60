"""Time saved by decoding a clip while the next one is denoised, for clips that hand over latents. Frames are equal.

    python bench/overlap.py                             pocket, three clips, one CPU thread each for denoising and decoding
    python bench/overlap.py --model svi-2.0-pro=FOLDER --image robot.png --device cuda --clips 2

Runs with and without overlap alternate, so that other processes disturb both alike. A first run without overlap measures
the share of decoding, which is the most that overlap can save. Prints a table and appends it to bench/results.jsonl.
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

from longtake.engine.build import build_rollout
from longtake.engine.events import Frames
from longtake.engine.inputs import RolloutInputs
from longtake.models import load
from longtake.models.model import Model
from longtake.models.runtime.load_options import LoadOptions
from longtake.pipelines.settings.request import Inputs
from longtake.pipelines.settings.run_settings import RunSettings
from longtake.planning.script import Script
from longtake.planning.strategies.registry import make_plan


class Timed:
    """A VAE that counts the seconds its decoders take."""

    def __init__(self, vae: Any):
        self.vae, self.seconds = vae, 0.0
        self.temporal_compression, self.spatial_compression, self.channels, self.replay_latents = (
            vae.temporal_compression,
            vae.spatial_compression,
            vae.channels,
            vae.replay_latents,
        )
        self.encode = vae.encode

    def decoder(self) -> Any:
        """Return a decoder whose time is counted."""
        inner, timed = self.vae.decoder(), self

        class Decoder:
            def push(self, latents: Tensor) -> Tensor:
                start = time.perf_counter()
                frames = inner.push(latents)
                if frames.is_cuda:
                    torch.cuda.synchronize()
                timed.seconds += time.perf_counter() - start
                return frames

            def flush(self) -> Tensor:
                return inner.flush()

        return Decoder()


def generate(model: Model, settings: RunSettings, inputs: Inputs, overlapped: bool) -> tuple[float, Tensor]:
    """Generate the video; return the seconds it took and its frames."""
    prepared = settings.rollout_inputs(model, inputs)
    rollout = build_rollout(
        model, Script.from_facts(settings.script), settings.make_plan(), seeds=(settings.seed,),
        guidance=settings.sampling.guidance_scale, solver=settings.sampling.solver,
        inputs=RolloutInputs(start=prepared.start), overlapped=overlapped,
    )  # fmt: skip
    start = time.perf_counter()
    frames = torch.cat([event.frames.cpu() for event in rollout.run() if isinstance(event, Frames)], 1)
    return time.perf_counter() - start, frames


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket", help="Name or folder of the model.")
    parser.add_argument("--image", help="First frame, for an image-to-video model.")
    parser.add_argument("--device", default="cpu", help="Device of the model: cpu or cuda.")
    parser.add_argument("--clips", type=int, default=3, help="Number of clips of the video.")
    parser.add_argument("--times", type=int, default=3, help="Number of runs with and without overlap.")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of PyTorch.")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = load(args.model, load_options=LoadOptions(device=args.device))
    own = (
        model.defaults.strategy_options
        if model.defaults.strategy_options.get("handoff") == "latents"
        else dict(model.defaults.sampling_options, handoff="latents", overlap=5)
    )
    name = model.defaults.strategy if model.defaults.strategy == "clip-conditioned" else "relay"
    window = 1 + model.vae.temporal_compression * (model.limits.max_latent_frames - 1)
    count = window + (args.clips - 1) * (window - make_plan(name, **own).traits.tail_frames)
    inputs = Inputs(image=args.image)
    settings = RunSettings.of(
        model, "a red ball bounces over the sea", seconds=count / model.fps, strategy=name, image=args.image, **own
    )
    vae = Timed(model.vae)
    alone, first = generate(replace(model, vae=vae), settings, inputs, False)  # type: ignore[arg-type]
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(2 * args.times):
        taken, frames = generate(model, settings, inputs, overlapped=turn % 2 == 1)
        seconds[turn % 2 == 1].append(taken)
        if not torch.equal(frames, first):
            raise SystemExit("the frames differ with and without overlap: this is a bug of the engine")
    serial, overlapped = (statistics.median(seconds[kind]) for kind in (False, True))
    report(
        "overlap",
        {
            "decoding after denoising": (serial, "s"),
            "decoding while denoising": (overlapped, "s"),
            "speedup": (serial / overlapped, ""),
            "share of decoding, the most that can be saved": (100 * vae.seconds / alone, "%"),
        },
        model=model.name, clips=args.clips, frames=count, threads=args.threads, device=args.device,
    )  # fmt: skip


if __name__ == "__main__":
    main()
