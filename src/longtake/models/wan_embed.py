"""What a Wan network is told besides the video, embedded: noise levels, text, CLIP tokens of an image, and a track."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from longtake.models.layers import FeedForward, wide

if TYPE_CHECKING:
    from longtake.models.wan import WanConfig


def timestep(level: Tensor) -> Tensor:
    """Wan counts noise from 0 to 1000."""
    return 1000.0 * level


def sinusoid(time: Tensor, width: int) -> Tensor:
    """Sinusoidal code (..., width) of times (...): cosines, then sines, of frequencies 10000^(-2i/width)."""
    half = width // 2
    frequency = torch.exp(torch.arange(half, dtype=torch.float64, device=time.device) * (-math.log(10000.0) / half))
    angle = time.double()[..., None] * frequency
    return torch.cat((angle.cos(), angle.sin()), -1)


def wide_linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """A linear layer computed in the dtype of x whatever its weights are kept in and autocast says."""
    with torch.autocast("cpu" if x.device.type == "meta" else x.device.type, enabled=False):  # meta knows no autocast
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


class TrackEmbedder(nn.Module):
    """Numbers that drive a latent frame, and the place of a token on the screen, to what is added to the token.

    The place lets a token know whether something told by coordinates is where it stands. It begins by adding nothing.
    """

    def __init__(self, track_dim: int, dim: int):
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(track_dim + 2, dim), nn.Linear(dim, dim)
        nn.init.zeros_(self.linear_2.weight)
        nn.init.zeros_(self.linear_2.bias)

    def forward(self, track: Tensor, grid: tuple[int, int]) -> Tensor:
        """(F, K) or (B, F, K), tokens in (rows, columns) -> (1 or B, F, S, D)."""
        sides = [(2 * torch.arange(side, device=track.device) + 1) / side - 1 for side in grid]
        place_S2 = torch.stack(torch.meshgrid(*sides, indexing="ij"), -1).flatten(0, 1).to(track)
        track_BFSK = track.reshape(-1, *track.shape[-2:])[:, :, None].expand(-1, -1, len(place_S2), -1)
        told = torch.cat([track_BFSK, place_S2.expand(*track_BFSK.shape[:3], 2)], 3)
        return self.linear_2(nnf.silu(self.linear_1(told)))


class Conditions(nn.Module):
    """Embeddings of noise level, text, image and track."""

    def __init__(self, config: WanConfig):
        super().__init__()
        self.freq_dim = config.freq_dim
        self.time_embedder = Mlp(config.freq_dim, config.dim)
        self.time_proj = nn.Linear(config.dim, 6 * config.dim)
        self.text_embedder = Mlp(config.text_dim, config.dim)
        if config.image_dim is not None:
            self.image_embedder = ImageEmbedder(config.image_dim, config.dim)
        if config.track_dim is not None:
            self.track_embedder = TrackEmbedder(config.track_dim, config.dim)

    def track(self, track: Tensor, grid: tuple[int, int]) -> Tensor:
        """What is added to tokens; see `TrackEmbedder`. ValueError for a network that is told of no track."""
        if not hasattr(self, "track_embedder"):
            raise ValueError("this network is told of no track: set track_dim in its config and train it")
        return self.track_embedder(track.to(self.time_proj.weight.dtype), grid)

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
