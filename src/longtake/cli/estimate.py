"""The cost of a video on a checkpoint, estimated without its weights: `longtake plan --model`."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from longtake.cli.dry_run import COMPRESSED
from longtake.cli.gpu_speeds import GPUS, SHARE
from longtake.core.errors import SettingsError
from longtake.core.options import SamplingOptions
from longtake.core.units import duration, pixels, size
from longtake.models.spec import CheckpointSpec
from longtake.pipelines.estimate import (
    CountedEstimate,
    Estimate,
    TwoStageEstimate,
    counted,
    estimate,
    planned_video,
    spec_of,
)
from longtake.planning.strategies.registry import check_options

MOST_FRAMES = 2_000_000  # a day of video


def show(
    model: str, plan: str | None, given: dict[str, Any], sampling: SamplingOptions,
    frames: int | None, seconds: float | None,
) -> int:  # fmt: skip
    """Print windows, work, memory and disk. Raises PlanError or SettingsError for what cannot be generated."""
    spec = spec_of(model)
    if sampling.sized:
        spec = spec_of(model, sampling.size(spec.format.size))
    check_options(plan or spec.defaults.strategy, given)
    video = planned_video(spec, plan, given, frames, seconds)
    if video.frames > MOST_FRAMES:
        raise SettingsError(
            f"the cost of at most {MOST_FRAMES:,} frames is estimated, not of {video.frames:,}: ask for less"
        )
    console = Console(highlight=False)
    fps, frames = spec.format.fps, video.frames
    title = f"{spec.name} · {pixels(spec.format.size)} · {fps:g} fps · {frames} frames = {frames / fps:.1f} s · strategy {video.strategy}"
    if spec.meta is None:
        for line in [title, *_counted(spec, counted(spec, video, given))]:
            console.print(line, style="yellow" if line.startswith("warning") else "", soft_wrap=True)
        return 0
    found = estimate(spec, video)
    console.print(title.replace(spec.name, f"[bold]{spec.name}[/]", 1))
    for table in (_work(found, spec.defaults.guidance_scale), _memory(found, spec.limits.causal)):
        console.print(table)
    console.print(f"[dim]disk[/]  {_disk(frames, spec.format.size)}")
    return 0


def _counted(spec: CheckpointSpec, found: CountedEstimate) -> list[str]:
    """Describe counted work, with a warning where positions leave what the network was trained for."""
    work, total = found.work, found.cost
    lines = [
        f"windows   {total.windows}, in {total.clips} clips; {total.steps} calls",
        f"tokens    {spec.format.tokens_per_frame} per latent frame, up to {work.tokens:,} in a call",
        f"work      {_large(work.step_flops)} for one step of all windows, {_large(work.flops)} with all steps and guidance",
    ]
    if spec.longest_seconds is not None and work.seconds > spec.longest_seconds:
        lines.append(
            f"warning: a window spans {work.seconds:.0f} s, but the positions of this network end at "
            f"{spec.longest_seconds:g} s, and it is refused when it runs: use a shorter --window, or --strategy relay or looping"
        )
    lines += _taken(spec, found)
    both = found.two_stages
    if isinstance(both, str):
        lines.append(f"two stages  {both}")
    elif both is not None:
        lines.append(
            f"two stages, with the latent upsampler: {both.first_steps} + {both.second_steps} calls, "
            f"{_large(both.flops)} with all steps and guidance"
        )
    return lines


def _taken(spec: CheckpointSpec, found: CountedEstimate) -> list[str]:
    """Describe time, memory and disk of counted work."""
    parts, work, second = spec.weights, found.work, found.two_stages
    flops = second.flops if isinstance(second, TwoStageEstimate) else work.flops
    most = sum(parts.values()) + work.activations
    parts_in_words = ", ".join(f"{part} {size(count)}" for part, count in parts.items())
    return [
        f"time      {_times(flops)}, besides decoding",
        f"weights   {size(sum(parts.values()))}: {parts_in_words}; with --offload model {size(max(parts.values()))} at a time",
        f"memory    about {size(most)} with everything loaded: {size(work.activations)} of activations in a model call",
        f"disk      {_disk(found.frames, spec.format.size)}",
    ]


def _times(flops: float) -> str:
    expected = ", ".join(f"{duration(flops / (SHARE * rate))} {gpu}" for gpu, rate in GPUS.items())
    return f"at half of the published bf16 rate: {expected}"


def _disk(frames: int, frame_size: tuple[int, int]) -> str:
    height, width = frame_size
    return f"about {size(round(2 * frames * height * width * COMPRESSED / 8))} of segments and video, and the snapshots"


def _large(flops: float) -> str:
    return f"{flops / 1e15:,.1f} PFLOP" if flops >= 1e15 else f"{flops / 1e12:,.0f} TFLOP"


def _work(e: Estimate, guidance: float) -> Table:
    total = e.total + e.decode
    branches = "one branch" if guidance == 1 else "two branches of guidance"
    return _table(
        ("tokens", f"{e.tokens} per latent frame, {e.tokens * e.cost.widest} in a window of {e.cost.widest}"),
        ("windows", f"{e.cost.windows}, in {e.cost.clips} clips"),
        ("calls", f"{e.cost.steps}, each of {branches}: {_flops(e.call)}"),
        ("work", f"{_flops(e.total)} in the network, {_flops(e.decode)} in decoding"),
        ("time", _times(total)),
    )


def _memory(e: Estimate, causal: bool) -> Table:
    weights = e.weights["network"]
    parts = ", ".join(f"{part} {size(count)}" for part, count in e.weights.items() if count)
    kept = [f"{size(e.text)} of prompts"] + (
        [f"{size(e.memory)} of context frames"] if causal else ["none of frames (attention is bidirectional)"]
    )
    small = e.outside + (weights - e.outside) // 2
    return _table(
        ("weights", f"{size(sum(e.weights.values()))}: {parts}"),
        ("offload", f"model: {size(max(e.weights.values()))} at a time; blocks: {size(e.outside + 2 * e.block)} of the "
         f"network; with --fp8 the network is {size(small)}"),
        ("activations", f"{size(e.calls_peak)} besides the weights in a model call, {size(e.vae_peak)} in decoding"),
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
