"""Load an LTX-Video checkpoint as a `Model`: diffusers folders, those of this project, and official single files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch

from longtake.core.guidance_settings import Guidance
from longtake.core.sigmas import token_shift
from longtake.models.checkpoints import loading as weights
from longtake.models.lora.per_scene import LoraSet, with_loras
from longtake.models.ltx import latent_upsampler as ltx_upsampler
from longtake.models.ltx.layout.files import Layout, find, fitting, is_size_of
from longtake.models.ltx.layout.lora_names import KEY_FORMAT
from longtake.models.ltx.layout.settings import own_settings
from longtake.models.ltx.presets import CLIP, COND_BLUR, COND_CRF, COND_NOISE, PUBLISHED, LTXPreset, Second
from longtake.models.ltx.session import LTXSession
from longtake.models.ltx.text_encoder import text_parts
from longtake.models.ltx.transformer import LTXTransformer
from longtake.models.ltx.vae import LTXVAE
from longtake.models.ltx.vae_config import DECODE_NOISE, DECODE_TIMESTEP, LTXVAEConfig
from longtake.models.model import (
    LatentDecoding,
    Model,
    ModelInfo,
    NetworkFeatures,
    SamplingDefaults,
    SecondStage,
    VideoFormat,
)
from longtake.models.runtime.load_options import ON_CPU, LoadOptions
from longtake.models.runtime.model_runtime import ModelRuntime
from longtake.planning.limits import Limits


def open_folder(folder: Path, load_options: LoadOptions = ON_CPU, preset: LTXPreset | None = None) -> Model:
    """Load the model in a folder with transformer/, vae/, text_encoder/ and tokenizer/, or in an official file.

    The folder of an official file must also have text_encoder/ and tokenizer/. longtake.json, if there is one, gives the
    defaults, else the preset: the one named, else the first that fits. With latent_upsampler/ in the folder, or the
    published upscaler next to the file, checkpoints that were published so run in two stages. The VAE is always float32.
    Raises WeightsError with the tensors that are missing or left over.
    """
    found = find(Path(folder))
    preset = None if found.about is not None else preset or fitting(found)[0]
    second = preset.second if preset is not None and found.upsampler is not None else None
    runtime = ModelRuntime(load_options)
    dtype = runtime.dtype(own=found.about is not None)
    config, vae_config = found.network_config, found.vae_config
    info, video, defaults = (
        own_settings(found.about or {}, found.path) if preset is None else published_settings(found, preset, second)
    )
    fp8 = runtime.fp8_weights("transformer_blocks")
    net = weights.load(LTXTransformer, config, found.network, found.network_names, dtype, runtime.storage, fp8)
    net = runtime.network(net)
    vae, decode = _vae(found, runtime), (found.about or {}).get("decode", {})
    stage = _second_stage(found, second, vae, runtime)
    multiple = vae_config.spatial_compression * (1 if stage is None else stage.scale)
    files = _files(found) + (weights.files(found.upsampler) if second and found.upsampler else [])
    lora = LoraSet(net, KEY_FORMAT, runtime.release, partial=load_options.lora_partial)
    offloaded = runtime.vae(vae)
    return Model(
        info=replace(info, digest=weights.digest(files), path=found.path, note=_note(preset, stage)),
        format=replace(video, size_multiple=(multiple, multiple), tokens_per_frame=_tokens(video.size, vae_config)),
        limits=_limits(found, video.fps),
        session=with_loras(runtime.session(lambda: LTXSession(net), net), lora),
        vae=offloaded,
        text_encoder=runtime.text_encoder(*text_parts(found.texts, dtype, runtime.device)),
        defaults=defaults,
        decoding=LatentDecoding(
            noise_sigma=decode.get("noise", DECODE_NOISE if vae_config.decoder.timestep_conditioning else 0.0),
            tone_map_compression=0.0 if second is None else second.tone,
        ),
        features=NetworkFeatures(
            lora=lora,
            guidance_blocks=config.num_layers,
            max_latents_at_fps=config.max_latent_frames,
            posterior=cast(LTXVAE, offloaded).posterior,
            one_part_on_device=runtime.offloads,
            dtype=dtype,
        ),
        second_stage=stage,
        device=runtime.device,
    )


def _vae(found: Layout, runtime: ModelRuntime) -> LTXVAE:
    """Load the VAE, in float32, with the timestep that its decoder is conditioned on."""
    vae = weights.load(LTXVAE, found.vae_config, found.vae, found.vae_names, torch.float32, runtime.storage)
    if found.vae_config.decoder.timestep_conditioning:
        vae.timestep = (found.about or {}).get("decode", {}).get("timestep", DECODE_TIMESTEP)
    return vae


def _limits(found: Layout, fps: float) -> Limits:
    """Return what a window may hold: as many frames as the network was trained for, or fewer by longtake.json."""
    most = (found.about or {}).get("max_latent_frames", 10**6)
    config = found.network_config
    return Limits(
        max_latent_frames=min(most, config.max_latent_frames(fps)),
        end="at",
        causal_positions=config.causal_temporal_positioning,
    )


def _second_stage(found: Layout, second: Second | None, vae: LTXVAE, runtime: ModelRuntime) -> SecondStage | None:
    """Load the latent upsampler of a checkpoint that runs in two stages."""
    if second is None or found.upsampler is None:
        return None
    grow = ltx_upsampler.load(found.upsampler, torch.float32, runtime.storage)
    grow = runtime.module(grow, "forward")
    return SecondStage(second.second, second.guidance, lambda x: ltx_upsampler.upsampled(grow, vae, x))


def _note(preset: LTXPreset | None, stage: SecondStage | None) -> str:
    """Return a remark on a checkpoint that lacks the upsampler it was published with."""
    if preset is None or preset.second is None or stage is not None:
        return ""
    return (
        f"{preset.name} was published with two stages, and runs in one: put latent_upsampler/ of "
        "Lightricks/ltxv-spatial-upscaler-0.9.7 into its folder, or ltxv-spatial-upscaler-0.9.8.safetensors of "
        "Lightricks/LTX-Video next to its file"
    )


def published_settings(
    found: Layout, preset: LTXPreset, second: Second | None
) -> tuple[ModelInfo, VideoFormat, SamplingDefaults]:
    """Return the settings of a released checkpoint: by default, videos of any length as a relay of 8-second clips.

    The sigmas of the first two releases are shifted by the number of tokens of a clip; a file that lists sigmas uses its
    own. In two stages these are the sigmas of the first. A network of another size has other blocks, so guidance skips
    none of them.
    """
    sampling: dict[str, Any] = dict(preset.sampling)
    if sampling["sigma_spacing"] == "terminal":
        latents = 1 + (CLIP - 1) // found.vae_config.temporal_compression
        sampling["shift"] = token_shift(latents * _tokens(preset.size, found.vae_config))
    sigmas = found.sigmas if second is None else second.first
    if sigmas:
        sampling["sigmas"] = ",".join(f"{sigma:.6g}" for sigma in sigmas)
    defaults = SamplingDefaults(
        strategy=preset.plan,
        strategy_options=sampling | dict(window=CLIP, overlap=1, image_cond_noise_scale=COND_NOISE),
        sampling_options=sampling,
        guidance=preset.guide if is_size_of(found, preset) else Guidance((preset.guidance,)),
        negative_prompt=preset.negative,
        solver=preset.solver,
        shift_by_tokens=sampling["sigma_spacing"] == "terminal",
        image_cond_blur=COND_BLUR,
        image_cond_crf=COND_CRF,
        published=PUBLISHED,
    )
    name = found.path.stem if found.path.is_file() else found.path.name
    return ModelInfo(name, "ltx"), VideoFormat(preset.fps, preset.size), defaults


def _tokens(size: tuple[int, int], vae: LTXVAEConfig) -> int:
    """Return the number of tokens of one latent frame."""
    return (size[0] // vae.spatial_compression) * (size[1] // vae.spatial_compression)


def _files(found: Layout) -> list[Path]:
    """Return all files that determine the model's output, in a fixed order."""
    parts = {*found.network, *found.vae}
    folders = [found.texts / "text_encoder", found.texts / "tokenizer"]
    folders += [file.parent for file in parts if file.parent != found.texts]  # those of diffusers, with their configs
    return sorted({p for folder in folders for p in folder.iterdir() if p.is_file()} | parts)
