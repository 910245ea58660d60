"""The LTX-Video transformer with a sigma per latent frame or per token.

Weight names are those of diffusers' LTXVideoTransformer3DModel. Shapes: B videos, C latent channels, F latent frames,
H W latent size, S = H * W tokens per frame, K tokens kept, D width, L text tokens, U distinct sigmas.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from longtake.core.guidance_settings import Perturb
from longtake.models.checkpoints import loading as weights
from longtake.models.layers import TanhGelu, check_text, runs, wide
from longtake.models.ltx.block import Block, BlockInputs, Modulation, TextKV
from longtake.models.ltx.config import PIXELS, SECONDS, LTXConfig
from longtake.models.ltx.rope import rotary
from longtake.models.runtime.attention import Attend, sdpa


def load(folder: Path | str, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> LTXTransformer:
    """Load the transformer of a folder with config.json and safetensors."""
    return weights.load(LTXTransformer, weights.configure(LTXConfig, folder), folder, (), dtype, device)


def timestep(sigma: Tensor) -> Tensor:
    """Convert sigma to the timestep that the network takes, 0 to 1000."""
    return 1000.0 * sigma


def sinusoid(time: Tensor, width: int = 256) -> Tensor:
    """Return sinusoidal embeddings (..., width) of times (...): cosines, then sines, at frequencies 10000^(-2i/width)."""
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
    """The network: velocity (noise - video) of latent frames, each frame or token at its own sigma.

    checkpointing: recompute blocks in the backward pass instead of keeping their activations.
    """

    def __init__(self, config: LTXConfig):
        super().__init__()
        self.config = config
        self.checkpointing = False
        self.attend: Attend = sdpa
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
        self.rope_tables: OrderedDict[tuple, Tensor] = OrderedDict()

    @property
    def blocks(self) -> nn.ModuleList:
        """The layers, from the first to the last."""
        return self.transformer_blocks

    def forward(
        self, x_BCFHW: Tensor, sigma: Tensor, text: Tensor | TextKV | Sequence[TextKV],
        positions: Sequence[float] | Tensor | None = None, *, scene: Sequence[int] | None = None,
        fps: float = 24.0, keep: Tensor | None = None, perturb: Perturb | None = None,
        residuals: list[Tensor] | None = None,
    ) -> Tensor:  # fmt: skip
        """Return the velocity (B, C, F, H, W), or (B, C, K) of the tokens kept.

        sigma: (), (F,), (B, F), (B, 1), or (B, F, H, W) for one per token. text: embeddings (B, L, caption_channels),
        in which rows of zeros are padding, or what `text_kv` made of one prompt or of several, with `scene`
        telling which one each frame follows. positions: (F,) where frames stand in time, in latent frames; 0, 1, 2...
        if not given. keep: (B, K) numbers of the tokens that the network sees at all, counted frame by frame, row by
        row (token dropping in training; one prompt only). perturb: videos to run once more, perturbed, whose
        velocities come after the others; they share all that comes before the first perturbed block. residuals: gets what
        the blocks add to the tokens (B F S D), perturbed videos last.
        """
        if isinstance(text, Tensor):
            text = self.text_kv(text)
        texts = [text] if isinstance(text, TextKV) else text
        frames, height, width = x_BCFHW.shape[2:]
        scenes = [(0, 0, frames)] if scene is None else list(runs(scene))
        sigmas = self._modulation(sigma)
        rope = self.rope_table(range(frames) if positions is None else positions, height, width, fps)
        x_BFSC = x_BCFHW.permute(0, 2, 3, 4, 1).flatten(2, 3)
        if keep is not None:
            x_BFSC, sigmas, rope, scenes = kept(keep, x_BFSC, sigmas, rope, scenes)
        out = self.run(x_BFSC, BlockInputs(texts, scenes, sigmas, rope, self.attend), perturb, residuals)
        return out.unflatten(3, (height, width)) if keep is None else out.flatten(2)

    def tokens(self, x_BKC: Tensor, sigma: Tensor, text: Tensor | TextKV, rope: Tensor) -> Tensor:
        """Return the velocity (B, C, K) of tokens of videos that differ in length and size, with K tokens each.

        sigma: (B, K). text: one prompt per video. rope: (B, K, D/2), rows of the `rope_table` of each video.
        """
        texts = [self.text_kv(text) if isinstance(text, Tensor) else text]
        call = BlockInputs(texts, [(0, 0, 1)], self._modulation(sigma[:, None, None]), rope, self.attend)
        return self.run(x_BKC[:, None], call).flatten(2)

    def forward_cached(
        self, x_BCFHW: Tensor, sigma: Tensor, residual_BFSD: Tensor, perturb: Perturb | None = None
    ) -> Tensor:  # fmt: skip
        """Return the velocity (B C F H W) that follows from a residual, without running the blocks (see `forward`)."""
        tokens, sigmas = self.proj_in(self._rows(x_BCFHW)), self._modulation(sigma)
        if perturb is not None:
            tokens, sigmas = torch.cat([tokens, tokens[: perturb.rows]]), sigmas.repeated(perturb.rows)
        return self._out(tokens + residual_BFSD, sigmas).movedim(-1, 1).unflatten(3, x_BCFHW.shape[3:])

    def timestep_embedding(self, sigma: Tensor, projected: bool) -> Tensor:
        """Return the embedding of sigmas (F,), one row each: as the blocks take it (`projected`) or as the head does."""
        head, blocks = self.time_embed(timestep(torch.as_tensor(sigma, device=self.proj_out.weight.device)))
        return blocks.flatten(1) if projected else head

    def _rows(self, x_BCFHW: Tensor) -> Tensor:
        """Latents as rows of tokens (B F S C) in the network's dtype."""
        return x_BCFHW.permute(0, 2, 3, 4, 1).flatten(2, 3).to(self.proj_in.weight.dtype)

    def run(
        self, x_BFSC: Tensor, call: BlockInputs, perturb: Perturb | None = None, residuals: list[Tensor] | None = None
    ) -> Tensor:  # fmt: skip
        """Run all layers on tokens (B, F, S, C) -> velocities (B, C, F, S)."""
        first_BFSD = x_BFSD = self.proj_in(x_BFSC.to(self.proj_in.weight.dtype))
        alone = call
        for index, block in enumerate(self.blocks):
            if perturb is not None and index == perturb.blocks[0]:
                x_BFSD, call = torch.cat([x_BFSD, x_BFSD[: perturb.rows]]), call.repeated(perturb.rows)
                first_BFSD = torch.cat([first_BFSD, first_BFSD[: perturb.rows]])
            if perturb is not None and index in perturb.blocks:
                x_BFSD = perturbed(block, index, x_BFSD, call, alone, perturb)
                continue
            if self.checkpointing and torch.is_grad_enabled():
                x_BFSD = checkpoint(
                    block, x_BFSD, call.text_inputs(index), call, use_reentrant=False, preserve_rng_state=False
                )
            else:
                x_BFSD = block(x_BFSD, call.text_inputs(index), call)
        if residuals is not None:
            residuals.append(x_BFSD - first_BFSD)
        return self._out(x_BFSD, call.sigmas).movedim(-1, 1)

    def text_kv(self, text_BLD: Tensor) -> TextKV:
        """Compute the cross-attention keys and values of one prompt. Padding (rows of zeros) is cut off, the rest masked.

        A text of nothing but padding counts as one token, since attention needs at least one.
        """
        mask = text_BLD.ne(0).any(-1)
        mask[:, 0] |= ~mask.any(1)
        length = int(mask.any(0).nonzero().max()) + 1
        text = self.caption_projection(check_text(text_BLD, self.config.caption_channels)[:, :length])
        mask = mask[:, :length]
        layers = tuple(cast(Block, block).read(text) for block in self.blocks)
        return TextKV(layers, None if bool(mask.all()) else mask)

    def _modulation(self, sigma: Tensor) -> Modulation:
        """Embed the distinct sigmas, each once."""
        sigma = torch.as_tensor(sigma, device=self.proj_out.weight.device)
        sigma = sigma.flatten(2) if sigma.ndim == 4 else sigma.reshape((1,) * (2 - sigma.ndim) + sigma.shape)[..., None]
        distinct, at = torch.unique(sigma, return_inverse=True)
        head, blocks = self.time_embed(timestep(distinct))
        return Modulation(head, blocks, at)

    def _out(self, x_BFSD: Tensor, sigmas: Modulation) -> Tensor:
        """Normalise and project to latent channels (B, F, S, C)."""
        shift, scale = sigmas.of(self.scale_shift_table, sigmas.head[:, None])
        normed = nnf.layer_norm(wide(x_BFSD), x_BFSD.shape[-1:], eps=1e-6)
        return self.proj_out(torch.addcmul(shift, normed, 1 + scale).to(x_BFSD.dtype))

    def rope_table(self, positions: Sequence[float] | Tensor, height: int, width: int, fps: float) -> Tensor:
        """Return the RoPE table (F*H*W, D/2) of latents (height, width) at their positions in time; two tables are cached."""
        places = tuple(positions.tolist() if isinstance(positions, Tensor) else positions)
        like = self.proj_out.weight
        dtype = torch.complex128 if like.dtype == torch.float64 else torch.complex64
        key = (places, height, width, fps, dtype, like.device)
        if key not in self.rope_tables:
            config = self.config
            rate = torch.tensor(1 / fps)  # float32 from here on, as published
            seconds = torch.tensor(config.frames(places, fps)) * rate / SECONDS
            rows, columns = (torch.arange(size) * config.scale / PIXELS for size in (height, width))
            with torch.inference_mode(False):  # so that a table made in inference also serves training
                table = rotary(seconds.tolist(), rows.tolist(), columns.tolist(), config.dim).to(like.device, dtype)
            self.rope_tables[key] = table
            if len(self.rope_tables) > 2:
                self.rope_tables.popitem(last=False)
        self.rope_tables.move_to_end(key)
        return self.rope_tables[key]


def perturbed(
    block: nn.Module, index: int, x_BFSD: Tensor, call: BlockInputs, alone: BlockInputs, perturb: Perturb
) -> Tensor:
    """Run a block on videos of which the last `perturb.rows` are perturbed (see `Guidance`). alone: the inputs without them."""
    if perturb.mode == "transformer_block":
        whole, skipped = x_BFSD[: -perturb.rows], x_BFSD[-perturb.rows :]
        return torch.cat([block(whole, alone.text_inputs(index), alone), skipped])
    if perturb.mode == "residual":
        return block(x_BFSD, call.text_inputs(index), call)
    return block(x_BFSD, call.text_inputs(index), call, perturb.rows, perturb.mode)


def kept(
    keep: Tensor, x_BFSC: Tensor, sigmas: Modulation, rope: Tensor, scenes: Sequence[tuple[int, int, int]]
) -> tuple[Tensor, Modulation, Tensor, list[tuple[int, int, int]]]:
    """Drop all tokens but `keep` (B, K), with their sigmas and positions: one row of tokens remains."""
    if len(scenes) > 1:
        raise ValueError("tokens can be dropped only if all frames have the same prompt")
    batch, frames, tokens, _ = x_BFSC.shape
    row = torch.arange(batch, device=keep.device)[:, None]
    at = sigmas.at.expand(batch, frames, tokens).flatten(1)[row, keep]
    x = x_BFSC.flatten(1, 2)[row, keep]
    return x[:, None], Modulation(sigmas.head, sigmas.blocks, at[:, None]), rope[keep], [(scenes[0][0], 0, 1)]


@torch.no_grad()
def initialise(net: LTXTransformer) -> None:
    """Initialise for training from scratch: Xavier weights, small embeddings, a head of zeros."""
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    for mlp in (module for module in net.modules() if isinstance(module, Mlp)):
        nn.init.normal_(mlp.linear_1.weight, std=0.02)
        nn.init.normal_(mlp.linear_2.weight, std=0.02)
    nn.init.zeros_(net.proj_out.weight)
