"""Runs of the recipe `multi_resolution` side by side: their loss on held-out clips, duration by duration.

python bench/multi_resolution.py out/mixed out/kept out/short [--clips 24] [--seconds 5,8,10] -o out/held

All runs must share a VAE. They get the same clips at every duration with the same noise and sigmas (from the corrected
distribution), whole, without given frames and with their captions. The loss is that of the training, sprites weighted; the
intervals are 95 % bootstrap intervals of the difference to the first run, clip by clip.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtake.core.units import pixels
from longtake.eval.intervals import bootstrap
from longtake.train.datasets.bucket_batches import BatchConfig, BatchSampler, PrefixConditioning
from longtake.train.datasets.buckets import Bucket
from longtake.train.recipes.multi_resolution import MultiResolution

SEED = 4 * 10**6  # number of the first held-out clip; training clips are numbered from 0
WHOLE = {"max_token_dropout": 0.0, "caption_dropout": 0.0}
NOTHING = {"first_frame_share": 0.0, "several_share": 0.0}


def held_losses(run: Path, out: Path, clips: int, seconds: list[float], size: tuple[int, int]) -> dict[str, Tensor]:
    """Compute {duration and size: loss of each clip} of a finished run."""
    table: dict[str, Any] = json.loads((run / "config.json").read_text())["multi_resolution"]
    table |= {"init": str(run / "model"), "network": {}, "data": "", "clips": clips, "seed": SEED}
    table |= {"seconds": seconds, "sizes": [pixels(size)], "batch": WHOLE, "prefix": NOTHING}
    recipe = MultiResolution(table, out)
    return {bucket.name: bucket_losses(recipe, bucket, clips) for bucket in recipe.buckets}


@torch.no_grad()
def bucket_losses(recipe: MultiResolution, bucket: Bucket, clips: int) -> Tensor:
    """Compute the loss of `clips` clips of one bucket; the generator depends on the number of the clip alone."""
    found = []
    sampler = BatchSampler(
        recipe.clips, [bucket], BatchConfig(bucket.tokens, **WHOLE), PrefixConditioning(**NOTHING),
        recipe.config.draw_sigmas, recipe.rope,
    )  # fmt: skip
    for number in range(clips):
        batch = sampler(torch.Generator().manual_seed(SEED + number))
        error = (recipe.velocity(batch) - (batch.noise - batch.video)).pow(2).mean(-1)
        weight = 1 + recipe.config.sprite_loss_weight * batch.sprite
        found.append((error * weight).sum() / weight.sum())
    return torch.stack(found)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--clips", type=int, default=24, help="draws of each duration")
    parser.add_argument("--seconds", default="5,8,10")
    parser.add_argument("--size", default="64,64", help="height,width")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of the clips, which are encoded once")
    given = parser.parse_args()
    height, width = (int(side) for side in given.size.split(","))
    seconds = [float(value) for value in given.seconds.split(",")]
    losses = {str(run): held_losses(run, given.out, given.clips, seconds, (height, width)) for run in given.runs}
    first = next(iter(losses.values()))
    print("| clips | " + " | ".join(losses) + " |\n|" + "---|" * (len(losses) + 1))
    for name in first:
        cells = [f"{first[name].mean():.4f}"]
        for other in list(losses.values())[1:]:
            cells.append(f"{other[name].mean():.4f} ({bootstrap(other[name] - first[name])} more)")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
