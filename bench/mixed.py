"""Runs of the recipe `mixed` side by side: their loss on clips that none of them has seen, duration by duration.

python bench/mixed.py out/mixed out/kept out/short [--clips 24] [--seconds 5,8,10] -o out/held

All runs must share a codec. They see the same clips at every duration with the same noise and levels (those of the mended
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

from longtake.eval.drift import bootstrap
from longtake.train.mixed import Draw, Drawing, Given
from longtake.train.pairs import Pair
from longtake.train.recipes.mixed import Mixed

SEED = 4 * 10**6  # of the clips that are held out; those of training are numbered from 0
WHOLE = {"most": 0.0, "drop": 0.0}
NOTHING = {"first": 0.0, "several": 0.0}


def held_losses(run: Path, out: Path, clips: int, seconds: list[float], size: tuple[int, int]) -> dict[str, Tensor]:
    """{duration and size: loss of each clip} of a finished run."""
    table: dict[str, Any] = json.loads((run / "config.json").read_text())["mixed"]
    table |= {"init": str(run / "model"), "network": {}, "data": "", "clips": clips, "seed": SEED}
    table |= {"seconds": seconds, "sizes": [list(size)], "drawing": WHOLE, "given": NOTHING}
    recipe = Mixed(table, out)
    return {pair.name: pair_losses(recipe, pair, clips) for pair in recipe.pairs}


@torch.no_grad()
def pair_losses(recipe: Mixed, pair: Pair, clips: int) -> Tensor:
    """Loss of each of so many clips of one pair; chance depends on the clip's place alone."""
    found = []
    one = Draw(recipe.clips, [pair], Drawing(pair.tokens, **WHOLE), Given(**NOTHING), recipe.places)
    for number in range(clips):
        batch = one(torch.Generator().manual_seed(SEED + number))
        error = (recipe.velocity(batch) - (batch.noise - batch.video)).pow(2).mean(-1)
        weight = 1 + recipe.config.sprite * batch.sprite
        found.append((error * weight).sum() / weight.sum())
    return torch.stack(found)


def main() -> None:
    """Run what the command line asks for."""
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
