"""Speed of a model on this machine: network, VAE and whole command, time to the first durable frame, peak memory.

python bench/speed.py [--model pocket] [--seconds 20] [--threads N]
python bench/speed.py --peer diffusers [--size small,10k] [--cases forward,async97] [--rounds 2]
python bench/speed.py --peer diffusers --device cuda    networks of 1.3B and 14B at 544 x 960, on a GPU
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from common import median_seconds, report

from longtake import load
from longtake.engine.build import build_rollout
from longtake.engine.events import Frames
from longtake.models.model import Model
from longtake.planning.script import Script
from longtake.planning.strategies.registry import make_plan

PROMPT = "a red ball drifts to the right over the sea"


def engine(model: Model, name: str, options: dict, seconds: float) -> float:
    """Return the output frames per second of the engine alone, without files."""
    script = Script.of(PROMPT, model.fps, seconds)
    start = time.perf_counter()
    frames = sum(
        e.video.shape[2]
        for e in build_rollout(model, script, make_plan(name, **options)).run()
        if isinstance(e, Frames)
    )
    return frames / (time.perf_counter() - start)


def decode(model: Model) -> float:
    """Return the output frames per second of the streaming decoder."""
    height, width = model.size
    latents = torch.randn(
        1, model.vae.channels, 8, height // model.vae.spatial_compression, width // model.vae.spatial_compression
    )
    decoder = model.vae.decoder()
    with torch.inference_mode():
        return 8 * model.vae.temporal_compression / median_seconds(lambda: decoder.push(latents))


def command(model: str, seconds: float, threads: int) -> dict[str, tuple[float, str]]:
    """Run `longtake generate` and return the time to its first durable segment, its whole time and its peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        line = [sys.executable, "-m", "longtake", "generate", PROMPT, "--model", model, "--seconds", str(seconds)]
        line += ["--output", str(out), "--threads", str(threads)]
        start = time.perf_counter()
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        first = None
        while process.poll() is None:
            if first is None and any(out.glob("media/*.m4s")):
                first = time.perf_counter() - start
            time.sleep(0.02)
        whole = time.perf_counter() - start
        if process.returncode or first is None:
            raise SystemExit(f"longtake generate failed: {process.stderr.read().decode() if process.stderr else ''}")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {
        "command to first durable frame": (first, "s"),
        "command to video.mp4": (whole, "s"),
        "peak memory of the command": (peak, "MiB"),
    }


def main() -> None:
    """Measure what the command line asks for, print a table and append it to the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket", help="Name or folder of the model.")
    parser.add_argument("--seconds", type=float, default=20.0, help="Length of the video.")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads of PyTorch.")
    parser.add_argument("--peer", choices=["diffusers"], help="Compare with this library on equal work, in turns.")
    parser.add_argument(
        "--size", help="Networks to compare: small, 10k, 1.3b, 14b (default: small,10k; on a GPU 1.3b,14b)."
    )
    parser.add_argument("--cases", default="forward,async97,async257,sync257,decode,end", help="Cases to compare.")
    parser.add_argument("--rounds", type=int, default=2, help="Number of runs of each library.")
    parser.add_argument("--device", default="cpu", help="Device of the comparison: cpu or cuda.")
    parser.add_argument("--compile", action="store_true", help="Compile longtake's network.")
    args = parser.parse_args()
    if args.peer:
        from peer import compare

        if args.device != "cpu" and not torch.cuda.is_available():
            parser.error(f"--device {args.device}: PyTorch sees no GPU here")
        size = args.size or ("small,10k" if args.device == "cpu" else "1.3b,14b")
        return compare(size.split(","), args.cases.split(","), args.rounds, args.device, args.threads, args.compile)
    torch.set_num_threads(args.threads)
    rows = command(args.model, args.seconds, args.threads)
    model = load(args.model)
    rows["streaming decode"] = (decode(model), "frames/s")
    for name, options in (
        (model.defaults.strategy, model.defaults.strategy_options),
        ("continuous", model.defaults.sampling_options),
    ):
        engine(model, name, options, 1.0)
        rows[f"engine, --strategy {name}"] = (engine(model, name, options, args.seconds), "frames/s")
    report("speed", rows, model=args.model, seconds=args.seconds, threads=args.threads)


if __name__ == "__main__":
    main()
