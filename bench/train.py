"""How fast the recipes train here: steps per second, peak memory, and the share of the measured matrix-product rate.

python bench/train.py [--recipes text,forcing] [--seconds 5] [--threads N] [--clips 8]

Every recipe trains the packaged pocket in a process of its own, `mixed` a new network of examples/train/mixed.toml. The share
counts the matrix products and convolutions of a whole step (both passes and Muon) against what one large product of fp32
matrices reaches with the same threads; steps and products take turns, so that other work disturbs both alike.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import torch
from common import report
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from longtake.models import builtin, ltx_codec, ltx_codec_config, wan_codec, weights
from longtake.train.data import Source, fill_cache
from longtake.train.family import LTX
from longtake.train.loop import Settings, begin
from longtake.train.mixed import fill_clips
from longtake.train.pairs import pairs
from longtake.train.recipes import RECIPES
from longtake.world import FPS

SIZE = 1536  # of the matrices whose product is measured
ATTENTION = {  # of the CPU, which PyTorch's counter leaves out
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: (
        lambda q, k, v, *rest, out_shape=None, **options: sdpa_flop_count(q, k, v)
    ),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda grad, q, k, v, *rest, out_shape=None, **options: sdpa_backward_flop_count(grad, q, k, v)
    ),
}


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def table(name: str, data: Path) -> dict:
    """The table of a recipe: pocket goes on, on the clips of `data`."""
    video = {"init": "pocket", "data": str(data), "judged": 0}
    tables: dict[str, dict] = {
        "codec": {"start": str(builtin()["pocket"] / "vae")},
        "text": {},
        "causal": {**video, "network": {"causal": True, "block": 5}},
        "i2v": {**video, "network": {"in_channels": 36}},
        "distil": {"settings": video},
        "lora": {"settings": video},
        "recycle": {"recipe": "forcing", "levels": "recipe", "rank": 16, "alpha": 16.0, "settings": video},
    }
    if name == "mixed":
        return {
            **example("mixed"),
            "codec": str(data / "ltx"),
            "data": str(data / "tokens"),
            "text": str(builtin()["pocket"]),
            "judged": 0,
        }
    return tables.get(name, video)


def example(name: str) -> dict:
    """The table of an example, whose name is that of a recipe."""
    recipe = name.split("-")[-1]
    return tomllib.loads((Path(__file__).parents[1] / f"examples/train/{name}.toml").read_text())[recipe]


def clips_of_ltx(folder: Path, count: int) -> None:
    """A codec as that of pocket-ltx, which knows nothing, and clips of all sizes of the recipe `mixed` through it."""
    config = ltx_codec_config.LTXCodecConfig(**example("ltx-codec")["network"])
    codec, told = ltx_codec.LTXCodec(config), example("mixed")
    codec.latents_std.fill_(1.0)
    weights.save(codec, config, folder / "ltx", kind=LTX.stored)
    found = pairs(told["seconds"], told["sizes"], codec.stride, codec.scale, FPS)
    fill_clips(folder / "tokens", found, count, 0, codec.encode, report=lambda line: None)


def measure(name: str, data: Path, seconds: float) -> dict[str, float]:
    """Train a recipe for some seconds: steps per second, MiB at the peak, GFLOP per second of steps and of products."""
    a, b = torch.randn(2, SIZE, SIZE)
    with tempfile.TemporaryDirectory() as folder:
        optimiser = "adamw" if name in ("codec", "text", "lora") else "muon"
        torch.manual_seed(0)
        recipe = RECIPES[name](table(name, data), Path(folder))
        run = begin(recipe, Settings(steps=10_000, lr=1e-5, optimiser=optimiser), Path(folder), lambda line: None)
        with FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter:
            run.advance()
        steps, products, stop = [], [timed(lambda: a @ b)], time.perf_counter() + seconds
        while not steps or time.perf_counter() < stop:
            steps.append(timed(run.advance))
            products.append(timed(lambda: a @ b))
    rate = 1 / statistics.median(steps)
    return {
        "rate": rate,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "step": rate * counter.get_total_flops() / 1e9,
        "product": 2 * SIZE**3 / statistics.median(products[1:]) / 1e9,
    }


def apart(name: str, data: Path, args: argparse.Namespace) -> dict[str, float]:
    """`measure` in a process of its own, whose memory is the recipe's alone."""
    line = [sys.executable, __file__, "--one", name, "--data", str(data)]
    line += ["--seconds", str(args.seconds), "--threads", str(args.threads)]
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--note", default="", help="kept with the figures, such as what else the machine did")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.one:
        print(json.dumps(measure(args.one, args.data, args.seconds)))
        return
    rows: dict[str, tuple[float, str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        codec = wan_codec.load(builtin()["pocket"] / "vae", torch.float32)
        fill_cache(Path(folder), Source(switch=0.0), args.clips, codec.encode, report=lambda line: None)
        if "mixed" in args.recipes:
            clips_of_ltx(Path(folder), args.clips)
        for name in args.recipes.split(","):
            told = apart(name, Path(folder), args)
            rows[name] = (told["rate"], "steps/s")
            rows[f"{name}: peak memory"] = (told["peak"], "MiB")
            rows[f"{name}: one fp32 product"] = (told["product"], "GFLOP/s")
            rows[f"{name}: share of that rate"] = (100 * told["step"] / told["product"], "%")
    report("train", rows, threads=args.threads, seconds=args.seconds, note=args.note)


if __name__ == "__main__":
    main()
