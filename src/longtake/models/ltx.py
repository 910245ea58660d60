"""The LTX-Video transformer with a noise level per latent frame or per token.

Weight names are those of diffusers' LTXVideoTransformer3DModel. Shapes: B videos, C latent channels, F latent frames,
H W latent size, S = H * W tokens per frame, K tokens kept, D width, L text tokens, U distinct noise levels.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from longtake.guidance import Perturb
from longtake.models import weights
from longtake.models.layers import TanhGelu, runs, wide
from longtake.models.ltx_block import Block, Call, Levels, TextMemory, rotary
from longtake.plan import PlanError

SECONDS, PIXELS = 20.0, 2048.0  # the window of positions that the network was trained for


@dataclass(frozen=True)
class LTXConfig:
    """Shape of a network; the names are those of diffusers' config.json.

    causal_temporal_positioning: a latent stands where its first frame is (0.9.5 and later), not `stride` frames apart
    from the start. stride, scale: frames and pixels per latent, of the codec.
    """

    in_channels: int = 128
    out_channels: int = 128
    patch_size: int = 1
    patch_size_t: int = 1
    num_attention_heads: int = 32
    attention_head_dim: int = 64
    cross_attention_dim: int = 2048
    num_layers: int = 28
    activation_fn: str = "gelu-approximate"
    qk_norm: str = "rms_norm_across_heads"
    norm_elementwise_affine: bool = False
    norm_eps: float = 1e-6
    caption_channels: int = 4096
    attention_bias: bool = True
    attention_out_bias: bool = True
    causal_temporal_positioning: bool = False
    stride: int = 8
    scale: int = 32

    def __post_init__(self):
        fixed = dict(
            patch_size=1, patch_size_t=1, activation_fn="gelu-approximate", qk_norm="rms_norm_across_heads",
            norm_elementwise_affine=False, attention_bias=True, attention_out_bias=True,
        )  # fmt: skip
        for name, value in fixed.items():
            if getattr(self, name) != value:
                raise ValueError(f"{name} is {getattr(self, name)!r}, but that of an LTX network is {value!r}")
        if self.cross_attention_dim != self.dim:
            raise ValueError(
                f"cross_attention_dim is {self.cross_attention_dim}; the projected text is {self.dim} wide"
            )
        if self.attention_head_dim % 2 or self.dim < 12:
            raise ValueError(f"rotary positions need an even attention_head_dim and 12 channels, not {self.dim}")

    @property
    def dim(self) -> int:
        """Width of the network."""
        return self.num_attention_heads * self.attention_head_dim

    @property
    def back(self) -> int:
        """Frames by which latents after the first stand earlier: the first latent holds only one."""
        return self.stride - 1 if self.causal_temporal_positioning else 0

    def view(self, fps: float) -> int:
        """The most latent frames that stand within the window of positions."""
        return 1 + math.floor((SECONDS * fps + self.back) / self.stride + 1e-9)

    def frames(self, positions: Sequence[float], fps: float) -> list[float]:
        """The output frame at which a latent at each position (in latent frames) stands. PlanError past 20 seconds.

        Positions below 0 are of references: `stride` frames apart, before the first.
        """
        found = [self.stride * p - min(self.back, self.stride * max(p, 0.0)) for p in positions]
        if max(found) > SECONDS * fps * (1 + 1e-9):
            most = self.view(fps) - (max(positions) % 1 > 0)  # a picture inside the last latent stands behind it
            raise PlanError(
                f"a window that reaches {max(found) / fps:.1f} s, but the positions of this network end at "
                f"{SECONDS:g} s: use a window of at most {1 + self.stride * (most - 1)} frames at {fps:g} fps"
            )
        return found


def load(folder: Path | str, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> LTXTransformer:
    """The network of a folder with config.json and safetensors."""
    return weights.load(LTXTransformer, weights.configure(LTXConfig, folder), folder, (), dtype, device)


def tiny(**changes: Any) -> LTXConfig:
    """The config of a network for tests: two layers, 20 wide, so that two channels do not turn."""
    small: dict[str, Any] = dict(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=10, cross_attention_dim=20,
        num_layers=2, caption_channels=10, scale=8,
    )  # fmt: skip
    return LTXConfig(**(small | changes))


def timestep(level: Tensor) -> Tensor:
    """LTX counts noise from 0 to 1000."""
    return 1000.0 * level


def sinusoid(time: Tensor, width: int = 256) -> Tensor:
    """Sinusoidal code (..., width) of times (...): cosines, then sines, of frequencies 10000^(-2i/width)."""
    half = width // 2
    frequency = torch.exp(torch.arange(half, dtype=torch.float64, device=time.device) * (-math.log(10000.0) / half))
    angle = time.double()[..., None] * frequency
    return torch.cat((angle.cos(), angle.sin()), -1)


class Mlp(nn.Module):
    """Two linear layers under the names diffusers gives them."""

    def __init__(self, dim: int, out: int, act: nn.Module):
        super().__init__()
        self.linear_1, self.act, self.linear_2 = nn.Linear(dim, out), act, nn.Linear(out, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(self.act(self.linear_1(x.to(self.linear_1.weight.dtype))))


class TimeEmbed(nn.Module):
    """AdaLN-single: times (U,) to codes (U, D) for the head and (U, 6, D) for all blocks (Chen et al. 2023)."""

    def __init__(self, dim: int):
        super().__init__()
        self.emb = nn.ModuleDict({"timestep_embedder": Mlp(256, dim, nn.SiLU())})
        self.linear = nn.Linear(dim, 6 * dim)

    def forward(self, time: Tensor) -> tuple[Tensor, Tensor]:
        head = self.emb["timestep_embedder"](sinusoid(time))
        return head, self.linear(nnf.silu(head)).unflatten(-1, (6, -1))


class LTXTransformer(nn.Module):
    """Velocity (noise - video) of latent frames, each frame or token at its own noise level.

    checkpointing: recompute blocks in the backward pass instead of keeping their activations.
    """

    def __init__(self, config: LTXConfig):
        super().__init__()
        self.config = config
        self.checkpointing = False
        dim = config.dim
        self.proj_in = nn.Linear(config.in_channels, dim)
        self.time_embed = TimeEmbed(dim)
        self.caption_projection = Mlp(config.caption_channels, dim, TanhGelu())
        self.transformer_blocks = nn.ModuleList(
            Block(dim, config.num_attention_heads, config.cross_attention_dim, config.norm_eps)
            for _ in range(config.num_layers)
        )
        self.scale_shift_table = nn.Parameter(torch.randn(2, dim) / dim**0.5)
        self.proj_out = nn.Linear(dim, config.out_channels)
        self._ropes: OrderedDict[tuple, Tensor] = OrderedDict()

    @property
    def blocks(self) -> nn.ModuleList:
        """The layers, from the first to the last."""
        return self.transformer_blocks

    def forward(
        self, x_BCFHW: Tensor, level: Tensor, text: Tensor | TextMemory | Sequence[TextMemory],
        positions: Sequence[float] | Tensor | None = None, *, scene: Sequence[int] | None = None,
        fps: float = 24.0, keep: Tensor | None = None, perturb: Perturb | None = None,
    ) -> Tensor:  # fmt: skip
        """Velocity (B C F H W), or (B C K) of the tokens kept.

        level: (), (F,), (B, F), (B, 1), or (B, F, H, W) for one per token. text: embeddings (B, L, caption_channels),
        in which rows of zeros are padding, or what `text_memory` made of one prompt or of several, with `scene`
        telling which one each frame follows. positions: (F,) where frames stand in time, in latent frames; 0, 1, 2...
        if not given. keep: (B, K) numbers of the tokens that the network sees at all, counted frame by frame, row by
        row (token dropping in training; one prompt only). perturb: videos to run once more, perturbed, whose
        velocities come after the others; they share all that comes before the first perturbed block.
        """
        if isinstance(text, Tensor):
            text = self.text_memory(text)
        texts = [text] if isinstance(text, TextMemory) else text
        frames, height, width = x_BCFHW.shape[2:]
        scenes = [(0, 0, frames)] if scene is None else list(runs(scene))
        levels = self._levels(level)
        rope = self.places(range(frames) if positions is None else positions, height, width, fps)
        x_BFSC = x_BCFHW.permute(0, 2, 3, 4, 1).flatten(2, 3)
        if keep is not None:
            x_BFSC, levels, rope, scenes = kept(keep, x_BFSC, levels, rope, scenes)
        out = self.run(x_BFSC, Call(texts, scenes, levels, rope), perturb)
        return out.unflatten(3, (height, width)) if keep is None else out.flatten(2)

    def tokens(self, x_BKC: Tensor, level: Tensor, text: Tensor | TextMemory, rope: Tensor) -> Tensor:
        """Velocity (B C K) of tokens of videos that differ in length and size: each has as many, at its own places.

        level: (B, K) of the tokens. text: one prompt per video. rope: (B, K, D/2), rows of the `places` of each video.
        """
        texts = [self.text_memory(text) if isinstance(text, Tensor) else text]
        return self.run(x_BKC[:, None], Call(texts, [(0, 0, 1)], self._levels(level[:, None, None]), rope)).flatten(2)

    def run(self, x_BFSC: Tensor, call: Call, perturb: Perturb | None = None) -> Tensor:
        """All layers: tokens in rows to velocities (B C F S)."""
        x_BFSD = self.proj_in(x_BFSC.to(self.proj_in.weight.dtype))
        for index, block in enumerate(self.blocks):
            if perturb is not None and index == perturb.blocks[0]:
                x_BFSD, call = torch.cat([x_BFSD, x_BFSD[: perturb.rows]]), call.repeated(perturb.rows)
            if perturb is not None and index in perturb.blocks:
                x_BFSD = block(x_BFSD, call.told(index), call, perturb.rows)
                continue
            if self.checkpointing and torch.is_grad_enabled():
                x_BFSD = checkpoint(
                    block, x_BFSD, call.told(index), call, use_reentrant=False, preserve_rng_state=False
                )
            else:
                x_BFSD = block(x_BFSD, call.told(index), call)
        return self._out(x_BFSD, call.levels).movedim(-1, 1)

    def text_memory(self, text_BLD: Tensor) -> TextMemory:
        """Cross-attention keys and values of one prompt. Padding (rows of zeros) is cut off; the rest of it is masked.

        A text of nothing but padding is taken as one word, since attention must look at something.
        """
        seen = text_BLD.ne(0).any(-1)
        seen[:, 0] |= ~seen.any(1)
        length = int(seen.any(0).nonzero().max()) + 1
        text = self.caption_projection(text_BLD[:, :length])
        seen = seen[:, :length]
        layers = tuple(cast(Block, block).read(text) for block in self.blocks)
        return TextMemory(layers, None if bool(seen.all()) else seen)

    def _levels(self, level: Tensor) -> Levels:
        """The codes of all distinct levels, each computed once."""
        level = torch.as_tensor(level, device=self.proj_out.weight.device)
        level = level.flatten(2) if level.ndim == 4 else level.reshape((1,) * (2 - level.ndim) + level.shape)[..., None]
        distinct, at = torch.unique(level, return_inverse=True)
        head, blocks = self.time_embed(timestep(distinct))
        return Levels(head, blocks, at)

    def _out(self, x_BFSD: Tensor, levels: Levels) -> Tensor:
        """Norm and project to latent channels (B F S C)."""
        shift, scale = levels.of(self.scale_shift_table, levels.head[:, None])
        normed = nnf.layer_norm(wide(x_BFSD), x_BFSD.shape[-1:], eps=1e-6)
        return self.proj_out(torch.addcmul(shift, normed, 1 + scale).to(x_BFSD.dtype))

    def places(self, positions: Sequence[float] | Tensor, height: int, width: int, fps: float) -> Tensor:
        """Where tokens stand: the rotation table (F*H*W, D/2) of latents (height, width) at their positions in time.

        The last two tables are kept.
        """
        places = tuple(positions.tolist() if isinstance(positions, Tensor) else positions)
        like = self.proj_out.weight
        dtype = torch.complex128 if like.dtype == torch.float64 else torch.complex64
        key = (places, height, width, fps, dtype, like.device)
        if key not in self._ropes:
            config = self.config
            rate = torch.tensor(1 / fps)  # float32 from here on, as published
            seconds = torch.tensor(config.frames(places, fps)) * rate / SECONDS
            rows, columns = (torch.arange(size) * config.scale / PIXELS for size in (height, width))
            with torch.inference_mode(False):  # so that a table made in inference also serves training
                table = rotary(seconds.tolist(), rows.tolist(), columns.tolist(), config.dim).to(like.device, dtype)
            self._ropes[key] = table
            if len(self._ropes) > 2:
                self._ropes.popitem(last=False)
        self._ropes.move_to_end(key)
        return self._ropes[key]


def kept(
    keep: Tensor, x_BFSC: Tensor, levels: Levels, rope: Tensor, scenes: Sequence[tuple[int, int, int]]
) -> tuple[Tensor, Levels, Tensor, list[tuple[int, int, int]]]:
    """What is left of tokens, levels and positions once all tokens but `keep` (B, K) are dropped: one row of tokens."""
    if len(scenes) > 1:
        raise ValueError("tokens can be dropped only where all frames follow one prompt")
    batch, frames, tokens, _ = x_BFSC.shape
    row = torch.arange(batch, device=keep.device)[:, None]
    at = levels.at.expand(batch, frames, tokens).flatten(1)[row, keep]
    x = x_BFSC.flatten(1, 2)[row, keep]
    return x[:, None], Levels(levels.head, levels.blocks, at[:, None]), rope[keep], [(scenes[0][0], 0, 1)]


@torch.no_grad()
def initialise(net: LTXTransformer) -> None:
    """A start for training from nothing: Xavier weights, small embeddings, a head of zeros."""
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    for mlp in (module for module in net.modules() if isinstance(module, Mlp)):
        nn.init.normal_(mlp.linear_1.weight, std=0.02)
        nn.init.normal_(mlp.linear_2.weight, std=0.02)
    nn.init.zeros_(net.proj_out.weight)
