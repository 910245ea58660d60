"""A Wan checkpoint on disk as a Model: our own folders, released ones in every layout, and single files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import torch
from tokenizers.models import WordLevel

from longtake.models import clip, svi, wan_parts, weights
from longtake.models.attention import choose
from longtake.models.base import Codec, Model, Session, TextEncoder
from longtake.models.fuse import fuse
from longtake.models.lora_scene import adaptable
from longtake.models.place import Offload
from longtake.models.presets import Kind, Preset, fitting
from longtake.models.text import T5Encoder, WordText
from longtake.models.turns import Part as Turning
from longtake.models.umt5 import UmT5Text, read_tokenizer
from longtake.models.wan import WanConfig, WanTransformer
from longtake.models.wan_codec import WanCodec, WanCodecConfig
from longtake.models.wan_image import Teller
from longtake.models.wan_layout import find, settings, undecided
from longtake.models.wan_lora import SPELLING, SVI_TARGETS
from longtake.models.wan_parts import NAMES, Layout, Part
from longtake.models.wan_session import WanSession
from longtake.models.wan_turns import Turns
from longtake.plan import Limits

CONTEXT: Mapping[Kind, Literal["in place", "beside", "none"]] = {"df": "in place", "i2v": "beside", "t2v": "none"}


def open_folder(
    folder: Path,
    dtype: torch.dtype | None = None,
    device: str = "cpu",
    preset: Preset | None = None,
    offload: Offload = "none",
    fp8: bool = False,
    attention: str = "auto",
    compile: bool = False,
) -> Model:
    """The model in a folder or file (see `wan_layout`); the preset says what the files leave open.

    longtake.json, if there is one, gives the defaults, else the preset that fits. dtype is that of transformer and text
    encoder: by default bfloat16 on an accelerator and float32 on a CPU; codec and image encoder are float32, and so is
    a model of our own. offload: see `place`; fp8: keep the matrices of the transformer in 8 bits. attention: see
    `attention.choose`; compile: see `fuse`. WeightsError names what is missing, left over or contradictory.
    """
    found, turns = find(folder, preset), Turns(device, offload)
    _whole(found)
    own = bool(found.about)
    dtype = dtype or (torch.float32 if own or torch.device(device).type == "cpu" else torch.bfloat16)
    defaults = own_defaults(found.about) if own else released_defaults(found)
    config = wan_parts.network(found) if own else replace(wan_parts.network(found), view=defaults.pop("view"))
    codec_config = wan_parts.codec(found)
    codec = turns.codec(_part(found, "vae", WanCodec, codec_config, torch.float32, turns.rest))
    text = _text(found, torch.float32 if own else dtype, turns)
    net = _part(found, "transformer", WanTransformer, config, dtype, turns.rest)
    low = _second(found, net, dtype, turns.rest)
    nets = {net: turns.keep(net, fp8) for net in (net, low) if net is not None}
    for each in nets:
        each.attend = choose(attention, device, dtype)
        if compile:
            fuse(each.blocks, device)
    model = Model(
        family="wan",
        limits=limits(found, config),
        session=_session(found, nets, codec, turns),
        codec=codec,
        text=text,
        digest=weights.digest(_files(found)),
        path=folder,
        tokens=_tokens(defaults["size"], codec_config, config),
        unit=(codec_config.scale * config.patch_size[1], codec_config.scale * config.patch_size[2]),
        device=device,
        track=(config.track_dim or 0) // codec_config.stride,
        turns=offload != "none",
        **defaults,
    )
    if found.preset is not None and found.preset.chain is not None:
        model.noise = partial(svi.noise, found.preset.chain, config.view, dtype=dtype)
    targets = SVI_TARGETS if found.preset is not None and found.preset.chain is not None else ()
    if low is not None:
        return svi.paired(model, net, low, SPELLING, turns.at_rest, targets)
    return adaptable(model, net, SPELLING, turns.at_rest, targets)


def _second(found: Layout, net: WanTransformer, dtype: torch.dtype, device: str) -> WanTransformer | None:
    """The network for low noise levels, of a checkpoint that has one; of the shape of the first."""
    if not found.second:
        return None
    tensors = weights.read(found.second, NAMES["transformer"])
    return weights.assign(WanTransformer, net.config, tensors, dtype, device)


def limits(found: Layout, config: WanConfig) -> Limits:
    """What plans the checkpoint can run: only diffusion forcing mixes noise levels and holds known frames in place."""
    return Limits(
        view=config.view,
        block=config.block,
        mixed=found.kind == "df",
        context=CONTEXT[found.kind or "df"],
        causal=config.causal,
    )


def own_defaults(about: dict[str, Any] | Any) -> dict[str, Any]:
    """What longtake.json says, in the words of Model."""
    known = ("name", "guidance", "negative", "plan", "options", "sampling", "vocabulary", "solver")
    try:
        fixed = dict(fps=about["fps"], size=tuple(about["size"]), rates=tuple(about.get("rates", [about["fps"]])))
        return {key: about[key] for key in known if key in about} | fixed | {"name": about["name"]}
    except KeyError as error:
        raise weights.WeightsError(f"longtake.json does not say {error}: copy the model again") from error


def released_defaults(found: Layout) -> dict[str, Any]:
    """The published settings of the preset that fits, or of the first of its kind if the network is of another size."""
    fits = settings(found)
    used = fits or fitting({}, found.kind, found.brand)[0]
    rates = (24.0, 16.0) if wan_parts.network(found).inject_sample_info else (used.fps,)
    return dict(
        name=fits.name if fits else found.path.stem, view=used.view, fps=used.fps, size=used.size, rates=rates,
        guidance=used.guidance, negative=used.negative, plan=used.plan, options=used.options, sampling=used.sampling,
        solver=used.solver,
    )  # fmt: skip


# ---------------------------------------------------------------- parts
def _whole(found: Layout) -> None:
    """WeightsError unless all parts are here and the kind is known."""
    if found.missing:
        lost = ", ".join(found.missing)
        if found.pickles:
            pickles = weights.brief(found.pickles)
            raise weights.WeightsError(
                f"{found.path} lacks {lost}, but has pickles: run `longtake convert` on {pickles}"
            )
        if found.style == "single files":
            raise weights.WeightsError(
                f"{found.path} lacks {lost}: write a .toml file that names {', '.join(wan_parts.PARTS)} and tokenizer"
            )
        raise weights.WeightsError(f"{found.path} lacks {lost}: copy the whole checkpoint")
    if found.kind is None:
        raise weights.WeightsError(undecided(found))


def _part(found: Layout, part: Part, make: Callable, config: Any, dtype: torch.dtype | None, device: str) -> Any:
    """One network of the checkpoint, read strictly."""
    return weights.assign(make, config, weights.read(found.parts[part], NAMES[part]), dtype, device)


def _session(
    found: Layout, nets: Mapping[WanTransformer, Turning], codec: Codec, turns: Turns
) -> Callable[[], Session]:
    """Sessions of one network, or of two, each in its turn."""
    chain = found.preset.chain if found.preset else None
    whole = bool(found.about.get("whole_timesteps", not found.about))
    tell = None
    if found.kind == "i2v":
        eyes = None
        if found.sees:
            tensors = clip.arranged(weights.read(found.parts["image_encoder"], clip.NAMES))
            eyes = weights.assign(clip.ClipVision, wan_parts.eyes(found), tensors, torch.float32, turns.rest)
        inner, seen = cast(WanCodec, codec), turns.eyes(eyes)
        tell = svi.teller(chain, inner, seen) if chain else Teller(inner, seen)
    whole = whole and chain is None
    told = {net: turns.told(tell, part) for net, part in nets.items()}
    each = [turns.session(partial(WanSession, net, whole, told[net]), part) for net, part in nets.items()]
    if chain is not None and len(each) == 2:
        return partial(svi.Experts, each[0], each[1], chain.switch)
    return each[0]


def _text(found: Layout, dtype: torch.dtype, turns: Turns) -> TextEncoder:
    assert found.tokenizer is not None
    tokenizer = read_tokenizer(found.tokenizer)
    kind: Any = WordText if isinstance(tokenizer.model, WordLevel) else UmT5Text
    words = wan_parts.words(found)
    return turns.text(
        kind(None, tokenizer), lambda: _part(found, "text_encoder", T5Encoder, words, dtype, turns.device)
    )


def _files(found: Layout) -> list[Path]:
    """The files that make the model what it is, in a fixed order."""
    assert found.tokenizer is not None
    if found.style == "diffusers":
        folders = {file.parent for part in found.parts.values() for file in part} | {found.tokenizer}
        return sorted(p for folder in folders for p in folder.iterdir() if p.is_file())
    tokenizer = found.tokenizer / "tokenizer.json" if found.tokenizer.is_dir() else found.tokenizer
    return [*(file for part in sorted(found.parts) for file in found.parts[part]), tokenizer]


def _tokens(size: Sequence[int], codec: WanCodecConfig, network: WanConfig) -> int:
    """Tokens of one latent frame."""
    _, rows, columns = network.patch_size
    return (size[0] // codec.scale // rows) * (size[1] // codec.scale // columns)
