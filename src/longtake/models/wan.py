"""The Wan transformer with a noise level per latent frame: text-to-video, image-to-video, SkyReels-V2 forcing.

Weight names are those of diffusers' SkyReelsV2Transformer3DModel. Shapes: B videos, C latent channels, F latent
frames, H W latent size, S tokens per frame, D width, L text tokens, M remembered frames, N heads, E width of a head.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

KeyValue = tuple[Tensor, ...]  # key and value; in the text of an image-to-video model also those of the image


@dataclass(frozen=True)
class WanConfig:
    """Shape of a network; the names are those of diffusers' config.json.

    causal, block, view: a frame attends to its own block of `block` latent frames and those before, and a call
    sees at most `view` frames. rope_max_seq_len is read and unused: positions have no end here.
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


def tiny(**changes: Any) -> WanConfig:
    """The config of a network for tests: two layers, 24 wide."""
    small: dict[str, Any] = dict(
        num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=10, freq_dim=16,
        ffn_dim=40, num_layers=2,
    )  # fmt: skip
    return WanConfig(**(small | changes))


@dataclass(frozen=True)
class TextMemory:
    """What the cross-attention of every layer needs of one prompt; computed once."""

    layers: tuple[KeyValue, ...]


@dataclass(frozen=True)
class FrameMemory:
    """Keys and values (B, M, S, D) of remembered frames, per layer. Keys are normed but not yet rotated."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


@dataclass(frozen=True)
class Placed:
    """A FrameMemory whose keys (B, M*S, N, E) are rotated to where its frames stand in a window."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


def timestep(level: Tensor) -> Tensor:
    """Wan counts noise from 0 to 1000."""
    return 1000.0 * level


def sinusoid(time: Tensor, width: int) -> Tensor:
    """Sinusoidal code (..., width) of times (...): cosines, then sines, of frequencies 10000^(-2i/width)."""
    half = width // 2
    frequency = torch.exp(torch.arange(half, dtype=torch.float64, device=time.device) * (-math.log(10000.0) / half))
    angle = time.double()[..., None] * frequency
    return torch.cat((angle.cos(), angle.sin()), -1)


def rotary(positions_F: Tensor, height: int, width: int, head: int) -> Tensor:
    """Complex RoPE factors (F*height*width, head/2): time first, then row, then column. Any real position will do."""

    def turn(position: Tensor, dim: int) -> Tensor:
        frequency = 10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        angle = position.double()[:, None] * frequency
        return torch.polar(torch.ones_like(angle), angle)

    space = 2 * (head // 6)
    shape = (len(positions_F), height, width, -1)
    parts = (
        turn(positions_F, head - 2 * space)[:, None, None].expand(shape),
        turn(torch.arange(height), space)[None, :, None].expand(shape),
        turn(torch.arange(width), space)[None, None, :].expand(shape),
    )
    return torch.cat(parts, -1).flatten(0, 2)


def rotate(x_BLNE: Tensor, rope_LE: Tensor) -> Tensor:
    """Turn neighbouring pairs of channels by their position's angle, in float32 or better."""
    pairs = torch.view_as_complex(wide(x_BLNE).unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rope_LE[:, None]).flatten(-2).to(x_BLNE.dtype)


def wide(x: Tensor) -> Tensor:
    """At least float32."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def attend(q_BLNE: Tensor, k_BLNE: Tensor, v_BLNE: Tensor) -> Tensor:
    """Attention (B, L, N*E); a text of batch 1 serves any batch."""
    batch = len(q_BLNE)
    q, k, v = (t.expand(batch, -1, -1, -1).transpose(1, 2) for t in (q_BLNE, k_BLNE, v_BLNE))
    return nnf.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def runs(labels: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """(label, start, stop) of every stretch of equal labels."""
    start = 0
    for label, group in groupby(labels):
        stop = start + len(list(group))
        yield label, start, stop
        start = stop


class RMSNorm(nn.RMSNorm):
    """Root mean square norm in the dtype of its input, so that autocast keeps the fused kernel."""

    def forward(self, x: Tensor) -> Tensor:
        return nnf.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class Attention(nn.Module):
    """Attention with RMS-normed queries and keys: of frames among themselves, or of frames to text (and image)."""

    def __init__(self, config: WanConfig, image_dim: int | None = None):
        super().__init__()
        dim, self.heads = config.dim, config.num_attention_heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(dim, dim) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])
        self.norm_q, self.norm_k = (RMSNorm(dim, config.eps) for _ in range(2))
        if image_dim is not None:
            self.add_k_proj, self.add_v_proj = (nn.Linear(image_dim, dim) for _ in range(2))
            self.norm_added_k = RMSNorm(dim, config.eps)

    def split(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., N, E)"""
        return x.unflatten(-1, (self.heads, -1))

    def read(self, text_BLD: Tensor, image_BLD: Tensor | None) -> KeyValue:
        """Keys and values of a text, and of an image if there is one."""
        pair = self.split(self.norm_k(self.to_k(text_BLD))), self.split(self.to_v(text_BLD))
        if image_BLD is None:
            return pair
        return *pair, self.split(self.norm_added_k(self.add_k_proj(image_BLD))), self.split(self.add_v_proj(image_BLD))

    def cross(self, x_BFSD: Tensor, texts: Sequence[KeyValue], scenes: Sequence[tuple[int, int, int]]) -> Tensor:
        """Frames start..stop attend to text `scene`, for every (scene, start, stop)."""
        q_BFSNE = self.split(self.norm_q(self.to_q(x_BFSD)))
        told = []
        for scene, start, stop in scenes:
            q = q_BFSNE[:, start:stop].flatten(1, 2)
            k, v, *image = texts[scene]
            told.append(attend(q, k, v) + attend(q, *image) if image else attend(q, k, v))
        return self.to_out[0](told[0] if len(told) == 1 else torch.cat(told, 1)).view_as(x_BFSD)

    def among(
        self, x_BFSD: Tensor, rope: Tensor, ends: Sequence[tuple[int, int]],
        memory: tuple[Tensor, Tensor] | None, keep: list[KeyValue] | None,
    ) -> Tensor:  # fmt: skip
        """Tokens start..stop attend to what is remembered and to tokens 0..stop, for every (start, stop)."""
        k_BFSD, v_BFSD = self.norm_k(self.to_k(x_BFSD)), self.to_v(x_BFSD)
        if keep is not None:
            keep.append((k_BFSD, v_BFSD))
        q = rotate(self.split(self.norm_q(self.to_q(x_BFSD))).flatten(1, 2), rope)
        k = rotate(self.split(k_BFSD).flatten(1, 2), rope)
        v = self.split(v_BFSD).flatten(1, 2)
        past = 0
        if memory is not None:
            past = memory[0].shape[1]
            k, v = torch.cat((memory[0], k), 1), torch.cat((memory[1], v), 1)
        seen = [attend(q[:, start:stop], k[:, : past + stop], v[:, : past + stop]) for start, stop in ends]
        return self.to_out[0](seen[0] if len(seen) == 1 else torch.cat(seen, 1)).view_as(x_BFSD)


class FeedForward(nn.Module):
    """Linear, activation, linear."""

    def __init__(self, dim: int, hidden: int, out: int, act: nn.Module):
        super().__init__()
        self.net = nn.ModuleList([nn.ModuleDict({"proj": nn.Linear(dim, hidden)}), act, nn.Linear(hidden, out)])

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](self.net[1](self.net[0]["proj"](x)))


class Block(nn.Module):
    """Self-attention, cross-attention, feed-forward; shift, scale and gate follow each frame's noise level."""

    def __init__(self, config: WanConfig):
        super().__init__()
        self.eps = config.eps
        self.attn1 = Attention(config)
        self.attn2 = Attention(config, config.added_kv_proj_dim)
        self.norm2 = nn.LayerNorm(config.dim, config.eps) if config.cross_attn_norm else nn.Identity()
        self.ffn = FeedForward(config.dim, config.ffn_dim, config.dim, nn.GELU("tanh"))
        self.scale_shift_table = nn.Parameter(torch.randn(1, 6, config.dim) / config.dim**0.5)

    def forward(self, x_BFSD, time_BF6D, texts, scenes, rope, ends, memory=None, keep=None) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = (self.scale_shift_table + time_BF6D).unsqueeze(3).unbind(2)
        if isinstance(texts, Tensor):  # an embedding rather than keys and values made before
            texts = [self.attn2.read(texts, None)]
        x = x_BFSD
        x = gated(x, self.attn1.among(modulated(x, shift1, scale1, self.eps), rope, ends, memory, keep), gate1)
        x = x + self.attn2.cross(self.cross_norm(x), texts, scenes)
        return gated(x, self.ffn(modulated(x, shift2, scale2, self.eps)), gate2)

    def keys_values(self, x_BFSD: Tensor, time_BF6D: Tensor) -> KeyValue:
        """Only what the self-attention would remember of these frames."""
        shift, scale = (self.scale_shift_table[:, :2] + time_BF6D[:, :, :2]).unsqueeze(3).unbind(2)
        normed = modulated(x_BFSD, shift, scale, self.eps)
        return self.attn1.norm_k(self.attn1.to_k(normed)), self.attn1.to_v(normed)

    def cross_norm(self, x: Tensor) -> Tensor:
        if isinstance(self.norm2, nn.Identity):
            return x
        weight, bias = wide(self.norm2.weight), wide(self.norm2.bias)
        return nnf.layer_norm(wide(x), x.shape[-1:], weight, bias, self.eps).to(x.dtype)


def modulated(x_BFSD: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """LayerNorm(x) * (1 + scale) + shift, in float32 or better; shift and scale are (B, F, 1, D)."""
    normed = nnf.layer_norm(wide(x_BFSD), x_BFSD.shape[-1:], eps=eps)
    return torch.addcmul(shift, normed, 1 + scale).to(x_BFSD.dtype)


def gated(x: Tensor, change: Tensor, gate: Tensor) -> Tensor:
    """x + change * gate, in float32 or better."""
    return torch.addcmul(wide(x), wide(change), gate).to(x.dtype)


def wide_linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """A linear layer computed in the dtype of x whatever its weights are kept in."""
    return nnf.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))


class Mlp(nn.Module):
    """Two linear layers under the names diffusers gives them."""

    def __init__(self, dim: int, out: int):
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(dim, out), nn.Linear(out, out)


class ImageEmbedder(nn.Module):
    """CLIP image tokens (B, L, image_dim) to the width of the network."""

    def __init__(self, image_dim: int, dim: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(image_dim), nn.LayerNorm(dim)
        self.ff = FeedForward(image_dim, image_dim, dim, nn.GELU())

    def forward(self, image: Tensor) -> Tensor:
        return self.norm2(self.ff(self.norm1(image)))


class Conditions(nn.Module):
    """Embeddings of noise level, text and image."""

    def __init__(self, config: WanConfig):
        super().__init__()
        self.freq_dim = config.freq_dim
        self.time_embedder = Mlp(config.freq_dim, config.dim)
        self.time_proj = nn.Linear(config.dim, 6 * config.dim)
        self.text_embedder = Mlp(config.text_dim, config.dim)
        if config.image_dim is not None:
            self.image_embedder = ImageEmbedder(config.image_dim, config.dim)

    def time(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Levels (...) -> (..., D) for the head and (..., 6, D) for the blocks, in float32 or better."""
        dtype = self.time_proj.weight.dtype
        code = wide(sinusoid(timestep(level), self.freq_dim).to(dtype))
        time = wide_linear(nnf.silu(wide_linear(code, self.time_embedder.linear_1)), self.time_embedder.linear_2)
        return time, wide_linear(nnf.silu(time), self.time_proj).unflatten(-1, (6, -1))

    def text(self, text: Tensor) -> Tensor:
        """(B, L, text_dim) -> (B, L, D)"""
        hidden = self.text_embedder.linear_1(text.to(self.time_proj.weight.dtype))
        return self.text_embedder.linear_2(nnf.gelu(hidden, approximate="tanh"))


class WanTransformer(nn.Module):
    """Velocity (noise - video) of latent frames, each at its own noise level.

    checkpointing: recompute blocks in the backward pass instead of keeping their activations.
    """

    def __init__(self, config: WanConfig):
        super().__init__()
        self.config = config
        self.checkpointing = False
        self.patch_embedding = nn.Conv3d(config.in_channels, config.dim, config.patch_size, config.patch_size)
        self.condition_embedder = Conditions(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
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
    ) -> Tensor:  # fmt: skip
        """Velocity (B C F H W).

        level: (), (F,) or (B, F), or (B, 1) for one level per video. text: embeddings (B, L, text_dim), or what
        `text_memory` made of one prompt or of several, with `scene` telling which one each frame follows.
        positions: (F,) where frames stand in time; 0, 1, 2... if not given. blocks: (F,) ascending; a frame attends
        to its block and to those before, or to all frames if not given. memory: frames from before, seen by all.
        fps: of the output, one number or (B,); only some networks care.
        """
        head_BFD, time_BF6D = self._time(level, fps)
        x_BFSD, *how = self._enter(x_BCFHW, text, positions, scene, blocks)
        for i, layer in enumerate(self.blocks):
            x_BFSD = self._run(layer, i, x_BFSD, time_BF6D, *how, memory)
        return self._leave(x_BFSD, head_BFD, x_BCFHW.shape)

    def remember(
        self, x_BCFHW: Tensor, level: Tensor, text: Tensor | TextMemory | Sequence[TextMemory],
        positions: Sequence[float] | Tensor | None = None, *, scene: Sequence[int] | None = None,
        blocks: Sequence[int] | None = None, memory: Placed | None = None, fps: float | Tensor | None = None,
    ) -> FrameMemory:  # fmt: skip
        """Keys and values of frames; the arguments are those of `forward`. The last layer goes no further than them."""
        _, time_BF6D = self._time(level, fps)
        x_BFSD, *how = self._enter(x_BCFHW, text, positions, scene, blocks)
        keep: list[KeyValue] = []
        for i, layer in enumerate(self.blocks[:-1]):
            x_BFSD = self._run(layer, i, x_BFSD, time_BF6D, *how, memory, keep)
        keep.append(self.blocks[-1].keys_values(x_BFSD, time_BF6D))
        return FrameMemory(*zip(*keep))

    def text_memory(self, text_BLD: Tensor, image_BLD: Tensor | None = None) -> TextMemory:
        """Cross-attention keys and values of one prompt, and of an image's CLIP tokens if the network sees images."""
        text = self.condition_embedder.text(text_BLD)
        if image_BLD is not None:
            image_BLD = self.condition_embedder.image_embedder(image_BLD.to(text.dtype))
        return TextMemory(tuple(block.attn2.read(text, image_BLD) for block in self.blocks))

    def place(self, memory: FrameMemory, positions: Sequence[float] | Tensor, height: int, width: int) -> Placed:
        """Stand remembered frames of latents (height, width) at positions (M,)."""
        rope = self._rope(positions, *self._grid(height, width), memory.keys[0])
        split = self.blocks[0].attn1.split
        return Placed(
            tuple(rotate(split(key).flatten(1, 2), rope) for key in memory.keys),
            tuple(split(value).flatten(1, 2) for value in memory.values),
        )

    def _run(self, layer, index, x_BFSD, time_BF6D, texts, scenes, rope, ends, memory, keep=None) -> Tensor:
        if not isinstance(texts, Tensor):
            texts = [text.layers[index] for text in texts]
        past = None if memory is None else (memory.keys[index], memory.values[index])
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(
                layer, x_BFSD, time_BF6D, texts, scenes, rope, ends, past, use_reentrant=False, preserve_rng_state=False
            )
        return layer(x_BFSD, time_BF6D, texts, scenes, rope, ends, past, keep)

    def _time(self, level: Tensor, fps: float | Tensor | None) -> tuple[Tensor, Tensor]:
        level = torch.as_tensor(level, device=self.proj_out.weight.device)
        head_BFD, time_BF6D = self.condition_embedder.time(level.reshape((1,) * (2 - level.ndim) + level.shape))
        if self.config.inject_sample_info:
            rate = torch.as_tensor(24.0 if fps is None else fps, device=level.device).reshape(-1)
            code = self.fps_projection(self.fps_embedding((rate != 16).long()))
            time_BF6D = time_BF6D + code.unflatten(-1, (6, -1))[:, None]
        return head_BFD, time_BF6D

    def _enter(self, x_BCFHW, text, positions, scene, blocks) -> tuple:
        """Tokens (B, F, S, D), and what every layer is told: texts, scenes, rotation, block ends."""
        frames, height, width = x_BCFHW.shape[2:]
        grid = self._grid(height, width)
        weight = self.patch_embedding.weight
        _, p, q = self.config.patch_size
        patches = x_BCFHW.to(weight.dtype).unflatten(4, (-1, q)).unflatten(3, (-1, p))  # B C F h p w q
        patches_BFSC = patches.permute(0, 2, 3, 5, 1, 4, 6).flatten(4).flatten(2, 3)
        x_BFSD = nnf.linear(patches_BFSC, weight.flatten(1), self.patch_embedding.bias).to(weight.dtype)
        if isinstance(text, TextMemory):
            text = [text]
        texts = self.condition_embedder.text(text) if isinstance(text, Tensor) else text
        scenes = list(runs(scene)) if scene is not None else [(0, 0, frames)]
        rope = self._rope(range(frames) if positions is None else positions, *grid, x_BFSD)
        tokens = math.prod(grid)
        spans = [(0, 0, frames)] if blocks is None else runs(blocks)
        return x_BFSD, texts, scenes, rope, [(start * tokens, stop * tokens) for _, start, stop in spans]

    def _leave(self, x_BFSD: Tensor, head_BFD: Tensor, shape: torch.Size) -> Tensor:
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
        """The rotation table of a shape and its positions; the last few are kept."""
        places = tuple(positions.tolist() if isinstance(positions, Tensor) else positions)
        dtype = torch.complex128 if like.dtype == torch.float64 else torch.complex64
        key = (places, height, width, dtype, like.device)
        if key not in self._ropes:
            table = rotary(torch.tensor(places, dtype=torch.float64), height, width, self.config.attention_head_dim)
            self._ropes[key] = table.to(like.device, dtype)
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
            nn.init.zeros_(module.bias)
    for mlp in (net.condition_embedder.time_embedder, net.condition_embedder.text_embedder):
        nn.init.normal_(mlp.linear_1.weight, std=0.02)
        nn.init.normal_(mlp.linear_2.weight, std=0.02)
    nn.init.zeros_(net.proj_out.weight)
