"""The embeddings of what a Wan network is conditioned on: sigmas, text, CLIP image features and a control signal."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from longtake.models.layers import FeedForward, check_text, wide


def timestep(sigma: Tensor) -> Tensor:
    """Convert sigma to the timestep that the network takes, 0 to 1000."""
    return 1000.0 * sigma


def sinusoid(time: Tensor, width: int) -> Tensor:
    """Return sinusoidal embeddings (..., width) of times (...): cosines, then sines, at frequencies 10000^(-2i/width)."""
    half = width // 2
    frequency = torch.exp(torch.arange(half, dtype=torch.float64, device=time.device) * (-math.log(10000.0) / half))
    angle = time.double()[..., None] * frequency
    return torch.cat((angle.cos(), angle.sin()), -1)


def wide_linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """Apply a linear layer in the dtype of x, whatever the dtype of its weights or of autocast."""
    with torch.autocast("cpu" if x.device.type == "meta" else x.device.type, enabled=False):  # meta has no autocast
        return nnf.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))


class Mlp(nn.Module):
    """Two linear layers with the names of diffusers."""

    def __init__(self, dim: int, out: int):
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(dim, out), nn.Linear(out, out)


class ImageEmbedder(nn.Module):
    """Projects CLIP image tokens (B, L, image_dim) to the width of the network."""

    def __init__(self, image_dim: int, dim: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(image_dim), nn.LayerNorm(dim)
        self.ff = FeedForward(image_dim, image_dim, dim, nn.GELU())

    def forward(self, image: Tensor) -> Tensor:
        return self.norm2(self.ff(self.norm1(image)))


class ControlEmbedder(nn.Module):
    """Embeds the control signal of a latent frame and the position of a token on the screen; the result is added to tokens.

    The position lets a token compare itself with coordinates in the signal. Initially it adds nothing.
    """

    def __init__(self, control_dim: int, dim: int):
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(control_dim + 2, dim), nn.Linear(dim, dim)
        nn.init.zeros_(self.linear_2.weight)
        nn.init.zeros_(self.linear_2.bias)

    def forward(self, control: Tensor, grid: tuple[int, int]) -> Tensor:
        """Embed a signal (F, K) or (B, F, K) for a grid of (rows, columns) tokens -> (1 or B, F, S, D)."""
        sides = [(2 * torch.arange(side, device=control.device) + 1) / side - 1 for side in grid]
        place_S2 = torch.stack(torch.meshgrid(*sides, indexing="ij"), -1).flatten(0, 1).to(control)
        control_BFSK = control.reshape(-1, *control.shape[-2:])[:, :, None].expand(-1, -1, len(place_S2), -1)
        inputs = torch.cat([control_BFSK, place_S2.expand(*control_BFSK.shape[:3], 2)], 3)
        return self.linear_2(nnf.silu(self.linear_1(inputs)))


class Conditions(nn.Module):
    """Embeds sigma, text, image features and the control signal."""

    def __init__(self, dim: int, freq_dim: int, text_dim: int, image_dim: int | None, control_dim: int | None):
        super().__init__()
        self.freq_dim, self.text_dim = freq_dim, text_dim
        self.time_embedder = Mlp(freq_dim, dim)
        self.time_proj = nn.Linear(dim, 6 * dim)
        self.text_embedder = Mlp(text_dim, dim)
        if image_dim is not None:
            self.image_embedder = ImageEmbedder(image_dim, dim)
        if control_dim is not None:
            self.control_embedder = ControlEmbedder(control_dim, dim)

    def control(self, control: Tensor, grid: tuple[int, int]) -> Tensor:
        """Embed a control signal (see `ControlEmbedder`). Raises ValueError for a network without such an input."""
        if not hasattr(self, "control_embedder"):
            raise ValueError("this network takes no control signal: set control_dim in its config and train it")
        return self.control_embedder(control.to(self.time_proj.weight.dtype), grid)

    def time(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Embed sigmas (...) -> (..., D) for the head and (..., 6, D) for the blocks, in float32 or better."""
        dtype = self.time_proj.weight.dtype
        embedding = wide(sinusoid(timestep(sigma), self.freq_dim).to(dtype))
        time = wide_linear(nnf.silu(wide_linear(embedding, self.time_embedder.linear_1)), self.time_embedder.linear_2)
        return time, wide_linear(nnf.silu(time), self.time_proj).unflatten(-1, (6, -1))

    def text(self, text: Tensor) -> Tensor:
        """Project text embeddings (B, L, text_dim) -> (B, L, D)."""
        text = check_text(text, self.text_dim)
        hidden = self.text_embedder.linear_1(text.to(self.time_proj.weight.dtype))
        return self.text_embedder.linear_2(nnf.gelu(hidden, approximate="tanh"))
