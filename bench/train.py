"""How fast the recipes train here: steps per second, peak memory, and the share of the measured matrix-product rate.

python bench/train.py [--recipes text_encoder,diffusion_forcing] [--seconds 5] [--threads N] [--clips 8]

Every recipe trains the packaged pocket in a process of its own, `multi_resolution` a new network of
examples/train/multi_resolution.toml. The share counts the matrix products and convolutions of a whole step (both passes and
Muon) against the rate of one large product of fp32 matrices with the same threads; steps and products alternate, so that
other load disturbs both alike.
"""

from __future__ import annotations

import argparse
import json
import os
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

from longtake.core.platform import peak_memory
from longtake.core.units import parse_pixels
from longtake.models import builtin
from longtake.models.checkpoints import loading as weights
from longtake.models.ltx import vae as ltx_vae
from longtake.models.ltx import vae_config as ltx_vae_config
from longtake.models.wan import vae as wan_vae
from longtake.pocket import FPS
from longtake.pocket.clips import Source
from longtake.train.datasets.bucket_clips import fill_clips
from longtake.train.datasets.buckets import make_buckets
from longtake.train.datasets.pocket import fill_cache
from longtake.train.loop import begin
from longtake.train.loop_config import LoopConfig
from longtake.train.recipes.registry import RECIPES
from longtake.train.weights.families import training_hooks

SIZE = 1536  # width of the matrices whose product is measured
ATTENTION = {  # CPU kernels that the counter of PyTorch leaves out
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: (
        lambda q, k, v, *rest, out_shape=None, **options: sdpa_flop_count(q, k, v)
    ),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda grad, q, k, v, *rest, out_shape=None, **options: sdpa_backward_flop_count(grad, q, k, v)
    ),
}


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that `work` needs."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def table(name: str, data: Path) -> dict:
    """Return the table of a recipe that trains pocket further on the clips of `data`."""
    video = {"init": "pocket", "data": str(data), "eval_prompts": 0}
    tables: dict[str, dict] = {
        "vae": {"init": str(builtin()["pocket"] / "vae")},
        "text_encoder": {},
        "block_causal": {**video, "network": {"causal": True, "block": 5}},
        "image_to_video": {**video, "network": {"in_channels": 36}},
        "guidance_distillation": {"settings": video},
        "lora": {"settings": video},
        "error_recycling": {
            "recipe": "diffusion_forcing",
            "sigma_distribution": "recipe",
            "lora": {"rank": 16, "alpha": 16.0},
            "settings": video,
        },
    }
    if name == "multi_resolution":
        return {
            **example("multi_resolution"),
            "vae": str(data / "ltx"),
            "data": str(data / "tokens"),
            "text": str(builtin()["pocket"]),
            "eval_prompts": 0,
        }
    return tables.get(name, video)


def example(name: str) -> dict:
    """Return the table of an example config."""
    recipe = name.split("-")[0]
    return tomllib.loads((Path(__file__).parents[1] / f"examples/train/{name}.toml").read_text())[recipe]


def clips_of_ltx(folder: Path, count: int) -> None:
    """Write an untrained VAE in the layout of pocket-ltx, and clips of all sizes of `multi_resolution` encoded by it."""
    config = ltx_vae_config.LTXVAEConfig(**example("vae-ltx")["network"])
    vae, settings = ltx_vae.LTXVAE(config), example("multi_resolution")
    vae.latents_std.fill_(1.0)
    weights.save(vae, config, folder / "ltx", kind=training_hooks("ltx").vae_class)
    found = make_buckets(
        settings["seconds"],
        [parse_pixels(one) for one in settings["sizes"]],
        vae.temporal_compression,
        vae.spatial_compression,
        FPS,
    )
    fill_clips(folder / "tokens", found, count, 0, vae.encode, report=lambda line: None)


def measure(name: str, data: Path, seconds: float) -> dict[str, float]:
    """Train a recipe for some seconds; return steps per second, peak MiB, and GFLOP per second of steps and of products."""
    a, b = torch.randn(2, SIZE, SIZE)
    with tempfile.TemporaryDirectory() as folder:
        optimiser = "adamw" if name in ("vae", "text_encoder", "lora") else "muon"
        torch.manual_seed(0)
        recipe = RECIPES[name].make(table(name, data), Path(folder), RECIPES)
        run = begin(recipe, LoopConfig.of(steps=10_000, lr=1e-5, optimiser=optimiser), Path(folder), lambda line: None)
        with FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter:
            run.advance()
        steps, products, stop = [], [timed(lambda: a @ b)], time.perf_counter() + seconds
        while not steps or time.perf_counter() < stop:
            steps.append(timed(run.advance))
            products.append(timed(lambda: a @ b))
    rate = 1 / statistics.median(steps)
    return {
        "rate": rate,
        "peak": peak_memory() / 2**20,
        "step": rate * counter.get_total_flops() / 1e9,
        "product": 2 * SIZE**3 / statistics.median(products[1:]) / 1e9,
    }


def apart(name: str, data: Path, args: argparse.Namespace) -> dict[str, float]:
    """Run `measure` in a process of its own, so that the peak memory is that of the recipe alone."""
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
    parser.add_argument("--note", default="", help="stored with the results, such as other load of the machine")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.one:
        print(json.dumps(measure(args.one, args.data, args.seconds)))
        return
    rows: dict[str, tuple[float, str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        vae = wan_vae.load(builtin()["pocket"] / "vae", torch.float32)
        fill_cache(Path(folder), Source(switch=0.0), args.clips, vae.encode, report=lambda line: None)
        if "multi_resolution" in args.recipes:
            clips_of_ltx(Path(folder), args.clips)
        for name in args.recipes.split(","):
            measured = apart(name, Path(folder), args)
            rows[name] = (measured["rate"], "steps/s")
            rows[f"{name}: peak memory"] = (measured["peak"], "MiB")
            rows[f"{name}: one fp32 product"] = (measured["product"], "GFLOP/s")
            rows[f"{name}: share of that rate"] = (100 * measured["step"] / measured["product"], "%")
    report("train", rows, threads=args.threads, seconds=args.seconds, note=args.note)


if __name__ == "__main__":
    main()
