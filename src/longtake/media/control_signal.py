"""Control signals from files: a .csv with a row of numbers per output frame, or a sound whose loudness is measured."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from longtake.core.errors import InputError
from longtake.core.files import problem_of, read_text
from longtake.core.finite import non_finite_rows
from longtake.media import unreadable

SAMPLE_RATE = 16000  # of a sound, in samples per second


def read_control(path: Path, fps: float) -> Tensor:
    """Read a control signal as rows (T, D), one for each output frame.

    A .csv holds a row of D numbers per output frame. Any other file is decoded as sound: D = 1, the loudness (RMS) of each
    frame at `fps` frames per second, divided by that of the loudest frame. Raises InputError if the file cannot be read.
    """
    if problem := problem_of(path):
        raise InputError(f"there is no control signal {path}: {problem}; give the path of a .csv or a sound file")
    if path.suffix.lower() != ".csv":
        return _loudness(path, fps)
    try:
        lines = [line for line in read_text(path).splitlines() if line.partition("#")[0].strip()]
        values = np.loadtxt(lines, delimiter=",", ndmin=2, dtype=np.float32) if lines else np.zeros((0, 1))
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path} is not a table with a row of numbers for each frame: {error}") from error
    if not len(values):
        raise InputError(f"{path} is empty: write a row of numbers for each frame")
    if bad := non_finite_rows(rows := torch.from_numpy(values)):
        raise InputError(f"{path}: the row of frame {bad[0]} holds NaN or infinity: give finite numbers")
    return rows


def _loudness(path: Path, fps: float) -> Tensor:
    """The root mean square of each frame, measured in constant memory."""
    rate, squares, rest = Fraction(fps), list[float](), np.zeros(0, np.float32)
    done = 0  # samples that belong to measured frames
    for samples in _decoded(path):
        if not np.isfinite(samples).all():
            raise InputError(f"{path} has samples that are not finite: save the sound again without them")
        rest = np.concatenate([rest, samples])
        while done + len(rest) >= (end := int((len(squares) + 1) * SAMPLE_RATE / rate)):
            squares.append(float((rest[: end - done] ** 2).mean()) if end > done else 0.0)
            rest, done = rest[end - done :], end
    if not squares:
        raise InputError(f"{path} is shorter than one frame: give a longer sound")
    loudness = np.sqrt(np.array(squares, np.float32))
    return torch.from_numpy(loudness / max(float(loudness.max()), 1e-6))[:, None]


def _decoded(path: Path) -> Iterator[np.ndarray]:
    """The samples of a sound, mono, at SAMPLE_RATE, a few at a time."""
    try:
        with av.open(f"file:{path}", metadata_errors="replace") as container:
            resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
            for frame in chain(container.decode(audio=0), [None]):
                yield from (piece.to_ndarray()[0] for piece in resampler.resample(frame))
    except IndexError as error:
        raise InputError(f"{path} cannot be read as a sound: it holds none") from error
    except av.error.FFmpegError as error:
        raise InputError(f"{path} cannot be read as a sound: {unreadable.reason(path) or error}") from error
