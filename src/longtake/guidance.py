"""How the branches of guidance are mixed, call by call: values, that presets hold and `guide` carries out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Perturb:
    """Run the first `rows` videos of a batch once more, with the self-attention of these blocks replaced by its values."""

    blocks: tuple[int, ...]
    rows: int


@dataclass(frozen=True)
class Guidance:
    """How the branches of guidance are mixed. Every tuple holds a value per interval of noise levels, or one for all.

    The value i holds where `down_to[i]` is the first level of that list that is not above the noisiest frame; the last
    also below them all. scale: how much the prompt counts; above 1 there is a negative branch (Ho and Salimans 2022).
    stg: how far to go from a branch whose self-attention is replaced by its values in `blocks` (Hyung et al. 2024).
    rescale: the share in which the standard deviation of the prompt's branch is restored (Lin et al. 2024, eq. 15 and 16).
    star: the negative branch is scaled to its projection on the prompt's (Fan et al. 2025, CFG-Zero*).
    whole: deviation and projection are those of the whole sample, as published, not of the frames that move.
    """

    scale: tuple[float, ...] = (1.0,)
    stg: tuple[float, ...] = (0.0,)
    rescale: tuple[float, ...] = (0.0,)
    blocks: tuple[tuple[int, ...], ...] = ((),)
    down_to: tuple[float, ...] = ()
    star: bool = False
    whole: bool = False

    def __post_init__(self):
        lists = {"scale": self.scale, "stg": self.stg, "rescale": self.rescale, "blocks": self.blocks}
        for name, values in lists.items():
            if len(values) not in (1, len(self.down_to)):
                raise ValueError(
                    f"guidance: {len(values)} values of {name} for {len(self.down_to)} levels: give as many"
                )
        if any(b >= a for a, b in zip(self.down_to, self.down_to[1:])):
            raise ValueError(f"guidance: the levels must fall, not {self.down_to}")
        if any(self.at(i)[1] > 0 and not self.at(i)[3] for i in range(max(1, len(self.down_to)))):
            raise ValueError("guidance: stg needs the blocks whose self-attention is replaced")

    def at(self, i: int) -> tuple[float, float, float, tuple[int, ...]]:
        """scale, stg, rescale and blocks of interval i."""
        scale, stg, rescale = (row[min(i, len(row) - 1)] for row in (self.scale, self.stg, self.rescale))
        return scale, stg, rescale, self.blocks[min(i, len(self.blocks) - 1)]

    def interval(self, level: float) -> int:
        """The interval of a noise level. Levels within 1e-6 count as equal."""
        return next((i for i, down in enumerate(self.down_to) if down <= level + 1e-6), max(0, len(self.down_to) - 1))

    @property
    def plain(self) -> bool:
        """Whether the prompt's branch is all there is."""
        return all(s <= 1 for s in self.scale) and not any(s > 0 for s in self.stg)
