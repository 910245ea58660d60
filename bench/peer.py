"""longtake compared with diffusers: equal weights, noise and sigmas, in alternating processes whose outputs must agree."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from common import report
from counted import Work, dense, needed
from rich.console import Console
from safetensors.torch import load_file
from sides import BLOCK, CASES, OVERLAP, SHIFT, SIZES

from longtake.planning.limits import Limits
from longtake.planning.strategies.registry import make_plan

SIDES = ("longtake", "diffusers")
AGREE = {"float32": 1e-3, "bfloat16": 0.1}  # largest relative distance of outputs; of frames, mean difference / 255


def compare(sizes: list[str], cases: list[str], rounds: int, device: str, threads: int, compiled: bool) -> None:
    """Run every case at every size and report medians and ratios. Raises SystemExit if the outputs do not agree."""
    for names, known in ((sizes, SIZES), (cases, CASES)):
        if strange := [name for name in names if name not in known]:
            raise SystemExit(f"there is no {', '.join(strange)}: choose {', '.join(known)}")
    for size in sizes:
        for case in cases:
            found = {side: [] for side in SIDES}
            with tempfile.TemporaryDirectory() as folder:
                for _ in range(rounds):
                    for side in SIDES:
                        out = Path(folder) / side
                        found[side].append(run(side, case, size, out, device, threads, compiled))
                apart = distance(*(load_file(Path(folder) / side)["out"] for side in SIDES))
            limit = AGREE[str(SIZES[size].dtype).removeprefix("torch.")]
            if apart > limit:
                raise SystemExit(
                    f"{case}, {size}: the outputs are {apart:.2g} apart, more than {limit}: not equal work"
                )
            tabulate(size, case, found, apart, rounds, device, threads, compiled)


def run(side: str, case: str, size: str, out: Path, device: str, threads: int, compiled: bool) -> dict[str, float]:
    """Run one library on one case in a new process; return its figures."""
    command = [sys.executable, str(Path(__file__).with_name("sides.py")), side, case, size, str(out)]
    command += [
        "--device",
        device,
        "--threads",
        str(threads),
        *(["--compile"] if compiled and side == SIDES[0] else []),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{side} failed at {case}, {size}: {done.stderr.strip()[-2000:]}")
    facts = json.loads(done.stdout.splitlines()[-1])
    Console(stderr=True).print(f"{side} {case} {size}: " + ", ".join(f"{k} {v:.4g}" for k, v in facts.items()))
    return facts


def distance(ours, theirs) -> float:
    """Return the relative distance of two outputs; of frames, the mean difference as a share of white."""
    if ours.shape != theirs.shape:
        raise SystemExit(f"the outputs have shapes {tuple(ours.shape)} and {tuple(theirs.shape)}: not equal work")
    ours, theirs = ours.double(), theirs.double()
    if ours.max() > 50:
        return ((ours - theirs).abs().mean() / 255).item()
    return ((ours - theirs).norm() / theirs.norm()).item()


def tabulate(
    size: str, case: str, found: dict, apart: float, rounds: int, device: str, threads: int, compiled: bool
) -> None:
    """Report medians of both libraries, their ratios, and the ratio that the counted FLOPs predict."""
    ours, theirs = ({k: statistics.median(run[k] for run in found[side]) for k in found[side][0]} for side in SIDES)
    rows = {}
    for key, unit in (("seconds", "s"), ("cpu_seconds", "s"), ("peak", "MiB"), ("above", "MiB")):
        rows |= {f"{key}, {side}": (facts[key], unit) for side, facts in zip(SIDES, (ours, theirs))}
        rows[f"{key}, diffusers / longtake"] = (theirs[key] / ours[key], "x")
    rows["outputs apart"] = (apart, "relative")
    work = Work(SIZES[size].config, SIZES[size].tokens, SIZES[size].text)
    if CASES[case][1]:
        saving = counted(size, case, work)
        rows["predicted by FLOPs"] = (saving, "x")
        clock = "seconds" if device != "cpu" else "cpu_seconds"
        rows["share of the prediction reached"] = (100 * theirs[clock] / ours[clock] / saving, "%")
    if case == "forward":
        rate = (
            SIZES[size].forwards
            * (work.frames(25, 25) + work.text_keys())
            / 1e12
            / ours["cpu_seconds" if device == "cpu" else "seconds"]
        )
        rows |= {"longtake": (rate, "TFLOP/s"), "share of a large matrix product": (100 * rate / ours["tflops"], "%")}
    report(
        f"{case}, {size}, compared with diffusers", rows, case=case, size=size, device=device, threads=threads, rounds=rounds,
        compile=compiled,
    )  # fmt: skip


def counted(size: str, case: str, work: Work) -> float:
    """Return the ratio of the FLOPs of all frames to those of the frames that change."""
    frames, limits = CASES[case][0], Limits(max_latent_frames=25, block=BLOCK, causal=True)
    strategy = make_plan("sliding", steps=SIZES[size].steps, shift=SHIFT, ar_step=SIZES[size].lag, overlap=OVERLAP)
    windows = list(strategy.windows(frames, 4, limits))
    return dense(work, windows) / needed(work, windows)
