"""The Wan transformer with a sigma per latent frame: text-to-video, image-to-video, SkyReels-V2 diffusion forcing.

Weight names are those of diffusers' SkyReelsV2Transformer3DModel. Shapes: B videos, C latent channels, F latent
frames, H W latent size, S tokens per frame, D width, L text tokens, M cached frames, N heads, E width of a head.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from longtake.models.checkpoints import loading as weights
from longtake.models.layers import FeedForward, Span, runs
from longtake.models.runtime.attention import Attend, sdpa
from longtake.models.wan.block import (
    Block,
    BlockInputs,
    Columns,
    FrameKV,
    KVRecorder,
    PositionedKV,
    TextKV,
    causal_spans,
    chosen,
    modulated,
    narrowed,
)
from longtake.models.wan.config import NAMES, UNUSED, WanConfig
from longtake.models.wan.embeddings import Conditions
from longtake.models.wan.rope import rotary

ROTATED_ONCE = 2**28  # bytes of cached keys, up to which they are rotated once for a window


def load(folder: Path | str, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> WanTransformer:
    """Load the transformer of a folder with config.json and safetensors."""
    config = weights.configure(WanConfig, folder, UNUSED)
    return weights.load(WanTransformer, config, folder, NAMES, dtype, device)


class WanTransformer(nn.Module):
    """The network: velocity (noise - video) of latent frames, each at its own sigma.

    checkpointing: recompute blocks in the backward pass instead of keeping their activations. attend: see `attention`.
    """

    def __init__(self, config: WanConfig):
        super().__init__()
        self.config = config
        self.checkpointing = False
        self.attend: Attend = sdpa
        self.patch_embedding = nn.Conv3d(config.in_channels, config.dim, config.patch_size, config.patch_size)
        self.condition_embedder = Conditions(
            config.dim, config.freq_dim, config.text_dim, config.image_dim, config.control_dim
        )
        self.blocks = nn.ModuleList(
            Block(
                config.dim, config.num_attention_heads, config.ffn_dim, config.eps, config.cross_attn_norm,
                config.added_kv_proj_dim,
            )
            for _ in range(config.num_layers)
        )  # fmt: skip
        self.proj_out = nn.Linear(config.dim, config.out_channels * math.prod(config.patch_size))
        self.scale_shift_table = nn.Parameter(torch.randn(1, 2, config.dim) / config.dim**0.5)
        if config.inject_sample_info:
            self.fps_embedding = nn.Embedding(2, config.dim)
            self.fps_projection = FeedForward(config.dim, config.dim, 6 * config.dim, nn.SiLU())
        self.rope_tables: OrderedDict[tuple, Tensor] = OrderedDict()

    def forward(
        self, x_BCFHW: Tensor, sigma: Tensor, text: Tensor | TextKV | Sequence[TextKV],
        positions: Sequence[float] | Tensor | None = None, *, scene: Sequence[int] | None = None,
        blocks: Sequence[int] | None = None, kv_cache: PositionedKV | None = None, fps: float | Tensor | None = None,
        spans: Sequence[Span] | None = None, out: Columns | None = None, recorder: KVRecorder | None = None,
        residuals: list[Tensor] | None = None, control: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Return the velocity (B, C, F, H, W).

        sigma: (), (F,) or (B, F), or (B, 1) for one per video. text: embeddings (B, L, text_dim), or the `text_kv` of
        one prompt or of several; scene: the index of the prompt of each frame. positions: (F,) in time (default: 0, 1,
        2...). blocks: (F,) ascending; a frame attends to its block and to those before (default: to all frames). kv_cache:
        cached frames, to which all frames attend. fps: of the output, one number or (B,); only some networks use it.
        spans: in frames, which frames attend to which, where `blocks` cannot express it. out: the columns whose velocity
        is returned (default: all). recorder: records keys and values of some columns. residuals: receives what the blocks add
        to the tokens, (B, F, S, D). control: the control signal of each frame, (F, control_dim) or (B, F, control_dim).
        """
        head_BFD, time_BF6D = self._time(sigma, fps)
        first_BFSD = x_BFSD = self.embed_patches(x_BCFHW, control)
        inputs, last = self._block_inputs(x_BCFHW, text, positions, scene, blocks, kv_cache, spans, out)
        for index, block in enumerate(self.blocks):
            own = inputs if index < len(self.blocks) - 1 else last
            if self.checkpointing and torch.is_grad_enabled():
                x_BFSD = checkpoint(
                    block, x_BFSD, time_BF6D, index, own, recorder, use_reentrant=False, preserve_rng_state=False
                )
            else:
                x_BFSD = block(x_BFSD, time_BF6D, index, own, recorder)
        if out is not None:
            x_BCFHW, head_BFD, first_BFSD = x_BCFHW[:, :, out], chosen(head_BFD, out), first_BFSD[:, out]
        if residuals is not None:
            residuals.append(x_BFSD - first_BFSD)
        return self._pixels(x_BFSD, head_BFD, x_BCFHW.shape)

    def forward_cached(
        self, x_BCFHW: Tensor, sigma: Tensor, residual_BFSD: Tensor, fps: float | Tensor | None = None,
        control: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Return the velocity (B C F H W) that follows from a residual, without running the blocks (see `forward`)."""
        head_BFD, _ = self._time(sigma, fps)
        return self._pixels(self.embed_patches(x_BCFHW, control) + residual_BFSD, head_BFD, x_BCFHW.shape)

    def timestep_embedding(self, sigma: Tensor, fps: float | Tensor | None, projected: bool) -> Tensor:
        """Return the embedding of sigmas (F,), one row each: that of the layers (`projected`), else that of the head."""
        head_BFD, time_BF6D = self._time(sigma, fps)
        return time_BF6D[0].flatten(1) if projected else head_BFD[0]

    def frame_kv(
        self, x_BCFHW: Tensor, sigma: Tensor, text: Tensor | TextKV | Sequence[TextKV],
        positions: Sequence[float] | Tensor | None = None, *, scene: Sequence[int] | None = None,
        blocks: Sequence[int] | None = None, kv_cache: PositionedKV | None = None, fps: float | Tensor | None = None,
        at: Columns = slice(None), control: Tensor | None = None,
    ) -> FrameKV:  # fmt: skip
        """Return the keys and values of the columns `at`; the other arguments are those of `forward`."""
        _, time_BF6D = self._time(sigma, fps)
        x_BFSD = self.embed_patches(x_BCFHW, control)
        inputs, _ = self._block_inputs(x_BCFHW, text, positions, scene, blocks, kv_cache, None, None)
        recorder = KVRecorder(at)
        for index, block in enumerate(self._layers):
            if index < len(self.blocks) - 1:
                x_BFSD = block(x_BFSD, time_BF6D, index, inputs, recorder)
            else:
                recorder.record(*block.keys_values(x_BFSD, time_BF6D))
        return recorder.kv

    def text_kv(self, text_BLD: Tensor, image_BLD: Tensor | None = None) -> TextKV:
        """Compute the cross-attention keys and values of one prompt, and of CLIP image tokens if the network takes them."""
        text = self.condition_embedder.text(text_BLD)
        if image_BLD is not None:
            image_BLD = self.condition_embedder.image_embedder(image_BLD.to(text.dtype))
        return TextKV(tuple(block.read(text, image_BLD) for block in self._layers))

    def position_kv(self, kv: FrameKV, positions: Sequence[float] | Tensor, height: int, width: int) -> PositionedKV:
        """Move cached frames of latents (height, width) to positions (M,)."""
        rope = self._rope(positions, height, width, kv.keys[0])
        placed = PositionedKV(kv, rope, self.config.num_attention_heads, None)
        if sum(key.nbytes for key in kv.keys) > ROTATED_ONCE:
            return placed
        return replace(placed, rotated=tuple(placed.rotate(key) for key in kv.keys))

    @property
    def _layers(self) -> Iterable[Block]:
        return cast(Iterable[Block], self.blocks)

    def _time(self, sigma: Tensor, fps: float | Tensor | None) -> tuple[Tensor, Tensor]:
        sigma = torch.as_tensor(sigma, device=self.proj_out.weight.device)
        head_BFD, time_BF6D = self.condition_embedder.time(sigma.reshape((1,) * (2 - sigma.ndim) + sigma.shape))
        if self.config.inject_sample_info:
            rate = torch.as_tensor(24.0 if fps is None else fps, device=sigma.device).reshape(-1)
            embedding = self.fps_projection(self.fps_embedding((rate != 16).long()))
            time_BF6D = time_BF6D + embedding.unflatten(-1, (6, -1))[:, None]
        return head_BFD, time_BF6D

    def embed_patches(self, x_BCFHW: Tensor, control: Tensor | None = None) -> Tensor:
        """Embed patches to tokens (B, F, S, D), and add the control signal."""
        weight = self.patch_embedding.weight
        _, p, q = self.config.patch_size
        grid = self._grid(*x_BCFHW.shape[3:])
        patches = x_BCFHW.to(weight.dtype).unflatten(4, (-1, q)).unflatten(3, (-1, p))  # B C F h p w q
        patches_BFSC = patches.permute(0, 2, 3, 5, 1, 4, 6).flatten(4).flatten(2, 3)
        x_BFSD = nnf.linear(patches_BFSC, weight.flatten(1), self.patch_embedding.bias).to(weight.dtype)
        return x_BFSD if control is None else x_BFSD + self.condition_embedder.control(control, grid)

    def _block_inputs(
        self, x_BCFHW, text, positions, scene, blocks, kv_cache, spans, out
    ) -> tuple[BlockInputs, BlockInputs]:
        """Return the inputs of all layers, and those of the last one, after which only the columns `out` continue."""
        frames, height, width = x_BCFHW.shape[2:]
        if isinstance(text, TextKV):
            text = [text]
        texts = self.condition_embedder.text(text) if isinstance(text, Tensor) else text
        scene = [0] * frames if scene is None else list(scene)
        rope = self._rope(range(frames) if positions is None else positions, height, width, self.proj_out.weight)
        tokens = math.prod(self._grid(height, width))
        if spans is None:
            spans = causal_spans([0] * frames if blocks is None else blocks)
        inputs = BlockInputs(texts, list(runs(scene)), rope, [s.times(tokens) for s in spans], kv_cache, self.attend)
        if out is None:
            return inputs, inputs
        at = range(frames)[out] if isinstance(out, slice) else out
        return inputs, replace(
            inputs,
            scenes=list(runs([scene[i] for i in at])),
            spans=[s.times(tokens) for s in narrowed(spans, at)],
            out=out,
            out_rope=rope.unflatten(0, (frames, tokens))[out].flatten(0, 1),
        )

    def _pixels(self, x_BFSD: Tensor, head_BFD: Tensor, shape: torch.Size) -> Tensor:
        """Normalise, project and reassemble the patches."""
        shift, scale = (self.scale_shift_table + head_BFD[:, :, None]).unsqueeze(3).unbind(2)
        out = self.proj_out(modulated(x_BFSD, shift, scale, self.config.eps))
        _, p, q = self.config.patch_size
        patches = out.unflatten(3, (p, q, -1)).unflatten(2, self._grid(*shape[3:]))  # B F h w p q C
        return patches.permute(0, 6, 1, 2, 4, 3, 5).flatten(5).flatten(3, 4)

    def _grid(self, height: int, width: int) -> tuple[int, int]:
        _, p, q = self.config.patch_size
        if height % p or width % q:
            raise ValueError(f"latents of {width}x{height} are not whole patches of {q}x{p}: choose another size")
        return height // p, width // q

    def _rope(self, positions: Sequence[float] | Tensor, height: int, width: int, like: Tensor) -> Tensor:
        """Return the RoPE table of latents (height, width) at their positions; the last few are cached."""
        places = tuple(positions.tolist() if isinstance(positions, Tensor) else positions)
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        key = (places, height, width, dtype, like.device)
        if key not in self.rope_tables:
            grid, head = self._grid(height, width), self.config.attention_head_dim
            with torch.inference_mode(False):  # so that a table made in inference also serves training
                table = rotary(torch.tensor(places, dtype=torch.float64), *grid, head).to(like.device, dtype)
            self.rope_tables[key] = table
            if len(self.rope_tables) > 8:
                self.rope_tables.popitem(last=False)
        self.rope_tables.move_to_end(key)
        return self.rope_tables[key]


@torch.no_grad()
def initialise(net: WanTransformer) -> None:
    """Initialise for training from scratch as Wan does: Xavier weights, small embeddings, a head of zeros."""
    for module in net.modules():
        if isinstance(module, (nn.Linear, nn.Conv3d)):
            nn.init.xavier_uniform_(module.weight.flatten(1))
            nn.init.zeros_(cast(Tensor, module.bias))
    for mlp in (net.condition_embedder.time_embedder, net.condition_embedder.text_embedder):
        nn.init.normal_(mlp.linear_1.weight, std=0.02)
        nn.init.normal_(mlp.linear_2.weight, std=0.02)
    nn.init.zeros_(net.proj_out.weight)
