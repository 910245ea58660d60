"""The Wan transformer with a noise level per latent frame: text-to-video, image-to-video, SkyReels-V2 forcing.

Weight names are those of diffusers' SkyReelsV2Transformer3DModel. Shapes: B videos, C latent channels, F latent
frames, H W latent size, S tokens per frame, D width, L text tokens, M remembered frames, N heads, E width of a head.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from longtake.models import weights
from longtake.models.attention import Attend, sdpa
from longtake.models.layers import FeedForward, runs
from longtake.models.wan_block import (
    Block,
    Call,
    Columns,
    FrameMemory,
    Keep,
    Placed,
    Span,
    TextMemory,
    causal_spans,
    chosen,
    modulated,
    narrowed,
    rotary,
)
from longtake.models.wan_embed import Conditions

TURNED_ONCE = 2**28  # bytes of remembered keys, up to which they are rotated once for a window


@dataclass(frozen=True)
class WanConfig:
    """Shape of a network; the names are those of diffusers' config.json.

    causal, block, view: a frame attends to its own block of `block` latent frames and those before, and a call
    sees at most `view` frames. rope_max_seq_len is read and unused: positions have no end here. track_dim: numbers of a
    track that the network is told of every latent frame, if it is told of one.
    """

    patch_size: tuple[int, int, int] = (1, 2, 2)
    num_attention_heads: int = 16
    attention_head_dim: int = 128
    in_channels: int = 16
    out_channels: int = 16
    text_dim: int = 4096
    freq_dim: int = 256
    ffn_dim: int = 8192
    num_layers: int = 32
    cross_attn_norm: bool = True
    qk_norm: str = "rms_norm_across_heads"
    eps: float = 1e-6
    image_dim: int | None = None
    added_kv_proj_dim: int | None = None
    inject_sample_info: bool = False
    track_dim: int | None = None
    rope_max_seq_len: int = 1024
    causal: bool = False
    block: int = 1
    view: int = 25

    def __post_init__(self):
        object.__setattr__(self, "patch_size", tuple(self.patch_size))
        if self.qk_norm != "rms_norm_across_heads":
            raise ValueError(f"qk_norm is {self.qk_norm!r}, but a Wan network has 'rms_norm_across_heads'")
        if self.patch_size[0] != 1:
            raise ValueError(f"patch_size is {self.patch_size}, but noise levels per frame need a time patch of 1")
        if self.attention_head_dim % 2:
            raise ValueError(f"attention_head_dim is {self.attention_head_dim}; rotary positions need an even number")
        if (self.image_dim is None) != (self.added_kv_proj_dim is None):
            raise ValueError("image_dim and added_kv_proj_dim belong together: give both, or neither")

    @property
    def dim(self) -> int:
        """Width of the network."""
        return self.num_attention_heads * self.attention_head_dim


UNUSED = {"num_frame_per_block": 1, "window_size": [-1, -1]}  # config keys that say nothing at these values

NAMES: weights.Names = (  # original Wan, SkyReels-V2 and ComfyUI files to diffusers; its own names pass unchanged
    (r"^model\.diffusion_model\.", ""),
    (r"^(text|time)_embedding\.0\.", r"condition_embedder.\1_embedder.linear_1."),
    (r"^(text|time)_embedding\.2\.", r"condition_embedder.\1_embedder.linear_2."),
    (r"^time_projection\.1\.", "condition_embedder.time_proj."),
    (r"^fps_projection\.0\.", "fps_projection.net.0.proj."),
    (r"^fps_projection\.2\.", "fps_projection.net.2."),
    (r"^img_emb\.proj\.0\.", "condition_embedder.image_embedder.norm1."),
    (r"^img_emb\.proj\.1\.", "condition_embedder.image_embedder.ff.net.0.proj."),
    (r"^img_emb\.proj\.3\.", "condition_embedder.image_embedder.ff.net.2."),
    (r"^img_emb\.proj\.4\.", "condition_embedder.image_embedder.norm2."),
    (r"^head\.head\.", "proj_out."),
    (r"^head\.modulation$", "scale_shift_table"),
    (r"\.modulation$", ".scale_shift_table"),
    (r"\.self_attn\.", ".attn1."),
    (r"\.cross_attn\.", ".attn2."),
    (r"(\.attn[12])\.([qkv])\.", r"\1.to_\2."),
    (r"(\.attn[12])\.o\.", r"\1.to_out.0."),
    (r"\.attn2\.([kv])_img\.", r".attn2.add_\1_proj."),
    (r"\.norm_k_img\.", ".norm_added_k."),
    (r"\.norm_added_q\.", None),  # left in some image-to-video files, never used
    (r"\.norm3\.", ".norm2."),
    (r"\.ffn\.0\.", ".ffn.net.0.proj."),
    (r"\.ffn\.2\.", ".ffn.net.2."),
)


def load(folder: Path | str, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> WanTransformer:
    """The network of a folder with config.json and safetensors."""
    config = weights.configure(WanConfig, folder, UNUSED)
    return weights.load(WanTransformer, config, folder, NAMES, dtype, device)


def tiny(**changes: Any) -> WanConfig:
    """The config of a network for tests: two layers, 24 wide."""
    small: dict[str, Any] = dict(
        num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=10, freq_dim=16,
        ffn_dim=40, num_layers=2,
    )  # fmt: skip
    return WanConfig(**(small | changes))


class WanTransformer(nn.Module):
    """Velocity (noise - video) of latent frames, each at its own noise level.

    checkpointing: recompute blocks in the backward pass instead of keeping their activations. attend: see `attention`.
    """

    def __init__(self, config: WanConfig):
        super().__init__()
        self.config = config
        self.checkpointing = False
        self.attend: Attend = sdpa
        self.patch_embedding = nn.Conv3d(config.in_channels, config.dim, config.patch_size, config.patch_size)
        self.condition_embedder = Conditions(config)
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
        self._ropes: OrderedDict[tuple, Tensor] = OrderedDict()

    def forward(
        self, x_BCFHW: Tensor, level: Tensor, text: Tensor | TextMemory | Sequence[TextMemory],
        positions: Sequence[float] | Tensor | None = None, *, scene: Sequence[int] | None = None,
        blocks: Sequence[int] | None = None, memory: Placed | None = None, fps: float | Tensor | None = None,
        spans: Sequence[Span] | None = None, out: Columns | None = None, keep: Keep | None = None,
        added: list[Tensor] | None = None, track: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Velocity (B C F H W).

        level: (), (F,) or (B, F), or (B, 1) for one level per video. text: embeddings (B, L, text_dim), or what
        `text_memory` made of one prompt or of several, with `scene` telling which one each frame follows.
        positions: (F,) where frames stand in time; 0, 1, 2... if not given. blocks: (F,) ascending; a frame attends
        to its block and to those before, or to all frames if not given. memory: frames from before, seen by all.
        fps: of the output, one number or (B,); only some networks care. spans: in frames, who attends to whom where
        `blocks` cannot say it. out: the columns whose velocity is wanted, if not all; the answer holds these alone.
        keep: takes keys and values of some columns. added: gets what the layers add to the tokens (B, F, S, D).
        track: (F, track_dim) or (B, F, track_dim), what drives each frame; None for nothing.
        """
        head_BFD, time_BF6D = self._time(level, fps)
        first_BFSD = x_BFSD = self._tokens(x_BCFHW, track)
        call, last = self._calls(x_BCFHW, text, positions, scene, blocks, memory, spans, out)
        for index, block in enumerate(self.blocks):
            told = call if index < len(self.blocks) - 1 else last
            if self.checkpointing and torch.is_grad_enabled():
                x_BFSD = checkpoint(
                    block, x_BFSD, time_BF6D, index, told, keep, use_reentrant=False, preserve_rng_state=False
                )
            else:
                x_BFSD = block(x_BFSD, time_BF6D, index, told, keep)
        if out is not None:
            x_BCFHW, head_BFD, first_BFSD = x_BCFHW[:, :, out], chosen(head_BFD, out), first_BFSD[:, out]
        if added is not None:
            added.append(x_BFSD - first_BFSD)
        return self._pixels(x_BFSD, head_BFD, x_BCFHW.shape)

    def short(
        self, x_BCFHW: Tensor, level: Tensor, added_BFSD: Tensor, fps: float | Tensor | None = None,
        track: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Velocity (B C F H W) if the layers added this, without running them; the rest as in `forward`."""
        head_BFD, _ = self._time(level, fps)
        return self._pixels(self._tokens(x_BCFHW, track) + added_BFSD, head_BFD, x_BCFHW.shape)

    def embedded(self, level: Tensor, fps: float | Tensor | None, projected: bool) -> Tensor:
        """The embedding of levels (F,), one row for each: as the layers take it (`projected`), else as the head does."""
        head_BFD, time_BF6D = self._time(level, fps)
        return time_BF6D[0].flatten(1) if projected else head_BFD[0]

    def remember(
        self, x_BCFHW: Tensor, level: Tensor, text: Tensor | TextMemory | Sequence[TextMemory],
        positions: Sequence[float] | Tensor | None = None, *, scene: Sequence[int] | None = None,
        blocks: Sequence[int] | None = None, memory: Placed | None = None, fps: float | Tensor | None = None,
        at: Columns = slice(None), track: Tensor | None = None,
    ) -> FrameMemory:  # fmt: skip
        """Keys and values of the columns `at`; the rest as in `forward`. The last layer goes no further than them."""
        _, time_BF6D = self._time(level, fps)
        x_BFSD = self._tokens(x_BCFHW, track)
        call, _ = self._calls(x_BCFHW, text, positions, scene, blocks, memory, None, None)
        keep = Keep(at)
        for index, block in enumerate(self._layers):
            if index < len(self.blocks) - 1:
                x_BFSD = block(x_BFSD, time_BF6D, index, call, keep)
            else:
                keep.take(*block.keys_values(x_BFSD, time_BF6D))
        return keep.memory

    def text_memory(self, text_BLD: Tensor, image_BLD: Tensor | None = None) -> TextMemory:
        """Cross-attention keys and values of one prompt, and of an image's CLIP tokens if the network sees images."""
        text = self.condition_embedder.text(text_BLD)
        if image_BLD is not None:
            image_BLD = self.condition_embedder.image_embedder(image_BLD.to(text.dtype))
        return TextMemory(tuple(block.read(text, image_BLD) for block in self._layers))

    def place(self, memory: FrameMemory, positions: Sequence[float] | Tensor, height: int, width: int) -> Placed:
        """Stand remembered frames of latents (height, width) at positions (M,)."""
        rope = self._rope(positions, height, width, memory.keys[0])
        placed = Placed(memory, rope, self.config.num_attention_heads, None)
        if sum(key.nbytes for key in memory.keys) > TURNED_ONCE:
            return placed
        return replace(placed, rotated=tuple(placed.turned(key) for key in memory.keys))

    @property
    def _layers(self) -> Iterable[Block]:
        return cast(Iterable[Block], self.blocks)

    def _time(self, level: Tensor, fps: float | Tensor | None) -> tuple[Tensor, Tensor]:
        level = torch.as_tensor(level, device=self.proj_out.weight.device)
        head_BFD, time_BF6D = self.condition_embedder.time(level.reshape((1,) * (2 - level.ndim) + level.shape))
        if self.config.inject_sample_info:
            rate = torch.as_tensor(24.0 if fps is None else fps, device=level.device).reshape(-1)
            code = self.fps_projection(self.fps_embedding((rate != 16).long()))
            time_BF6D = time_BF6D + code.unflatten(-1, (6, -1))[:, None]
        return head_BFD, time_BF6D

    def _tokens(self, x_BCFHW: Tensor, track: Tensor | None = None) -> Tensor:
        """Patches to tokens (B, F, S, D), with what is told of a track in them."""
        weight = self.patch_embedding.weight
        _, p, q = self.config.patch_size
        grid = self._grid(*x_BCFHW.shape[3:])
        patches = x_BCFHW.to(weight.dtype).unflatten(4, (-1, q)).unflatten(3, (-1, p))  # B C F h p w q
        patches_BFSC = patches.permute(0, 2, 3, 5, 1, 4, 6).flatten(4).flatten(2, 3)
        x_BFSD = nnf.linear(patches_BFSC, weight.flatten(1), self.patch_embedding.bias).to(weight.dtype)
        return x_BFSD if track is None else x_BFSD + self.condition_embedder.track(track, grid)

    def _calls(self, x_BCFHW, text, positions, scene, blocks, memory, spans, out) -> tuple[Call, Call]:
        """What all layers are told, and what the last one is told, after which only the columns `out` go on."""
        frames, height, width = x_BCFHW.shape[2:]
        if isinstance(text, TextMemory):
            text = [text]
        texts = self.condition_embedder.text(text) if isinstance(text, Tensor) else text
        scene = [0] * frames if scene is None else list(scene)
        rope = self._rope(range(frames) if positions is None else positions, height, width, self.proj_out.weight)
        tokens = math.prod(self._grid(height, width))
        if spans is None:
            spans = causal_spans([0] * frames if blocks is None else blocks)
        call = Call(texts, list(runs(scene)), rope, [s.times(tokens) for s in spans], memory, self.attend)
        if out is None:
            return call, call
        at = range(frames)[out] if isinstance(out, slice) else out
        return call, replace(
            call,
            scenes=list(runs([scene[i] for i in at])),
            spans=[s.times(tokens) for s in narrowed(spans, at)],
            out=out,
            out_rope=rope.unflatten(0, (frames, tokens))[out].flatten(0, 1),
        )

    def _pixels(self, x_BFSD: Tensor, head_BFD: Tensor, shape: torch.Size) -> Tensor:
        """Norm, project and put the patches back together."""
        shift, scale = (self.scale_shift_table + head_BFD[:, :, None]).unsqueeze(3).unbind(2)
        out = self.proj_out(modulated(x_BFSD, shift, scale, self.config.eps))
        _, p, q = self.config.patch_size
        patches = out.unflatten(3, (p, q, -1)).unflatten(2, self._grid(*shape[3:]))  # B F h w p q C
        return patches.permute(0, 6, 1, 2, 4, 3, 5).flatten(5).flatten(3, 4)

    def _grid(self, height: int, width: int) -> tuple[int, int]:
        _, p, q = self.config.patch_size
        if height % p or width % q:
            raise ValueError(f"latents of {height}x{width} do not divide into patches of {p}x{q}")
        return height // p, width // q

    def _rope(self, positions: Sequence[float] | Tensor, height: int, width: int, like: Tensor) -> Tensor:
        """The rotation table of latents (height, width) and their positions; the last few are kept."""
        places = tuple(positions.tolist() if isinstance(positions, Tensor) else positions)
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        key = (places, height, width, dtype, like.device)
        if key not in self._ropes:
            grid, head = self._grid(height, width), self.config.attention_head_dim
            with torch.inference_mode(False):  # so that a table made in inference also serves training
                table = rotary(torch.tensor(places, dtype=torch.float64), *grid, head).to(like.device, dtype)
            self._ropes[key] = table
            if len(self._ropes) > 8:
                self._ropes.popitem(last=False)
        self._ropes.move_to_end(key)
        return self._ropes[key]


@torch.no_grad()
def initialise(net: WanTransformer) -> None:
    """Wan's own start for training from nothing: Xavier weights, small embeddings, a head of zeros."""
    for module in net.modules():
        if isinstance(module, (nn.Linear, nn.Conv3d)):
            nn.init.xavier_uniform_(module.weight.flatten(1))
            nn.init.zeros_(cast(Tensor, module.bias))
    for mlp in (net.condition_embedder.time_embedder, net.condition_embedder.text_embedder):
        nn.init.normal_(mlp.linear_1.weight, std=0.02)
        nn.init.normal_(mlp.linear_2.weight, std=0.02)
    nn.init.zeros_(net.proj_out.weight)
