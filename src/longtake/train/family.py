"""What the trainer knows of a model family: how its network and its codec are made, begun, read and written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from longtake.models import ltx, ltx_codec, wan, wan_codec
from longtake.models.ltx_codec_config import LTXCodecConfig
from longtake.models.weights import Names
from longtake.world import FPS


@dataclass(frozen=True)
class Part:
    """A network or a codec. config: its dataclass; make: a module from one; begin: weights to train from nothing.

    names: what released files call its tensors; unused: see `weights.configure`.
    """

    config: type
    make: Callable[[Any], nn.Module]
    begin: Callable[[Any], None]
    names: Names = ()
    unused: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """A family that can be trained. free: settings of the network that change no tensor.

    patch: the weight whose input channels may grow ("": none may). parts: settings that add a part to a network which has
    none, and how its tensors begin. view: latent frames that a config sees at once.
    pipelines: what diffusers calls pipeline and network of every kind. stored, scheduler: likewise codec and scheduler.
    """

    name: str
    network: Part
    codec: Part
    free: tuple[str, ...]
    patch: str
    view: Callable[[Any], int]
    pipelines: Mapping[str, tuple[str, str]]
    stored: str
    scheduler: str
    parts: Mapping[str, str] = field(default_factory=dict)


WAN = Family(
    "wan",
    Part(wan.WanConfig, wan.WanTransformer, wan.initialise, wan.NAMES, wan.UNUSED),
    Part(wan_codec.WanCodecConfig, wan_codec.WanCodec, wan_codec.initialise, wan_codec.NAMES),
    free=("causal", "block", "view"),
    patch="patch_embedding.weight",
    view=lambda config: config.view,
    pipelines={
        "df": ("SkyReelsV2DiffusionForcingPipeline", "SkyReelsV2Transformer3DModel"),
        "t2v": ("WanPipeline", "WanTransformer3DModel"),
        "i2v": ("WanImageToVideoPipeline", "WanTransformer3DModel"),
    },
    stored="AutoencoderKLWan",
    scheduler="UniPCMultistepScheduler",
    parts={"track_dim": "condition_embedder.track_embedder."},
)
LTX = Family(
    "ltx",
    Part(ltx.LTXConfig, ltx.LTXTransformer, ltx.initialise),
    Part(LTXCodecConfig, ltx_codec.LTXCodec, ltx_codec.initialise),
    free=("causal_temporal_positioning", "stride", "scale"),
    patch="",
    view=lambda config: config.view(FPS),
    pipelines={"df": ("LTXPipeline", "LTXVideoTransformer3DModel")},
    stored="AutoencoderKLLTXVideo",
    scheduler="FlowMatchEulerDiscreteScheduler",
)
FAMILIES = {family.name: family for family in (WAN, LTX)}
