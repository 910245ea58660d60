"""`longtake plan --model`: what a video will take, before a weight is loaded."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from longtake.cli import flags
from longtake.cli.preview import COMPRESSED, duration, size
from longtake.geometry import frames_of_seconds
from longtake.models.ltx_presets import LTXPreset
from longtake.models.presets import PRESETS
from longtake.plan import PlanError
from longtake.plans import PLANS, chosen, suited
from longtake.plans import plan as plan_named
from longtake.rehearsal import Estimate, rehearse
from longtake.shapes import shapes

GPUS = {"RTX 4090": 165e12, "A100": 312e12, "H100": 989e12}  # operations per second of dense bf16, as published
SHARE = 0.5  # of which a good kernel reaches about so much


def show(
    model: str, plan: str | None, given: dict[str, Any], pixels: tuple[int, int] | None, frames: int | None,
    seconds: float | None,
) -> int:  # fmt: skip
    """Print windows, work, memory and disk. PlanError or SettingsError say what cannot be."""
    if isinstance(known := PRESETS.get(model), LTXPreset):
        from longtake.cli.cost import show as show_ltx

        return show_ltx(known, plan, given, pixels, frames, seconds)
    found, own, options = shapes(model, pixels)
    name = plan or own
    flags.known(name, given)
    sampling = {k: v for k, v in options.items() if k in ("steps", "shift", "grid", "levels")}
    options = suited(name, own, options, sampling)
    options = {k: v for k, v in chosen(options, given).items() if k in _fields(name)}
    count = frames if frames is not None else frames_of_seconds(10.0 if seconds is None else seconds, found.fps)
    if count < 1:
        raise PlanError(f"--num-frames must be at least 1, not {count}")
    if PLANS[name].defaults.get("single") and frames is None and seconds is None:
        count = min(count, plan_named(name, **options).window or count)  # type: ignore[attr-defined]
    estimate = rehearse(found, name, options, count)
    height, width = found.size
    console = Console(highlight=False)
    console.print(
        f"[bold]{found.name}[/] · {width} x {height} · {found.fps:g} fps · {count} frames = {count / found.fps:.1f} s · "
        f"plan {name}"
    )
    for table in (_work(estimate, found.guidance), _memory(estimate, found.limits.causal)):
        console.print(table)
    video = round(2 * count * height * width * COMPRESSED / 8)
    console.print(f"[dim]disk[/]  about {size(video)} of segments and video, and the snapshots")
    return 0


def _fields(name: str) -> set[str]:
    return set(PLANS[name].planner.__dataclass_fields__)  # type: ignore[attr-defined]


def _work(e: Estimate, guidance: float) -> Table:
    total = e.total + e.decode
    expected = ", ".join(f"{duration(total / (SHARE * rate))} {gpu}" for gpu, rate in GPUS.items())
    branches = "one branch" if guidance == 1 else "two branches of guidance"
    return _table(
        ("tokens", f"{e.tokens} per latent frame, {e.tokens * e.cost.view} in a window of {e.cost.view}"),
        ("windows", f"{e.cost.windows}, in {e.cost.takes} takes"),
        ("calls", f"{e.cost.calls}, each of {branches}: {_flops(e.call)}"),
        ("work", f"{_flops(e.total)} in the network, {_flops(e.decode)} in decoding"),
        ("time", f"at half of the published bf16 rate: {expected}"),
    )


def _memory(e: Estimate, causal: bool) -> Table:
    weights = e.weights["network"]
    parts = ", ".join(f"{part} {size(count)}" for part, count in e.weights.items() if count)
    kept = [f"{size(e.text)} of prompts"] + (
        [f"{size(e.memory)} of frames that a window remembers"] if causal else ["none of frames (no block-causal mask)"]
    )
    small = e.outside + (weights - e.outside) // 2
    return _table(
        ("weights", f"{size(sum(e.weights.values()))}: {parts}"),
        ("offload", f"model: {size(max(e.weights.values()))} at a time; blocks: {size(e.outside + 2 * e.block)} of the "
         f"network; with --fp8 the network is {size(small)}"),
        ("activations", f"{size(e.calls_peak)} beside the weights in a call, {size(e.codec_peak)} in decoding"),
        ("K/V cache", ", ".join(kept)),
        ("at most", f"[bold]{size(sum(e.weights.values()) + e.peak)}[/] with everything loaded"),
    )  # fmt: skip


def _table(*rows: tuple[str, str]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for row in rows:
        table.add_row(*row)
    return table


def _flops(count: float) -> str:
    for unit in ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP"):
        if count < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:,.1f} EFLOP"
