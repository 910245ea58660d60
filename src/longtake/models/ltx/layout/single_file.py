"""Official LTX-Video single files: shapes from their metadata or their tensors, and the names of their weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from longtake.models.checkpoints import loading as weights
from longtake.models.checkpoints.safetensors_headers import Entry, entries, header, json_metadata, numbered
from longtake.models.checkpoints.tensor_names import unwrapped
from longtake.models.ltx.config import LTXConfig
from longtake.models.ltx.vae_config import LTX_090, LTX_091, LTX_095, LTXVAEConfig

NETWORK: weights.Names = (  # to diffusers
    *weights.WRAPPERS,
    (r"^vae\.", None),
    (r"^patchify_proj\.", "proj_in."),
    (r"^adaln_single\.", "time_embed."),
    (r"\.([qk])_norm\.", r".norm_\1."),
)
KINDS = {"compress_all": "conv", "compress_all_res": "spatiotemporal", "compress_space_res": "spatial", "compress_time_res": "temporal"}  # fmt: skip
Blocks = Sequence[tuple[str, Any]]


VAE_PREFIX: weights.Names = (*weights.WRAPPERS, (r"^vae\.", ""))


def metadata(file: Path) -> dict[str, Any]:
    """Read the metadata of newer files: transformer, vae, scheduler, allowed_inference_steps. {} if there is none."""
    return json_metadata(file, "config")


def _table(about: Mapping[str, Any], key: str, file: Path) -> Mapping[str, Any]:
    """Return a table of the metadata, {} if there is none."""
    found = about.get(key)
    if found is not None and not isinstance(found, dict):
        raise weights.WeightsError(f"{file}: {key} of its metadata must be an object, not {found!r}")
    return found or {}


def allowed_sigmas(file: Path) -> tuple[float, ...]:
    """Return the sigmas that the metadata of a distilled checkpoint allows, the largest first; () if it lists none."""
    stated = metadata(file).get("allowed_inference_steps") or ()
    try:
        sigmas = tuple(sorted((float(sigma) for sigma in stated), reverse=True))
    except (ValueError, TypeError) as error:
        raise weights.WeightsError(f"{file}: allowed_inference_steps of its metadata: {error}") from error
    if not all(0 <= sigma <= 1 for sigma in sigmas):
        raise weights.WeightsError(f"{file}: allowed_inference_steps must be sigmas from 0 to 1, not {stated}")
    return sigmas


def holds_network(file: Path) -> bool:
    """Whether a file has tensors of an LTX transformer."""
    return any(re.match(r"transformer_blocks\.\d+\.", unwrapped(name)) for name in header(file))


def holds_vae(files: Sequence[Path]) -> bool:
    """Whether files have tensors of an LTX VAE."""
    return any("encoder.conv_out.conv.weight" in entries([file], VAE_PREFIX) for file in files)


def has_prefix(files: Sequence[Path]) -> bool:
    """Whether the tensors of the VAE have names that begin with vae."""
    return any(unwrapped(name).startswith("vae.") for file in files for name in header(file))


def network(files: Sequence[Path], vae_config: LTXVAEConfig) -> LTXConfig:
    """Read the transformer's config: sizes from the tensors, the rest from the metadata, or as in all releases.

    Positions are causal from 0.9.5 on, which files without metadata show by their VAE.
    """
    file = files[0]
    tensors, about = entries(files, NETWORK), metadata(file)
    stated = _table(about, "transformer", file)
    fixed: dict[str, Any] = dict(timestep_scale_multiplier=1000, positional_embedding_theta=10000.0)
    fixed |= dict(positional_embedding_max_pos=[20, 2048, 2048])
    for name, value in fixed.items():
        if stated.get(name, value) != value:
            raise weights.WeightsError(f"{file} is not supported: its {name} is {stated[name]}, not {value}")
    counted = numbered(tensors, r"^transformer_blocks\.(\d+)\.")
    try:
        dim, channels = tensors["proj_in.weight"].shape
        heads = stated.get("num_attention_heads", 32)
        sizes = dict(
            in_channels=channels,
            out_channels=tensors["proj_out.weight"].shape[0],
            num_attention_heads=heads,
            attention_head_dim=dim // heads,
            cross_attention_dim=tensors["transformer_blocks.0.attn2.to_k.weight"].shape[1],
            num_layers=stated.get("num_layers", counted),
            caption_channels=tensors["caption_projection.linear_1.weight"].shape[1],
            causal_temporal_positioning=stated.get(
                "causal_temporal_positioning", not about and vae_config.encoder.grown
            ),
        )
    except (LookupError, ValueError, TypeError, ArithmeticError) as error:
        raise weights.WeightsError(f"{file} holds no complete LTX transformer: {error}") from error
    config = weights.as_config(LTXConfig, sizes, file)
    if counted < config.num_layers:
        raise weights.WeightsError(
            f"{file} holds {counted} of the {config.num_layers} layers that its metadata states: fetch it again"
        )
    return config


def vae(files: Sequence[Path]) -> LTXVAEConfig:
    """Read the VAE's config: from the metadata, else that of the release with these tensors."""
    stated = metadata(files[0]).get("vae")
    if stated is None:
        return released(entries(files, VAE_PREFIX))
    try:
        return read(_table({"vae": stated}, "vae", files[0]), files[0])
    except (LookupError, ValueError, TypeError, AttributeError, ArithmeticError) as error:
        if isinstance(error, weights.WeightsError):
            raise
        raise weights.WeightsError(f"{files[0]}: its metadata describes an unknown VAE: {error}") from error


def released(tensors: Mapping[str, Entry]) -> LTXVAEConfig:
    """Return the config of the release with these tensors (named without `vae.`)."""
    if "encoder.conv_out.conv.weight" not in tensors:
        raise weights.WeightsError("these tensors hold no LTX VAE: use the file that contains it")
    if tensors["encoder.conv_out.conv.weight"].shape[1] == 2048:
        return LTX_095
    return LTX_091 if any("last_time_embedder" in name for name in tensors) else LTX_090


def read(stated: Mapping[str, Any], file: object = "the metadata") -> LTXVAEConfig:
    """Read a VAE's config from the description of its blocks in official files."""
    fixed = dict(norm_layer="pixel_norm", latent_log_var="uniform", use_quant_conv=False, causal_decoder=False)
    fixed |= dict(dims=3, spatial_padding_mode="zeros", scaling_factor=1.0)
    wrong = [f"{name} = {stated[name]}" for name, value in fixed.items() if stated.get(name, value) != value]
    if wrong:
        raise ValueError(weights.brief(wrong))
    sizes = dict(
        in_channels=stated.get("in_channels", 3),
        out_channels=stated.get("out_channels", 3),
        latent_channels=stated["latent_channels"],
        patch_size=stated.get("patch_size", 1),
        timestep_conditioning=stated.get("timestep_conditioning", False),
        **_encoder(_blocks(stated, "encoder_blocks"), stated.get("encoder_base_channels", 128)),
        **_decoder(_blocks(stated, "decoder_blocks")[::-1], stated.get("decoder_base_channels", 128)),
    )
    return weights.as_config(LTXVAEConfig, sizes, file)


def _blocks(stated: Mapping[str, Any], name: str) -> Blocks:
    """Return blocks as (kind, settings); a bare number counts layers."""
    blocks = stated.get(name) or stated["blocks"]
    return [(kind, {"num_layers": about} if isinstance(about, int) else about) for kind, about in blocks]


def _encoder(blocks: Blocks, base: int) -> dict[str, Any]:
    """Return the encoder's part of the config, whose blocks are ordered from the frames to the latents."""
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
    """Return the decoder's part of the config: blocks ordered from the latents on, which diffusers lists from the output on."""
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
            raise ValueError(f"a block of the unknown kind {kind!r}")
    widths, doubles, residual, factors = zip(*ups[-2:0:-1])
    return dict(
        decoder_block_out_channels=widths,
        decoder_layers_per_block=layers[::-1],
        decoder_spatio_temporal_scaling=doubles,
        decoder_inject_noise=noisy[::-1],
        upsample_residual=residual,
        upsample_factor=factors,
    )


def vae_names(config: LTXVAEConfig, prefixed: bool = True) -> weights.Names:
    """Return the table from the tensor names of official files to those of diffusers, for a VAE of this shape.

    prefixed: whether the names begin with vae., as in a file that also holds the transformer.
    """

    def numbered_by(places: Sequence[str]) -> Callable[[re.Match], str]:
        return lambda match: f"{match[1]}.{places[int(match[2])]}." if int(match[2]) < len(places) else match[0]

    return (
        *weights.WRAPPERS,
        *([(r"^(?!vae\.).*", None)] if prefixed else []),
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


def encoder_places(config: LTXVAEConfig) -> list[str]:
    """Return where diffusers keeps the encoder blocks that official files number in one row."""
    found = []
    for i, shrinks in enumerate(config.encoder.spatio_temporal_scaling):
        found += [f"down_blocks.{i}", *([f"down_blocks.{i}.downsamplers.0"] if shrinks else [])]
        if not config.encoder.grown and config.encoder.widths[i] != config.encoder.widths[i + 1]:
            found.append(f"down_blocks.{i}.conv_out")
    return [*found, "mid_block"]


def decoder_places(config: LTXVAEConfig) -> list[str]:
    """Return where diffusers keeps the decoder blocks that official files number in one row."""
    found = ["mid_block"]
    for i, (dim, out, _) in enumerate(config.decoder.stages):
        found += [f"up_blocks.{i}.conv_in"] if dim != out else []
        found += [f"up_blocks.{i}.upsamplers.0"] if config.decoder.spatio_temporal_scaling[::-1][i] else []
        found.append(f"up_blocks.{i}")
    return found
