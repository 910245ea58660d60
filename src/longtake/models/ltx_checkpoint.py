"""An LTX-Video checkpoint as a Model: diffusers folders, our own ones, and official single files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from longtake.models import ltx_original, ltx_upsampler, weights
from longtake.models.base import Model, Refine
from longtake.models.lora_scene import adaptable
from longtake.models.ltx import LTXConfig, LTXTransformer
from longtake.models.ltx_codec import LTXCodec
from longtake.models.ltx_codec_config import LTXCodecConfig
from longtake.models.ltx_lora import SPELLING
from longtake.models.ltx_presets import CLIP, COND_NOISE, LTX, LTXPreset, Second
from longtake.models.ltx_session import LTXSession
from longtake.models.text import ONE_TABLE, T5Config, T5Encoder, WordText
from longtake.models.umt5 import UmT5Text, read_tokenizer
from longtake.noise import token_shift
from longtake.plan import Limits

WORDS = 256  # tokens of a prompt
TIMESTEP, NOISE = 0.05, 0.025  # of a decoder that is the last step of denoising, as published


@dataclass(frozen=True)
class Layout:
    """A checkpoint found on disk: the files and shapes of its parts. about: longtake.json; levels: those it allows."""

    path: Path
    network: Path
    codec: Path
    texts: Path  # the folder with text_encoder and tokenizer
    network_config: LTXConfig
    codec_config: LTXCodecConfig
    network_names: weights.Names = ()
    codec_names: weights.Names = ()
    about: Mapping[str, Any] | None = None
    levels: tuple[float, ...] = ()
    upsampler: Path | None = None


def open_folder(
    folder: Path, dtype: torch.dtype | None = None, device: str = "cpu", preset: LTXPreset | None = None
) -> Model:
    """The model in a folder with transformer/, vae/, text_encoder/ and tokenizer/, or in an official file.

    A file needs text_encoder/ and tokenizer/ beside it. longtake.json, if there is one, gives the defaults, else the
    preset: the one named, else the first that fits. With latent_upsampler/ in the folder, or the published upscaler
    beside the file, checkpoints that were published so run in two passes. dtype is that of transformer and text
    encoder: by default bfloat16 on an accelerator, float32 on a CPU and for a model of our own; the codec is float32.
    WeightsError names what is missing or left over.
    """
    found = find(Path(folder))
    preset = None if found.about is not None else preset or fitting(found)[0]
    second = preset.second if preset is not None and found.upsampler is not None else None
    own = found.about is not None
    dtype = dtype or (torch.float32 if own or torch.device(device).type == "cpu" else torch.bfloat16)
    config, codec_config, defaults = found.network_config, found.codec_config, _defaults(found, preset, second)
    net = weights.load(LTXTransformer, config, found.network, found.network_names, dtype, device)
    codec = weights.load(LTXCodec, codec_config, found.codec, found.codec_names, torch.float32, device)
    told = (found.about or {}).get("decode", {})
    if codec_config.timestep_conditioning:
        codec.timestep = told.get("timestep", TIMESTEP)
    model = Model(
        family="ltx",
        limits=Limits(view=min((found.about or {}).get("view", 10**6), config.view(defaults["fps"])), end="at"),
        session=lambda: LTXSession(net),
        codec=codec,
        text=text_encoder(found.texts, dtype, device),
        digest=weights.digest(_files(found) + (weights.files(found.upsampler) if second and found.upsampler else [])),
        path=found.path,
        tokens=_tokens(defaults["size"], codec_config),
        decode_noise=told.get("noise", NOISE if codec_config.timestep_conditioning else 0.0),
        device=device,
        blocks=config.num_layers,
        span=config.view,
        **defaults,
    )
    if second is not None and found.upsampler is not None:
        grow = ltx_upsampler.load(found.upsampler, torch.float32, device)
        model.refine = Refine(second.second, second.guidance, lambda x: ltx_upsampler.upsampled(grow, codec, x))
        model.unit = (2 * codec_config.scale, 2 * codec_config.scale)
    elif preset is not None and preset.second is not None:
        model.note = (
            f"{preset.name} was published with two passes, and runs in one: put latent_upsampler/ of "
            "Lightricks/ltxv-spatial-upscaler-0.9.7 into its folder, or ltxv-spatial-upscaler-0.9.8.safetensors of "
            "Lightricks/LTX-Video beside its file"
        )
    return adaptable(model, net, SPELLING)


def find(path: Path) -> Layout:
    """What lies at a path, told from configs and headers alone."""
    if path.is_file() or not (path / "transformer").is_dir():
        return _single(path if path.is_file() else weights.files(path)[0], path)
    missing = [part for part in ("vae", "text_encoder", "tokenizer") if not (path / part).is_dir()]
    if missing:
        raise weights.WeightsError(f"{path} lacks {', '.join(missing)}: copy the whole checkpoint")
    network, codec = path / "transformer", path / "vae"
    codec_config = weights.configure(LTXCodecConfig, codec)
    config = weights.configure(LTXConfig, network)
    if "causal_temporal_positioning" not in weights.read_json(network / "config.json"):
        config = replace(config, causal_temporal_positioning=codec_config.grown)  # as released: from 0.9.5 on
    about = weights.read_json(path / "longtake.json") if (path / "longtake.json").exists() else None
    grow = path / "latent_upsampler"
    return Layout(
        path, network, codec, path, _fitted(config, codec_config), codec_config, about=about,
        upsampler=grow if grow.is_dir() else None,
    )  # fmt: skip


def _single(file: Path, path: Path) -> Layout:
    missing = [part for part in ("text_encoder", "tokenizer") if not (file.parent / part).is_dir()]
    if missing:
        raise weights.WeightsError(
            f"{file.parent} lacks {', '.join(missing)}: copy those folders of Lightricks/LTX-Video beside {file.name}"
        )
    config, codec_config = ltx_original.network(file), ltx_original.codec(file)
    allowed = ltx_original.metadata(file).get("allowed_inference_steps") or ()
    upscalers = sorted(file.parent.glob("ltxv-spatial-upscaler-*.safetensors"))
    return Layout(
        path, file, file, file.parent, _fitted(config, codec_config), codec_config,
        ltx_original.NETWORK, ltx_original.codec_names(codec_config), levels=tuple(sorted(allowed, reverse=True)),
        upsampler=upscalers[-1] if upscalers else None,
    )  # fmt: skip


def _fitted(config: LTXConfig, codec: LTXCodecConfig) -> LTXConfig:
    """The network's config with the frames and pixels per latent of its codec."""
    if config.in_channels != codec.latent_channels:
        raise weights.WeightsError(
            f"the network takes {config.in_channels} channels, but the codec makes {codec.latent_channels}"
        )
    return replace(config, stride=codec.stride, scale=codec.scale)


def fitting(found: Layout) -> list[LTXPreset]:
    """Released checkpoints that it may be, the likeliest first; of its codec alone if its network is no released one.

    A file whose metadata lists the noise levels that it allows is distilled; the rest does not say, and is taken as it is
    not.
    """
    kind = "distilled" if found.levels else "dev"
    era = "0.9.5" if found.codec_config.grown else "0.9.1" if found.codec_config.timestep_conditioning else "0.9.0"
    known = [preset for preset in LTX.values() if preset.codec == era]
    known = [preset for preset in known if preset.kind == kind] or known
    return [preset for preset in known if _sized(found, preset)] or known


def _sized(found: Layout, preset: LTXPreset) -> bool:
    """Whether the network has the size of a released one."""
    ours, theirs = found.network_config, preset.config()
    return (ours.dim, ours.num_layers) == (theirs.dim, theirs.num_layers)


def _defaults(found: Layout, preset: LTXPreset | None, second: Second | None) -> dict[str, Any]:
    """What longtake.json says in the words of Model, or the published settings."""
    about = found.about
    if about is None:
        assert preset is not None
        return _published(found, preset, second)
    known = ("guidance", "negative", "plan", "options", "sampling", "vocabulary")
    try:
        fixed = dict(name=about["name"], fps=about["fps"], size=tuple(about["size"]))
    except KeyError as error:
        raise weights.WeightsError(
            f"{found.path / 'longtake.json'} does not say {error}: copy the model again"
        ) from error
    return {key: about[key] for key in known if key in about} | fixed | {"rates": tuple(about.get("rates", ()))}


def _published(found: Layout, preset: LTXPreset, second: Second | None) -> dict[str, Any]:
    """The settings of a released checkpoint; by default any length as a relay of clips of 8 seconds.

    The levels of the first two releases are shifted by the tokens of a clip; those of a file that lists them are its own.
    In two passes, the levels of the first. A network of another size has other blocks, so none of them is perturbed.
    """
    sampling: dict[str, Any] = dict(preset.sampling)
    if sampling["grid"] == "terminal":
        latents = 1 + (CLIP - 1) // found.codec_config.stride
        sampling["shift"] = token_shift(latents * _tokens(preset.size, found.codec_config))
    levels = found.levels if second is None else second.first
    if levels:
        sampling["levels"] = ",".join(f"{level:.6g}" for level in levels)
    return dict(
        name=found.path.stem if found.path.is_file() else found.path.name, fps=preset.fps, size=preset.size,
        guidance=preset.guidance, guide=preset.guide if _sized(found, preset) else None, plan=preset.plan, solver=preset.solver, negative=preset.negative,
        options=sampling | dict(window=CLIP, overlap=1, cond_noise=COND_NOISE), sampling=sampling,
        tone=0.0 if second is None else second.tone, shift_by_tokens=sampling["grid"] == "terminal",
    )  # fmt: skip


def _tokens(size: tuple[int, int], codec: LTXCodecConfig) -> int:
    """Tokens of one latent frame."""
    return (size[0] // codec.scale) * (size[1] // codec.scale)


def text_encoder(folder: Path, dtype: torch.dtype | None, device: str = "cpu") -> WordText | UmT5Text:
    """The T5 encoder of a folder with text_encoder/ and tokenizer/; padding is hidden from it, and zero after it, by which
    the network knows it."""
    tokenizer = _tokenizer(folder / "tokenizer")
    part = folder / "text_encoder"
    encoder = weights.load(T5Encoder, T5Config.read(part), part, ONE_TABLE, dtype, device)
    if isinstance(tokenizer.model, WordLevel):
        return WordText(encoder, tokenizer)
    return UmT5Text(encoder, tokenizer, WORDS)


def _tokenizer(folder: Path) -> Tokenizer:
    """From tokenizer.json; the published folders hold only a sentencepiece model, which transformers can read."""
    if (folder / "tokenizer.json").is_file():
        return read_tokenizer(folder)
    try:
        library = import_module("transformers")
        return library.AutoTokenizer.from_pretrained(str(folder), local_files_only=True).backend_tokenizer
    except Exception as error:  # of many kinds, depending on what is installed
        raise weights.WeightsError(
            f"{folder} holds no tokenizer.json: copy that of google/t5-v1_1-xxl there, or install transformers and "
            f"sentencepiece to read its model ({type(error).__name__})"
        ) from error


def _files(found: Layout) -> list[Path]:
    """The files that make the model what it is, in a fixed order."""
    folders = [found.texts / "text_encoder", found.texts / "tokenizer"]
    single = found.network.is_file()
    folders += [] if single else [found.network, found.codec]
    return sorted(
        {p for folder in folders for p in folder.iterdir() if p.is_file()} | ({found.network} if single else set())
    )
