"""Tiles that overlap: each is made whole from fresh noise, led by copies of the tail before it (LTX looping sampler).

What the tile makes of the overlap is cross-faded with what was there; positions begin anew in every tile, so that a
video may be endless and no position is ever larger than in training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Literal

import torch
from torch import Tensor

from longtake.geometry import frames_of_latents, latents_of_frames, place_of_frame
from longtake.noise import GRIDS, Grid
from longtake.plan import Grade, Guide, Limits, PlanError, Repeated, Role, Source, Window, guided, with_guides
from longtake.plans.levels import ladder

TILE = 120  # output frames, as in the published workflow; 32 of them overlap


@dataclass(frozen=True)
class Looping:
    """Tiles of a fixed length, each from fresh noise.

    Each of these is also a flag of the command line, with the text here as its help.

    steps: model calls that take a frame from noise to video.
    shift: above 1 spends more of the steps at high noise.
    grid: how the noise levels are spaced (see noise.ramp).
    levels: the noise levels before every call themselves, as in 1,0.99,0.9,0.7, instead of steps, shift and grid.
    tile: output frames of a tile, whole latents (default: 120, or what the model sees; the first tile shows 7 fewer).
    overlap: output frames that two tiles share, whole latents (default: 4 latents of every 15).
    strength: of the copies of the tail that lead a tile; 1 holds them clean, less lets them be remade as guides.
    adain: share in which a tile takes on the statistics of the first one, against oversaturation (0.1 to 0.3).
    adain_per: that first tile is the one of the "shot", or of the "scene" with its prompt.
    reference: strength of the first latent of the shot as a lasting guide before every tile (0: none).
    cond_noise: untold noise on frames that are held clean, times the level squared (LTX image_cond_noise_scale).
    """

    steps: int = 30
    shift: float = 3.0
    grid: Grid = "linear"
    levels: str = ""
    tile: int | None = None
    overlap: int | None = None
    strength: float = 0.5
    adain: float = 0.0
    adain_per: Literal["shot", "scene"] = "shot"
    reference: float = 0.0
    cond_noise: float = 0.0

    seam = 0
    single = False

    def __post_init__(self):
        _require(self.grid in GRIDS, f"--grid is one of {', '.join(GRIDS)}, not {self.grid!r}")
        _require(self.steps >= 1, f"--steps must be at least 1, not {self.steps}")
        _require(self.adain_per in ("shot", "scene"), f"--adain-per is shot or scene, not {self.adain_per!r}")
        _require(0 < self.strength <= 1, f"--strength must lie in (0, 1], not {self.strength}")
        for name, value in (("adain", self.adain), ("reference", self.reference)):
            _require(0 <= value <= 1, f"--{name} must lie in [0, 1], not {value}")
        _require(self.cond_noise >= 0, f"--cond-noise must be 0 or more, not {self.cond_noise}")
        ladder(self)

    def windows(
        self, frames: int | None, stride: int, limits: Limits, known: int = 0, guides: int = 0
    ) -> Iterator[Window]:
        """The tiles that make `frames` output frames (None: without end).

        known latents are given at the start; guides latents follow the last tile, seen by it and never shown.
        """
        tile, overlap = self._sizes(stride, limits)
        _require(not (guides and frames is None), "an endless video has no last frame: give a length")
        _require(
            frames is None or frames > frames_of_latents(known, stride), f"all {frames} frames are given: ask for more"
        )
        _require(known < tile, f"{known} latent frames are given, which leaves no room in the first tile of {tile}")
        _require(
            not limits.causal and limits.context != "beside", "looping needs a model that sees all frames of a tile"
        )
        total = None if frames is None else latents_of_frames(frames, stride)
        at = place_of_frame(frames - 1, stride) if frames is not None and limits.end == "at" else None
        return self._windows(total, tile, overlap, known, guides, at)

    def _windows(
        self, total: int | None, tile: int, overlap: int, known: int, guides: int, at: float | None
    ) -> Iterator[Window]:
        levels, finished, repeated = ladder(self), 0, Repeated()
        for index in count():
            start = max(0, finished - overlap)
            size = tile if total is None else min(tile, total - start)
            shared, given = (overlap, 0) if index else (0, known)
            leading = shared + int(self.reference > 0 and bool(shared or given))
            make = partial(self._tile, levels, start, size, shared, given, overlap)
            window = repeated((index > 0, size), range(start, start + size + leading), make)
            if 2 * overlap > tile:  # a frame is made again more than once, and not from the same noise
                window = replace(window, draw=index)
            finished = start + size
            last = total is not None and finished >= total
            yield with_guides(window, guides, at) if last else window
            if last:
                return

    def _tile(self, levels: Tensor, start: int, size: int, overlap: int, known: int, hold: int) -> Window:
        """A tile that remakes the first `overlap` of its frames, or holds the first `known` of them clean."""
        table = levels[:, None].expand(-1, size).clone()
        table[:, :known] = 0
        held: list[Role] = ["context"] * known
        made: list[Role] = ["make"] * (size - known)
        fade = torch.linspace(0, 1, overlap + 1, dtype=torch.float64)[1:-1]  # the first of the overlap stays as it was
        blend = torch.cat([torch.zeros(min(1, overlap)), fade, torch.ones(size - overlap)]) if overlap else None
        window = Window(
            frames=range(start, start + size), levels=table, role=[*held, *made], blend=blend, hold=hold,
            grade=Grade(self.adain, self.adain_per) if self.adain else None, cond_noise=self.cond_noise,
        )  # fmt: skip
        copies = [Guide(Source("copy", start + i), float(i), self.strength) for i in range(overlap)]
        lasting = [Guide(Source("first"), -1.0, self.reference)] if self.reference and (overlap or known) else []
        return guided(window, copies + lasting)

    def _sizes(self, stride: int, limits: Limits) -> tuple[int, int]:
        """Latents of a tile, and of an overlap."""
        for name, frames in (("tile", self.tile), ("overlap", self.overlap)):
            if frames is not None and (frames < stride or frames % stride):
                near = max(1, round(frames / stride)) * stride
                raise PlanError(f"--{name} {frames} is not whole latent frames of {stride}: use {near}")
        tile = min(TILE // stride, limits.view) if self.tile is None else self.tile // stride
        overlap = max(1, round(tile * 4 / 15)) if self.overlap is None else self.overlap // stride
        _require(
            tile <= limits.view,
            f"--tile {self.tile} is longer than this model sees: use at most {limits.view * stride}",
        )
        _require(
            overlap < tile,
            f"tiles of {tile * stride} frames that share {overlap * stride} make nothing new: use an --overlap of "
            f"{max(1, round(tile * 4 / 15)) * stride}" + ("" if tile > 1 else " and a longer --tile"),
        )
        return tile, overlap


def _require(true: bool, message: str) -> None:
    if not true:
        raise PlanError(message)
