"""The report of bench/drift.py: drift curves, slopes with intervals, and arms compared video by video."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from common import report as print_and_append
from torch import Tensor

from longtake.eval.charts import drift_chart
from longtake.eval.intervals import bootstrap, paired_difference, paired_ratio, slopes, start_end
from longtake.metrics import METRICS as ANY_FOOTAGE
from longtake.pocket.metrics import POCKET_METRICS

METRICS = {**ANY_FOOTAGE, **POCKET_METRICS}
FRAMES = 80  # frames of a segment: as many as a window of 97 adds to an overlap of 17
FOLLOWS = "follows"  # whether the judge reads the motion of the prompt, 0 or 1: a still video drifts little
Curves = dict[str, dict[str, Tensor]]  # {arm: {metric: (videos, segments)}}


def rows(out: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of segments.jsonl, up to a torn last line."""
    path = out / "segments.jsonl"
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            yield json.loads(line)
        except ValueError:
            return


def curves(outs: Sequence[Path], arms: Sequence[str], count: int) -> Curves:
    """Return the drift of the videos that every arm has finished, in any of the folders.

    Raises SystemExit if there is none, or if a folder was measured with other metrics.
    """
    table = {(row["arm"], row["seed"], row["segment"]): row for out in outs for row in rows(out)}
    if missing := {name for row in table.values() for name in (*METRICS, FOLLOWS) if name not in row}:
        raise SystemExit(
            f"{outs[0]} was measured without {', '.join(sorted(missing))}: measure it again in a new folder"
        )
    seeds = sorted({seed for _, seed, _ in table})
    whole = [seed for seed in seeds if all((arm, seed, count - 1) in table for arm in arms)]
    if not whole:
        raise SystemExit(f"no video was finished by every arm ({', '.join(arms)}): continue the run first")
    return {
        arm: {
            name: torch.tensor([[table[arm, seed, n][name] for n in range(count)] for seed in whole])
            for name in (*METRICS, FOLLOWS)
        }
        for arm in arms
    }


def joined(outs: Sequence[Path]) -> Curves:
    """Return the drift in several folders, for the arms and the number of segments of the first one."""
    about = json.loads((outs[0] / "settings.json").read_text())
    return curves(outs, [arm["name"] for arm in about["arms"]], about["segments"])


def report(found: Curves, against: Sequence[str] = ()) -> str:
    """Return slopes, start-end differences and prompt following of every arm, and comparisons of the arms, as Markdown.

    Arms are compared with the first one and with those of `against`.
    """
    base = next(iter(found))
    videos, count = next(iter(found[base].values())).shape
    head = "| metric | " + " | ".join(found) + " |"
    lines = [
        f"{videos} videos of {count} segments of {FRAMES} frames per arm; 95 % bootstrap intervals over videos.",
        "",
    ]
    for title, of in (("Slope per segment", slopes), ("Last quarter minus first quarter", start_end)):
        lines += [f"## {title}", "", head, "|---" * (len(found) + 1) + "|"]
        for name, metric in METRICS.items():
            cells = [str(bootstrap(of(arm[name]))) for arm in found.values()]
            lines.append(f"| {metric.title} ({metric.unit}) | " + " | ".join(cells) + " |")
        lines.append("")
    shares = [str(bootstrap(100 * arm[FOLLOWS].double().mean(1))) for arm in found.values()]
    lines += ["## Segments that move as the prompt says, in per cent", "", "| " + " | ".join(found) + " |"]
    lines += ["|---" * len(found) + "|", "| " + " | ".join(shares) + " |", ""]
    for other in dict.fromkeys((base, *against)):
        for arm in found:
            if arm not in (base, other):
                lines += compared(found, arm, other)
    return "\n".join(lines)


def compared(found: Curves, arm: str, other: str) -> list[str]:
    """Return the comparison of two arms, video by video, as lines of Markdown."""
    lines = [f"## {arm} against {other}", "", "| metric | ratio of slopes | difference of slopes |", "|---|---|---|"]
    for name, metric in METRICS.items():
        mine, theirs = slopes(found[arm][name]), slopes(found[other][name])
        lines.append(f"| {metric.title} | {paired_ratio(mine, theirs)} | {paired_difference(mine, theirs)} |")
    mine, theirs = (100 * found[name][FOLLOWS].double().mean(1) for name in (arm, other))
    return [*lines, "", f"Segments that move as the prompt says: {paired_difference(mine, theirs)} points more.", ""]


def figures(found: Mapping[str, Mapping[str, Tensor]]) -> dict[str, tuple[float, str]]:
    """Return the mean slope of every arm and metric, and the share of segments that move as the prompt says."""
    slope = {
        f"{arm}: {metric.title.lower()}": (float(slopes(table[name]).mean()), f"{metric.unit} per segment")
        for arm, table in found.items()
        for name, metric in METRICS.items()
    }
    return slope | {f"{arm}: {FOLLOWS}": (100 * float(table[FOLLOWS].mean()), "%") for arm, table in found.items()}


def show(found: Curves, against: Sequence[str], out: Path) -> None:
    """Write drift.md with its curves and the strips in the folder, print the slopes, and append them to the results."""
    (out / "curves.svg").write_text(drift_chart(found, METRICS))
    strips = "".join(f"![{path.stem}](strips/{path.name})\n" for path in sorted((out / "strips").glob("*.png")))
    (out / "drift.md").write_text(f"# Drift\n\n![curves](curves.svg)\n\n{report(found, against)}\n{strips}")
    videos, count = next(iter(next(iter(found.values())).values())).shape
    print_and_append("drift", figures(found), arms=list(found), videos=videos, segments=count)
    print(f"Wrote {out / 'drift.md'} and {out / 'curves.svg'}.")
