"""Conditional clips: a track beside the video (speech, a pose, an envelope), sliced for every window, with its own scale.

A track has a row for every output frame of the whole video, so a clip that repeats the end of the one before is told the
rows of the frames that it repeats. Guidance has two scales, one of the text and one of the track.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from longtake.geometry import first_frame
from longtake.models.base import Cond, Model, Past, Session, Text
from longtake.plan import PlanError, Window


@dataclass(frozen=True)
class Track:
    """values (T, D): a row per output frame from the start of the video. after: what follows its end, "hold" the last row
    or "silence" (zeros). scale: how much it counts (1: as the model sees fit)."""

    values: Tensor
    after: str = "hold"
    scale: float = 1.0

    def __post_init__(self):
        if self.values.ndim != 2 or not len(self.values) or not torch.isfinite(self.values).all():
            raise PlanError(f"a track is a table of numbers, a row per frame, not {tuple(self.values.shape)}")
        if self.after not in ("hold", "silence"):
            raise PlanError(f"behind its end a track goes on with hold or silence, not {self.after!r}")

    def suits(self, model: Model) -> None:
        """PlanError unless the model is told of as many numbers for a frame."""
        if self.values.shape[1] != model.track:
            takes = f"takes one of {model.track} numbers" if model.track else "takes none"
            raise PlanError(f"the track has {self.values.shape[1]} numbers for a frame, and {model.name} {takes}")

    def rows(self, frames: Sequence[int]) -> Tensor:
        """The rows of these output frames (N, D); frames before the start have the first row."""
        at = torch.tensor(frames).clamp_min(0)
        found = self.values[at.clamp_max(len(self.values) - 1)]
        if self.after == "silence":
            found = torch.where((at < len(self.values))[:, None], found, torch.zeros_like(found))
        return found

    def sliced(self, latents: Sequence[int], start: int, stride: int) -> Tensor:
        """What latent frames of a take that begins at output frame `start` are told (F, stride, D).

        The first latent of a take holds one frame, which is told `stride` times, as in a causal codec.
        """
        numbers = []
        for latent in latents:
            first = start + first_frame(latent, stride)
            numbers += [first] * stride if latent == 0 else list(range(first, first + stride))
        return self.rows(numbers).unflatten(0, (len(latents), stride))


def read(path: Path, rate: float) -> Tensor:
    """The rows (T, D) in a file: of a .csv a row of numbers per output frame; of a sound, how loud it is in every frame at
    this rate, from 0 to 1 at its loudest. PlanError if it cannot be read.
    """
    if not path.is_file():
        raise PlanError(f"there is no track {path}: give the path of a .csv or of a sound")
    if path.suffix.lower() != ".csv":
        return _loudness(path, rate)
    try:
        return torch.from_numpy(np.loadtxt(path, delimiter=",", ndmin=2, dtype=np.float32))
    except (ValueError, UnicodeDecodeError) as error:
        raise PlanError(f"{path} is no table of numbers, a row for each frame: {error}") from error


SAMPLES = 16000  # of a sound, per second


def _loudness(path: Path, rate: float) -> Tensor:
    import av

    try:
        with av.open(f"file:{path}") as container:
            resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLES)
            pieces = (part for frame in chain(container.decode(audio=0), [None]) for part in resampler.resample(frame))
            parts = [piece.to_ndarray()[0] for piece in pieces]
    except (av.error.FFmpegError, IndexError) as error:
        raise PlanError(f"{path} cannot be read as a sound: {error}") from error
    sound = np.concatenate([*parts, np.zeros(0, np.float32)])
    edges = [int(n * SAMPLES / Fraction(rate)) for n in range(int(len(sound) * Fraction(rate) / SAMPLES) + 1)]
    loud = np.array([np.sqrt((sound[a:b] ** 2).mean()) for a, b in pairwise(edges)], np.float32)
    if not len(loud):
        raise PlanError(f"{path} is shorter than a frame: give a longer sound")
    return torch.from_numpy(loud / max(float(loud.max()), 1e-6))[:, None]


class TwoScales:
    """A Session of three branches: v = u + text (c - d) + track (d - u) (published for SVI-Talk).

    c: prompt and track; d: negative prompt and track; u: negative prompt and no track. The image stays in all of them.
    A scale of 1 needs no branch of its own.
    """

    def __init__(self, session: Callable[[], Session], text: float, track: float, negative: Text):
        self.text, self.track, self.negative = text, track, negative
        names = ["c", *(["d"] if text != 1 or track != 1 else []), *(["u"] if track != 1 else [])]
        self.sessions = {name: session() for name in names}

    def begin(self, window: Window, past: Past, cond: Cond) -> None:
        """See `Session`."""
        negative = replace(cond, texts=tuple(self.negative for _ in cond.texts))
        told = {"c": cond, "d": negative, "u": replace(negative, track=None)}
        for name, session in self.sessions.items():
            session.begin(window, past, told[name])

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        """See `Session`."""
        found = {name: session(x, level) for name, session in self.sessions.items()}
        c, d = found["c"], found.get("d", found["c"])
        u = found.get("u", d)
        return u + self.text * (c - d) + self.track * (d - u)

    def finish(self, window: Window, x: Tensor) -> None:
        """See `Session`."""
        for session in self.sessions.values():
            session.finish(window, x)

    def state(self) -> dict[str, Tensor]:
        """See `Session`."""
        return {f"{name}.{k}": t for name, session in self.sessions.items() for k, t in session.state().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `Session`."""
        for name, session in self.sessions.items():
            mine = f"{name}."
            session.load({k.removeprefix(mine): t for k, t in state.items() if k.startswith(mine)})
