"""Official LTX-Video single files: shapes told by their metadata or their tensors, and their names of the weights."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from longtake.models import weights
from longtake.models.headers import Entry, entries, numbered
from longtake.models.ltx import LTXConfig
from longtake.models.ltx_codec_config import LTX_090, LTX_091, LTX_095, LTXCodecConfig

NETWORK: weights.Names = (  # to diffusers
    (r"^vae\.", None),
    (r"^model\.diffusion_model\.", ""),
    (r"^patchify_proj\.", "proj_in."),
    (r"^adaln_single\.", "time_embed."),
    (r"\.([qk])_norm\.", r".norm_\1."),
)
KINDS = {"compress_all": "conv", "compress_all_res": "spatiotemporal", "compress_space_res": "spatial", "compress_time_res": "temporal"}  # fmt: skip
Blocks = Sequence[tuple[str, Any]]


def metadata(file: Path) -> dict[str, Any]:
    """The JSON that newer files carry: transformer, vae, scheduler, allowed_inference_steps. Empty if there is none."""
    try:
        with safe_open(file, "pt") as opened:
            return json.loads((opened.metadata() or {}).get("config", "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise weights.WeightsError(f"{file} is damaged or cut short ({error}): fetch it again") from error


def network(file: Path) -> LTXConfig:
    """The config of the network: its sizes from the tensors, the rest from the metadata or as all releases have it.

    Positions are causal from 0.9.5 on; files without metadata tell that by their codec.
    """
    tensors, about = entries(file, NETWORK), metadata(file)
    told = about.get("transformer", {})
    fixed: dict[str, Any] = dict(timestep_scale_multiplier=1000, positional_embedding_theta=10000.0)
    fixed |= dict(positional_embedding_max_pos=[20, 2048, 2048])
    for name, value in fixed.items():
        if told.get(name, value) != value:
            raise weights.WeightsError(f"{file} is not supported: its {name} is {told[name]}, not {value}")
    try:
        dim, channels = tensors["proj_in.weight"].shape
        heads = told.get("num_attention_heads", 32)
        return LTXConfig(
            in_channels=channels,
            out_channels=tensors["proj_out.weight"].shape[0],
            num_attention_heads=heads,
            attention_head_dim=dim // heads,
            cross_attention_dim=tensors["transformer_blocks.0.attn2.to_k.weight"].shape[1],
            num_layers=numbered(tensors, r"^transformer_blocks\.(\d+)\."),
            caption_channels=tensors["caption_projection.linear_1.weight"].shape[1],
            causal_temporal_positioning=told.get("causal_temporal_positioning", not about and codec(file).grown),
        )
    except (KeyError, ValueError) as error:
        raise weights.WeightsError(f"{file} holds no whole LTX network: {error}") from error


def codec(file: Path) -> LTXCodecConfig:
    """The config of the codec: from the metadata, else that of the release whose tensors these are."""
    told = metadata(file).get("vae")
    if told is not None:
        try:
            return read(told)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise weights.WeightsError(
                f"{file}: its metadata describes no codec that is known here: {error}"
            ) from error
    return released(entries(file, ((r"^vae\.", ""),)))


def released(tensors: Mapping[str, Entry]) -> LTXCodecConfig:
    """Which of three releases has these tensors (without `vae.`)."""
    if "encoder.conv_out.conv.weight" not in tensors:
        raise weights.WeightsError("there is no LTX codec among these tensors: use the file that holds it as well")
    if tensors["encoder.conv_out.conv.weight"].shape[1] == 2048:
        return LTX_095
    return LTX_091 if any("last_time_embedder" in name for name in tensors) else LTX_090


def read(told: Mapping[str, Any]) -> LTXCodecConfig:
    """The config of a codec whose blocks are told as official files tell them."""
    fixed = dict(norm_layer="pixel_norm", latent_log_var="uniform", use_quant_conv=False, causal_decoder=False)
    fixed |= dict(dims=3, spatial_padding_mode="zeros", scaling_factor=1.0)
    wrong = [f"{name} = {told[name]}" for name, value in fixed.items() if told.get(name, value) != value]
    if wrong:
        raise ValueError(weights.brief(wrong))
    return LTXCodecConfig(
        in_channels=told.get("in_channels", 3),
        out_channels=told.get("out_channels", 3),
        latent_channels=told["latent_channels"],
        patch_size=told.get("patch_size", 1),
        timestep_conditioning=told.get("timestep_conditioning", False),
        **_encoder(_blocks(told, "encoder_blocks"), told.get("encoder_base_channels", 128)),
        **_decoder(_blocks(told, "decoder_blocks")[::-1], told.get("decoder_base_channels", 128)),
    )


def _blocks(told: Mapping[str, Any], name: str) -> Blocks:
    """Blocks as (kind, settings); a bare number counts layers."""
    given = told.get(name) or told["blocks"]
    return [(kind, {"num_layers": about} if isinstance(about, int) else about) for kind, about in given]


def _encoder(blocks: Blocks, base: int) -> dict[str, Any]:
    width, before, layers, kinds = base, [], [], []
    for kind, about in blocks:
        if kind == "res_x":
            layers.append(about["num_layers"])
            before.append(width)
            kinds.append("")
        elif kind == "res_x_y":
            width *= about.get("multiplier", 2)
        else:
            kinds[-1] = KINDS[kind]
            width *= about.get("multiplier", 2) if kind.endswith("_res") else 1
    grown = any(kind not in ("", "conv") for kind in kinds)
    return dict(
        block_out_channels=before if grown else before[:-1],
        down_block_types=["LTXVideo095DownBlock3D" if grown else "LTXVideoDownBlock3D"] * (len(layers) - 1),
        layers_per_block=layers,
        spatio_temporal_scaling=[bool(kind) for kind in kinds[:-1]],
        downsample_type=[kind or "conv" for kind in kinds[:-1]],
    )


def _decoder(blocks: Blocks, base: int) -> dict[str, Any]:
    """Blocks from the latents on; diffusers tells them from the output on."""
    width = base
    for kind, about in blocks:
        width *= about.get("multiplier", 2 if kind == "res_x_y" else 1) if kind != "res_x" else 1
    layers, noisy, ups = [], [], [[width, False, False, 1]]  # width times factor, doubles, residual, factor
    for kind, about in blocks:
        if kind == "res_x":
            layers.append(about["num_layers"])
            noisy.append(about.get("inject_noise", False))
            ups[-1][0] = width * ups[-1][3]
            ups.append([width, False, False, 1])
        elif kind == "res_x_y":
            width //= about.get("multiplier", 2)
        elif kind == "compress_all":
            factor = about.get("multiplier", 1)
            width //= factor
            ups[-1] = [width, True, about.get("residual", False), factor]
        else:
            raise ValueError(f"block {kind}")
    widths, doubles, residual, factors = zip(*ups[-2:0:-1])
    return dict(
        decoder_block_out_channels=widths,
        decoder_layers_per_block=layers[::-1],
        decoder_spatio_temporal_scaling=doubles,
        decoder_inject_noise=noisy[::-1],
        upsample_residual=residual,
        upsample_factor=factors,
    )


def codec_names(config: LTXCodecConfig) -> weights.Names:
    """The names in official files of a codec of this shape, to diffusers."""

    def numbered_by(places: Sequence[str]) -> Callable[[re.Match], str]:
        return lambda match: f"{match[1]}.{places[int(match[2])]}." if int(match[2]) < len(places) else match[0]

    return (
        (r"^(?!vae\.).*", None),
        (r"^vae\.", ""),
        (r"^per_channel_statistics\.mean-of-means$", "latents_mean"),
        (r"^per_channel_statistics\.std-of-means$", "latents_std"),
        (r"^per_channel_statistics\.", None),
        (r"^(encoder)\.down_blocks\.(\d+)\.", numbered_by(encoder_places(config))),
        (r"^(decoder)\.up_blocks\.(\d+)\.", numbered_by(decoder_places(config))),
        (r"\.res_blocks\.", ".resnets."),
        (r"\.conv_shortcut\.(weight|bias)$", r".conv_shortcut.conv.\1"),
        (r"\.norm3\.norm\.", ".norm3."),
        (r"^decoder\.last_time_embedder\.", "decoder.time_embedder."),
        (r"^decoder\.last_scale_shift_table$", "decoder.scale_shift_table"),
    )


def encoder_places(config: LTXCodecConfig) -> list[str]:
    """Where the blocks that the official encoder counts in one row stand in that of diffusers."""
    found = []
    for i, shrinks in enumerate(config.spatio_temporal_scaling):
        found += [f"down_blocks.{i}", *([f"down_blocks.{i}.downsamplers.0"] if shrinks else [])]
        if not config.grown and config.widths[i] != config.widths[i + 1]:
            found.append(f"down_blocks.{i}.conv_out")
    return [*found, "mid_block"]


def decoder_places(config: LTXCodecConfig) -> list[str]:
    """The same of the decoder."""
    found = ["mid_block"]
    for i, (dim, out, _) in enumerate(config.stages):
        found += [f"up_blocks.{i}.conv_in"] if dim != out else []
        found += [f"up_blocks.{i}.upsamplers.0"] if config.decoder_spatio_temporal_scaling[::-1][i] else []
        found.append(f"up_blocks.{i}")
    return found
