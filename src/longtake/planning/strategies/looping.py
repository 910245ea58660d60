"""Looping tiles: each is generated from new noise and starts with copies of the last latents (LTX looping sampler).

The tile's version of the overlap is cross-faded with the old one. Positions begin anew in every tile, so a video may be
endless and no position is ever larger than in training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Literal

from longtake.core.errors import PlanError
from longtake.core.geometry import latents_of_frames, place_of_frame
from longtake.core.sigmas import DEFAULT_SCHEDULE, SigmaSchedule, sigmas_of
from longtake.planning.keyframe_columns import KeyframeColumn, with_end_frame, with_keyframes
from longtake.planning.limits import Limits
from longtake.planning.strategies import options as given
from longtake.planning.strategies.options import require
from longtake.planning.strategies.repeated_windows import RepeatedWindows
from longtake.planning.window import Adain, LatentSource, PlanTraits, Role, Window

if TYPE_CHECKING:
    from torch import Tensor

TILE = 120  # output frames, as in the published workflow; 32 of them overlap


@dataclass(frozen=True)
class Looping:
    """Tiles of a fixed length, each from new noise.

    tile: output frames of a tile, whole latents (default: 120, or as many as the model sees at once; the first tile shows
    7 fewer).
    overlap: output frames that two tiles share, whole latents (default: 4 latents of every 15).
    strength: how closely a tile keeps the copies that it starts with; 1 keeps them clean, less starts at a higher sigma.
    adain: how far the latent statistics of a tile move to those of the first tile, against oversaturation (0.1 to 0.3).
    adain_per: take the statistics from the first tile of the shot, or of each scene.
    reference: strength of the first latent of the shot as a keyframe before every tile (0: none).
    image_cond_noise_scale: noise that is added to clean context frames, times sigma squared (LTX).
    """

    schedule: SigmaSchedule = DEFAULT_SCHEDULE
    tile: int | None = None
    overlap: int | None = None
    strength: float = 0.5
    adain: float = 0.0
    adain_per: Literal["shot", "scene"] = "shot"
    reference: float = 0.0
    image_cond_noise_scale: float = 0.0

    def __post_init__(self):
        given.require_choice("adain_per", self.adain_per, ("shot", "scene"))
        given.require_strength(self.strength)
        given.require_share("adain", self.adain)
        given.require_share("reference", self.reference)
        given.require_least("image_cond_noise_scale", self.image_cond_noise_scale, 0)

    @property
    def traits(self) -> PlanTraits:
        """What the engine and the estimates need to know."""
        return PlanTraits(context_frames=self.overlap)

    def windows(
        self,
        num_frames: int | None,
        temporal_compression: int,
        limits: Limits,
        given_latents: int = 0,
        end_latents: int = 0,
    ) -> Iterator[Window]:
        """Give the tiles that generate `num_frames` output frames (see `Plan`)."""
        tile, overlap = self._sizes(temporal_compression, limits)
        given.require_end(num_frames, end_latents)
        given.require_new_frames(num_frames, given_latents, temporal_compression)
        require(
            given_latents < tile,
            f"{given_latents} latent frames are given, which leaves no room in the first tile of {tile}",
        )
        require(
            not limits.causal and limits.conditioning != "concat",
            "looping needs a model that sees all frames of a tile and takes context frames in place: use another --strategy",
        )
        total = None if num_frames is None else latents_of_frames(num_frames, temporal_compression)
        behind = num_frames is None or limits.end == "behind"
        at = None if behind else place_of_frame((num_frames or 0) - 1, temporal_compression, limits.causal_positions)
        return self._windows(total, tile, overlap, given_latents, end_latents, at)

    def _windows(
        self, total: int | None, tile: int, overlap: int, given_latents: int, end_latents: int, at: float | None
    ) -> Iterator[Window]:
        sigmas, finished, repeated = sigmas_of(self.schedule), 0, RepeatedWindows()
        for index in count():
            start = max(0, finished - overlap)
            size = tile if total is None else min(tile, total - start)
            shared, clean = (overlap, 0) if index else (0, given_latents)
            leading = shared + int(self.reference > 0 and bool(shared or clean))
            make = partial(self._tile, sigmas, start, size, shared, clean, overlap)
            window = repeated((index > 0, size), range(start, start + size + leading), make)
            if 2 * overlap > tile:  # a frame is generated again more than once, and not from the same noise
                window = replace(window, noise_draw=index)
            finished = start + size
            last = total is not None and finished >= total
            yield with_end_frame(window, end_latents, at) if last else window
            if last:
                return

    def _tile(self, sigmas: Tensor, start: int, size: int, overlap: int, clean: int, revisable: int) -> Window:
        """Make a tile that generates the first `overlap` frames again, or keeps the first `clean` ones as context."""
        import torch

        table = sigmas[:, None].expand(-1, size).clone()
        table[:, :clean] = 0
        context: list[Role] = ["context"] * clean
        generated: list[Role] = ["generate"] * (size - clean)
        fade = torch.linspace(0, 1, overlap + 1, dtype=torch.float64)[1:-1]  # the first of the overlap stays as it was
        blend = torch.cat([torch.zeros(min(1, overlap)), fade, torch.ones(size - overlap)]) if overlap else None
        window = Window(
            frames=range(start, start + size), sigmas=table, role=[*context, *generated], blend=blend,
            revisable=revisable, adain=Adain(self.adain, self.adain_per) if self.adain else None,
            image_cond_noise_scale=self.image_cond_noise_scale,
        )  # fmt: skip
        columns = [KeyframeColumn(LatentSource("copy", start + i), float(i), self.strength) for i in range(overlap)]
        if self.reference and (overlap or clean):
            columns.append(KeyframeColumn(LatentSource("anchor"), -1.0, self.reference))
        return with_keyframes(window, columns)

    def _sizes(self, temporal_compression: int, limits: Limits) -> tuple[int, int]:
        """Return the latent frames of a tile, and of an overlap."""
        for name, frames in (("tile", self.tile), ("overlap", self.overlap)):
            if frames is not None and (frames < temporal_compression or frames % temporal_compression):
                near = max(1, round(frames / temporal_compression)) * temporal_compression
                raise PlanError(f"--{name} {frames} is not whole latent frames of {temporal_compression}: use {near}")
        most = limits.max_latent_frames
        tile = min(TILE // temporal_compression, most) if self.tile is None else self.tile // temporal_compression
        usual = max(1, round(tile * 4 / 15))
        overlap = usual if self.overlap is None else self.overlap // temporal_compression
        require(
            tile <= most,
            f"--tile {self.tile} is longer than this model sees at once: use at most {most * temporal_compression}",
        )
        require(
            overlap < tile,
            f"tiles of {tile * temporal_compression} frames that share {overlap * temporal_compression} show nothing "
            f"new: use an --overlap of {usual * temporal_compression}" + ("" if tile > 1 else " and a longer --tile"),
        )
        return tile, overlap
