"""Prompt following of a pocket model on unseen prompts, as the judge reads it from the frames alone.

    python -m longtake.eval.pocket_benchmark --prompts 60
    python -m longtake.eval.pocket_benchmark --prompts 12 --windows 8
    python -m longtake.eval.pocket_benchmark --prompts 60 --switch

Three more rows frame the model's: the judge on true renders (the best possible), on the same renders after encoding and
decoding (what the VAE preserves), and on the model's videos paired with other prompts (a model that ignores its prompt).
--windows compares the first window of a long video with its last one. --switch changes one fact of the prompt after the
first window, and judges the frames that begin 63 frames later, fewer than a window adds. Intervals are Wilson 95 %.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from longtake.core.process.standard_streams import protect_streams
from longtake.eval.pocket_prompts import (
    SEED,
    WINDOW,
    Prompt,
    Sampling,
    VideoRequest,
    generate_all,
    training_combinations,
    unseen_prompts,
)
from longtake.media.contact_sheet import save_sheet
from longtake.models import load
from longtake.models.interfaces import VAE
from longtake.models.model import Model
from longtake.planning.script import Scene
from longtake.pocket.facts import JUDGED
from longtake.pocket.judge import Share, Verdict, background, judge, score

SWITCHED = ("colour", "scenery", "motion")  # facts that --switch changes, in turn
Scores = Mapping[str, Share]  # {colour, shape, motion, scenery: share}


@dataclass(frozen=True)
class Outcome:
    """Scores by row of the table, the model's videos (T, 3, S, S), and a sentence about them, if there is one to say."""

    rows: Mapping[str, Scores]
    videos: Sequence[Tensor]
    remark: str = ""


@torch.no_grad()
def reconstruct(vae: VAE, frames: Tensor) -> Tensor:
    """Encode and decode frames (T, 3, S, S) in [0, 1]."""
    decoder, latents = vae.decoder(), vae.encode((frames * 2 - 1).transpose(0, 1)[None])
    video = torch.cat([decoder.push(latents), decoder.flush()], 2)
    return (video[0].transpose(0, 1) / 2 + 0.5).clamp(0, 1)


def psnr(a: Tensor, b: Tensor) -> float:
    """Return the peak signal-to-noise ratio of two pictures in [0, 1], in dB."""
    return float(-10 * (a - b).pow(2).mean().clamp_min(1e-10).log10())


# ---------------------------------------------------------------- experiments
def shuffled(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Pair each verdict with another prompt: the scores of a model that ignores its prompt."""
    return [*verdicts[1:], *verdicts[:1]]


def prompt_following(model: Model, prompts: Sequence[Prompt], sampling: Sampling, jobs: int = 1) -> Outcome:
    """Score true renders, their reconstructions, the model, and the model's videos with shuffled prompts."""
    facts = [prompt.facts for prompt in prompts]
    truth = [prompt.rendered() for prompt in prompts]
    videos = generate_all(model, [prompt.request(model) for prompt in prompts], sampling, jobs)
    verdicts = [judge(video) for video in videos]
    rows = {
        "true renders": score(facts, [judge(frames) for frames in truth]),
        "after the VAE": score(facts, [judge(reconstruct(model.vae, frames)) for frames in truth]),
        model.name: score(facts, verdicts),
        "other prompts": score(facts, shuffled(verdicts)),
    }
    return Outcome(rows, videos)


def first_and_last_window(
    model: Model, prompts: Sequence[Prompt], windows: int, sampling: Sampling, jobs: int = 1
) -> Outcome:
    """Score the first and the last window of long videos, and compare their sceneries by PSNR."""
    frames = WINDOW + (windows - 1) * _new_frames(model)
    videos = generate_all(model, [prompt.request(model, frames=frames) for prompt in prompts], sampling, jobs)
    facts = [prompt.facts for prompt in prompts]
    ends = {"window 1": [v[:WINDOW] for v in videos], f"window {windows}": [v[-WINDOW:] for v in videos]}
    likeness = [psnr(background(v[:WINDOW]), background(v[-WINDOW:])) for v in videos]
    rows = {name: score(facts, [judge(clip) for clip in clips]) for name, clips in ends.items()}
    median = float(torch.tensor(likeness).median())
    return Outcome(rows, videos, f"The sceneries of both windows agree to {median:.1f} dB (median).")


def prompt_switches(model: Model, prompts: Sequence[Prompt], sampling: Sampling, jobs: int = 1) -> Outcome:
    """Score videos whose prompt changes in one fact after the first window, a row for each fact that changes."""
    later = [prompt.changed(SWITCHED[number % len(SWITCHED)]) for number, prompt in enumerate(prompts)]
    lengths = (WINDOW / model.fps, 2 * _new_frames(model) / model.fps)
    requests = [
        old.request(model, (Scene(old.text, lengths[0]), Scene(new.text, lengths[1])))
        for old, new in zip(prompts, later)
    ]
    videos = generate_all(model, requests, sampling, jobs)
    rows = {}
    for number, name in enumerate(SWITCHED):
        facts = [prompt.facts for prompt in later[number :: len(SWITCHED)]]
        verdicts = [judge(video[-WINDOW:]) for video in videos[number :: len(SWITCHED)]]
        rows[f"new {name}"] = score(facts, verdicts)
    return Outcome(rows, videos)


def _new_frames(model: Model) -> int:
    """Return the number of frames that every window but the first adds."""
    return WINDOW - model.defaults.strategy_options.get("overlap", 17)


def describe(prompt: Prompt, video: Tensor) -> str:
    """Return a prompt and the facts of it that the first window does not show."""
    verdict = judge(video[:WINDOW])
    wrong = [f"{n} {getattr(verdict, n)}" for n in JUDGED if getattr(verdict, n) != getattr(prompt.facts, n)]
    return f"{prompt.text}: {', '.join(wrong) or 'all facts shown'}"


def table(rows: Mapping[str, Scores]) -> str:
    """Return the scores in per cent, as text."""
    head = f"{'':18}" + "".join(f"{name:>16}" for name in JUDGED)
    return "\n".join([head, *(f"{name:18}" + "".join(f"{row[f]!s:>16}" for f in JUDGED) for name, row in rows.items())])


# ---------------------------------------------------------------- command
def main(arguments: Iterable[str] | None = None) -> None:
    """Run the experiment that the command line names, print its table and write its files."""
    args = _parser().parse_args(None if arguments is None else list(arguments))
    torch.set_num_threads(args.threads)
    model, start = load(args.model), time.monotonic()
    sampling = Sampling(args.steps, args.shift, args.guidance, args.solver, args.context_noise)
    if args.show:
        return show(model, args.show, args.seed, sampling, args.output or Path("."))
    prompts = unseen_prompts(args.prompts, args.seed, training_combinations(model))
    if args.brief:
        prompts = [prompt.briefly() for prompt in prompts]
    if args.windows > 1:
        outcome = first_and_last_window(model, prompts, args.windows, sampling, args.jobs)
    else:
        outcome = (prompt_switches if args.switch else prompt_following)(model, prompts, sampling, args.jobs)
    if args.verbose:
        print(*(describe(prompt, video) for prompt, video in zip(prompts, outcome.videos)), sep="\n")
    print(*filter(None, (table(outcome.rows), outcome.remark)), sep="\n")
    print(f"{len(prompts)} unseen prompts took {time.monotonic() - start:.0f} s.")
    if args.output is not None:
        write(outcome, prompts, sampling, args.output, args.rows)
    return None


def write(outcome: Outcome, prompts: Sequence[Prompt], sampling: Sampling, output: Path, rows: int) -> None:
    """Write a contact sheet of the first `rows` videos, and the scores as JSON."""
    output.mkdir(parents=True, exist_ok=True)
    save_sheet(output / "sheet.png", [(p.text, v) for p, v in zip(prompts, outcome.videos)][:rows])
    scores = {name: {fact: asdict(share) for fact, share in row.items()} for name, row in outcome.rows.items()}
    (output / "scores.json").write_text(
        json.dumps({"settings": sampling.options(), **scores}, indent=2) + "\n", encoding="utf-8", newline="\n"
    )
    print(f"Wrote {output / 'sheet.png'} and {output / 'scores.json'}.")


def show(model: Model, texts: Sequence[str], seed: int, sampling: Sampling, output: Path) -> None:
    """Write a contact sheet of the user's own prompts, without judging them."""
    output.mkdir(parents=True, exist_ok=True)
    videos = generate_all(model, [VideoRequest(text, seed) for text in texts], sampling)
    save_sheet(output / "sheet.png", list(zip(texts, videos)))
    print(f"Wrote {output / 'sheet.png'}.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m longtake.eval.pocket_benchmark", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--prompts", type=int, default=60, help="Number of prompts.")
    parser.add_argument("--model", default="pocket", help="Name or folder of the model.")
    parser.add_argument("--seed", type=int, default=SEED, help="First seed of the prompts and the noise.")
    parser.add_argument(
        "--windows", type=int, default=1, help="Windows of a video; above 1, the first and last compare."
    )
    parser.add_argument("-o", "--output", type=Path, help="Folder for a contact sheet and the scores as JSON.")
    parser.add_argument("--rows", type=int, default=24, help="Rows of the contact sheet.")
    parser.add_argument(
        "--show", nargs="+", metavar="PROMPT", help="Generate only these prompts, without judging them."
    )
    parser.add_argument("--steps", type=int, help="Model calls per window.")
    parser.add_argument("--shift", type=float, help="Shift of the sigmas.")
    parser.add_argument("--guidance", type=float, help="Classifier-free guidance scale.")
    parser.add_argument("--solver", default="euler", help="Sampler: euler or unipc.")
    parser.add_argument("--context-noise", type=float, help="Sigma of the noise on context frames.")
    parser.add_argument("--switch", action="store_true", help="Change one fact of the prompt after the first window.")
    parser.add_argument("--brief", action="store_true", help="Use prompts that state the motion alone.")
    parser.add_argument("--jobs", type=int, default=1, help="Processes that generate videos, of one thread each.")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of PyTorch.")
    parser.add_argument("--verbose", action="store_true", help="Print a line for every prompt.")
    return parser


if __name__ == "__main__":
    protect_streams()
    main()
