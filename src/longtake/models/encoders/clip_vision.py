"""The CLIP vision encoder whose image features Wan image-to-video checkpoints are conditioned on.

Weight names are those of transformers' CLIPVisionModel. Shapes: B images, L tokens (a class token and one per patch),
D width, N heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from longtake.models.checkpoints import loading as weights

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

NAMES: weights.Names = (  # older transformers and ComfyUI files; then the CLIP of original Wan folders
    *weights.WRAPPERS,
    (r"^vision_model\.", ""),
    (r"^(visual_projection\.|embeddings\.position_ids$|textual\.|log_scale$|visual\.head$)", None),
    (r"^visual\.cls_embedding$", "embeddings.class_embedding"),
    (r"^visual\.pos_embedding$", "embeddings.position_embedding.weight"),
    (r"^visual\.patch_embedding\.", "embeddings.patch_embedding."),
    (r"^visual\.pre_norm\.", "pre_layrnorm."),
    (r"^visual\.post_norm\.", "post_layernorm."),
    (r"^visual\.transformer\.(\d+)\.", r"encoder.layers.\1."),
    (r"\.norm([12])\.", r".layer_norm\1."),
    (r"\.attn\.proj\.", ".self_attn.out_proj."),
    (r"\.mlp\.0\.", ".mlp.fc1."),
    (r"\.mlp\.2\.", ".mlp.fc2."),
)


@dataclass(frozen=True)
class ClipConfig:
    """Shape of an encoder; the names are those of transformers' config.json, the values those of ViT-H/14."""

    hidden_size: int = 1280
    intermediate_size: int = 5120
    num_hidden_layers: int = 32
    num_attention_heads: int = 16
    image_size: int = 224
    patch_size: int = 14
    layer_norm_eps: float = 1e-5
    hidden_act: str = "gelu"

    def __post_init__(self):
        if self.hidden_act != "gelu":
            raise ValueError(f"hidden_act is {self.hidden_act!r}; the encoder of Wan has 'gelu'")

    @classmethod
    def read(cls, folder: Path | str) -> ClipConfig:
        """Read the config.json of a transformers folder, of the vision encoder alone or of a whole CLIP model."""
        file = Path(folder) / "config.json"
        stated = weights.read_json(file)
        weights.check_quantisation(stated, file)
        inner = stated.get("vision_config", stated)
        if not isinstance(inner, dict):
            raise weights.WeightsError(f"{file}: vision_config must be an object, not {inner!r}")
        return weights.as_config(cls, inner, file)


class SelfAttention(nn.Module):
    """Multi-head self-attention over the patches."""

    def __init__(self, config: ClipConfig):
        super().__init__()
        self.heads, width = config.num_attention_heads, config.hidden_size
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x_BLD: Tensor) -> Tensor:
        q, k, v = (
            part(x_BLD).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.out_proj(nnf.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """A transformer layer: self-attention and feed-forward, each with a layer norm before it."""

    def __init__(self, config: ClipConfig):
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.self_attn = SelfAttention(config)
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        self.mlp = nn.ModuleDict(
            {"fc1": nn.Linear(width, config.intermediate_size), "fc2": nn.Linear(config.intermediate_size, width)}
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp["fc2"](nnf.gelu(self.mlp["fc1"](self.layer_norm2(x))))


class Embeddings(nn.Module):
    """A class token and the patches of an image, with position embeddings."""

    def __init__(self, config: ClipConfig):
        super().__init__()
        width, patch = config.hidden_size, config.patch_size
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.patch_embedding = nn.Conv2d(3, width, patch, patch, bias=False)
        self.position_embedding = nn.Embedding((config.image_size // patch) ** 2 + 1, width)

    def forward(self, image_B3HW: Tensor) -> Tensor:
        patches = self.patch_embedding(image_B3HW).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(patches), 1, -1)
        return torch.cat([first, patches], 1) + self.position_embedding.weight


class ClipVision(nn.Module):
    """The vision encoder: images to tokens, taken before its last layer."""

    def __init__(self, config: ClipConfig):
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.pre_layrnorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.encoder = nn.ModuleDict()
        self.encoder["layers"] = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.post_layernorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """Encode prepared images -> tokens (B, L, D)."""
        x_BLD = self.pre_layrnorm(self.embeddings(image_B3HW.to(self.pre_layrnorm.weight.dtype)))
        for layer in list(self.encoder["layers"].children())[:-1]:
            x_BLD = layer(x_BLD)
        return x_BLD

    @torch.no_grad()
    def encode_image(self, image_B3HW: Tensor) -> Tensor:
        """Encode video frames in [-1, 1] of any size -> tokens (B, L, D)."""
        return self(self.prepared(image_B3HW))

    def prepared(self, image_B3HW: Tensor) -> Tensor:
        """Resize to a square by bicubic interpolation and normalise, as Wan and SkyReels-V2 do (diffusers crops instead)."""
        size = (self.config.image_size,) * 2
        small = nnf.interpolate(image_B3HW.float(), size=size, mode="bicubic", align_corners=False)
        mean, std = (small.new_tensor(numbers)[:, None, None] for numbers in (MEAN, STD))
        return (small / 2 + 0.5 - mean) / std


def arranged(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the tensors of an original Wan folder the shapes of transformers; those of transformers stay as they are."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if ".attn.to_qkv." in name:
            for letter, part in zip("qkv", tensor.chunk(3)):
                found[name.replace(".attn.to_qkv.", f".self_attn.{letter}_proj.")] = part
        elif name == "embeddings.class_embedding":
            found[name] = tensor.flatten()
        elif name == "embeddings.position_embedding.weight" and tensor.ndim == 3:
            found[name] = tensor[0]
        else:
            found[name] = tensor
    return found


def load(
    path: Path | str, config: ClipConfig, dtype: torch.dtype | None = torch.float32, device: torch.device | str = "cpu"
) -> ClipVision:
    """Load the encoder from a folder or file of safetensors."""
    return weights.assign(ClipVision, config, arranged(weights.read(path, NAMES)), dtype, device)
