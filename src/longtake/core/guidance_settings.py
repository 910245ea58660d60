"""Guidance: how its branches are mixed at each step, as values that presets hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from longtake.core.errors import SettingsError

StgMode = Literal["attention_values", "attention_skip", "residual", "transformer_block"]
MOST_SCALE = 1000.0  # weight of a branch; beyond it a float has no digits left for the image
STG_MODES: tuple[StgMode, ...] = get_args(StgMode)


@dataclass(frozen=True)
class Perturb:
    """Another pass over the first `rows` videos of a batch, with `blocks` perturbed as the mode says (see `Guidance`)."""

    blocks: tuple[int, ...]
    rows: int
    mode: StgMode = "attention_values"


@dataclass(frozen=True)
class Guidance:
    """How the branches of guidance are mixed. Every tuple holds a value per interval of sigmas, or one for all (also a number).

    Interval i is in force while `down_to[i]` is the first sigma of that list that is not above the noisiest frame; the
    last interval has no end. scale: weight of the prompt; above 1 there is a negative branch (Ho and Salimans 2022).
    stg_scale: weight against a branch that is perturbed in `blocks` (Hyung et al. 2024, STG). stg_mode: how. What the
    self-attention of such a block returns before its output projection is replaced by its values ("attention_values", as
    published for every release) or by its input ("attention_skip"), or the whole block returns its input
    ("transformer_block"). "residual" drops the residual connection inside the attention, as in the published code: the
    attention of LTX-Video has none, so that this mode perturbs nothing and only `guidance_rescale` remains.
    guidance_rescale: share in which the standard deviation of the prompt's branch is restored (Lin et al. 2024, eq. 15
    and 16). cfg_zero_star: scale the negative branch to its projection on the prompt's (Fan et al. 2025, CFG-Zero*).
    full_sample_stats: take deviation and projection over the whole sample, as published, not over the moving frames.
    """

    scale: tuple[float, ...] = (1.0,)
    stg_scale: tuple[float, ...] = (0.0,)
    guidance_rescale: tuple[float, ...] = (0.0,)
    blocks: tuple[tuple[int, ...], ...] = ((),)
    down_to: tuple[float, ...] = ()
    cfg_zero_star: bool = False
    full_sample_stats: bool = False
    stg_mode: StgMode = "attention_values"

    def __post_init__(self):
        if not isinstance(self.stg_mode, str) or self.stg_mode not in STG_MODES:
            raise SettingsError(f"guidance: stg_mode is one of {', '.join(STG_MODES)}, not {self.stg_mode!r}")
        for name in ("scale", "stg_scale", "guidance_rescale", "down_to"):
            if isinstance(number := getattr(self, name), int | float):
                object.__setattr__(self, name, (number,))
        lists = {name: getattr(self, name) for name in ("scale", "stg_scale", "guidance_rescale", "blocks")}
        for name, values in {**lists, "down_to": self.down_to}.items():
            if not isinstance(values, tuple):
                raise SettingsError(f"guidance: {name} is a tuple, with a value per interval of sigmas, not {values!r}")
            if name != "blocks" and not all(isinstance(one, int | float) and abs(one) <= MOST_SCALE for one in values):
                raise SettingsError(f"guidance: {name} holds numbers up to {MOST_SCALE:g}, not {values!r}")
        for name, values in lists.items():
            if len(values) not in (1, len(self.down_to)):
                raise SettingsError(
                    f"guidance: {len(values)} values of {name} for {len(self.down_to)} sigmas: give as many"
                )
        if any(b >= a for a, b in zip(self.down_to, self.down_to[1:])):
            raise SettingsError(f"guidance: the sigmas must fall, not {self.down_to}")
        if any(self.at(i)[1] > 0 and not self.at(i)[3] for i in range(max(1, len(self.down_to)))):
            raise SettingsError("guidance: stg_scale needs the blocks that are perturbed")

    def at(self, i: int) -> tuple[float, float, float, tuple[int, ...]]:
        """Return scale, stg_scale, guidance_rescale and blocks of interval i."""
        scale, stg, rescale = (row[min(i, len(row) - 1)] for row in (self.scale, self.stg_scale, self.guidance_rescale))
        return scale, stg, rescale, self.blocks[min(i, len(self.blocks) - 1)]

    def interval(self, sigma: float) -> int:
        """Return the interval of a sigma. Sigmas within 1e-6 count as equal."""
        return next((i for i, down in enumerate(self.down_to) if down <= sigma + 1e-6), max(0, len(self.down_to) - 1))

    @property
    def plain(self) -> bool:
        """Whether there is no other branch than the prompt's."""
        return all(s <= 1 for s in self.scale) and not any(s > 0 for s in self.stg_scale)
