"""How fast a model makes video here: network, codec, whole; command to first durable frame; peak memory.

python bench/speed.py [--model pocket] [--seconds 20] [--threads N]
python bench/speed.py --peer diffusers [--size small,10k] [--cases forward,async97] [--rounds 2]
python bench/speed.py --peer diffusers --device cuda    the same with networks of 1.3B and 14B at 544 x 960, on a GPU
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
from longtake.engine import Rollout
from longtake.events import Frames
from longtake.models.base import Model
from longtake.plans import plan
from longtake.script import Script

PROMPT = "a red ball drifts to the right over the sea"


def engine(model: Model, name: str, options: dict, seconds: float) -> float:
    """Output frames per second of the engine alone (no files)."""
    script = Script.of(PROMPT, model.fps, seconds)
    start = time.perf_counter()
    frames = sum(e.video.shape[2] for e in Rollout(model, script, plan(name, **options)).run() if isinstance(e, Frames))
    return frames / (time.perf_counter() - start)


def decode(model: Model) -> float:
    """Output frames per second of the streaming decoder."""
    height, width = model.size
    latents = torch.randn(1, model.codec.channels, 8, height // model.codec.scale, width // model.codec.scale)
    decoder = model.codec.decoder()
    with torch.inference_mode():
        return 8 * model.codec.stride / median_seconds(lambda: decoder.push(latents))


def command(model: str, seconds: float, threads: int) -> dict[str, tuple[float, str]]:
    """A real run of the command line, watched from outside: first durable segment, whole time, peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        line = [
            sys.executable,
            "-m",
            "longtake",
            "generate",
            PROMPT,
            "--model",
            model,
            "--seconds",
            str(seconds),
            "-o",
            str(out),
        ]
        start = time.perf_counter()
        process = subprocess.Popen(
            [*line, "--threads", str(threads)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
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
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--peer", choices=["diffusers"], help="run equal work in another library, in turns")
    parser.add_argument(
        "--size", help="of the peer's networks: small, 10k, 1.3b, 14b (default: small,10k; on a GPU 1.3b,14b)"
    )
    parser.add_argument("--cases", default="forward,async97,async257,sync257,decode,end")
    parser.add_argument("--rounds", type=int, default=2, help="how often both sides run")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true", help="compile longtake's side")
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
    for name, options in ((model.plan, model.options), ("endless", model.sampling)):
        engine(model, name, options, 1.0)
        rows[f"engine, --plan {name}"] = (engine(model, name, options, args.seconds), "frames/s")
    report("speed", rows, model=args.model, seconds=args.seconds, threads=args.threads)


if __name__ == "__main__":
    main()
