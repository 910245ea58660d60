"""Released checkpoints by name: their shapes, and the settings published with them. Data; importing it needs no torch.

Here are those of the Wan family; those of LTX-Video are in ltx_presets.

Sources: the README and command lines of SkyworkAI/SkyReels-V2 and Wan-Video/Wan2.1, the configs of their diffusers
conversions, and the model cards for licences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal

from longtake.models.ltx_presets import LTX, LTXPreset

if TYPE_CHECKING:
    from longtake.models.wan import WanConfig
    from longtake.models.wan_codec import WanCodecConfig

Kind = Literal["df", "t2v", "i2v"]
KINDS: Mapping[Kind, str] = {
    "df": "diffusion forcing: every latent frame at its own noise level",
    "t2v": "text to video: one noise level for all frames",
    "i2v": "image to video: one noise level, known frames told beside x",
}

NEGATIVE = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，丑陋的，"
    "残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，"
    "三条腿，背景人很多，倒着走"
)

TEXT_PARAMETERS = 5_680_910_336  # umT5-XXL encoder
IMAGE_PARAMETERS = 630_766_080  # CLIP ViT-H/14, vision only
CODEC_PARAMETERS = 126_892_531
SKYWORK, APACHE = "skywork-license", "apache-2.0"


@dataclass(frozen=True)
class Chain:
    """How Stable Video Infinity chains clips.

    pad: what a clip is told behind its known frames: "grey", the first "image" of the video again and again, or zero
    "latents" behind an anchor. seed: clip c draws its noise from seed * c. switch: noise level below which a second
    network takes over (0: there is only one).
    """

    pad: Literal["grey", "image", "latents"]
    seed: int = 42
    switch: float = 0.0


@dataclass(frozen=True)
class Preset:
    """A released checkpoint, without its weights.

    network: what differs from the defaults of WanConfig. parameters: of the network. size: (height, width). frames: of a
    window. hub, original: repositories in the diffusers layout and in the authors' own. options: of `plan`; the first
    three of them (steps, shift, grid) suit any plan. requested_gb: the memory that its specification names for it.
    """

    name: str
    kind: Kind
    network: Mapping[str, Any]
    parameters: int
    size: tuple[int, int]
    frames: int
    fps: float
    steps: int
    shift: float
    guidance: float
    hub: str | None = None
    original: str | None = None
    licence: str = SKYWORK
    requested_gb: float | None = None
    negative: str = NEGATIVE
    solver: str = "unipc"
    extra: Mapping[str, Any] = field(default_factory=dict)
    grid: str = "skyreels"
    chain: Chain | None = None

    family = "wan"

    @property
    def view(self) -> int:
        """Latent frames of a window."""
        return 1 + (self.frames - 1) // 4

    @property
    def tokens(self) -> int:
        """Tokens of one latent frame at `size`."""
        return (self.size[0] // 16) * (self.size[1] // 16)

    @property
    def plan(self) -> str:
        """The strategy that the kind is made for."""
        return {"df": "sliding", "t2v": "clip", "i2v": "crossclip"}[self.kind]

    @property
    def sampling(self) -> dict[str, Any]:
        """Options that suit the checkpoint under any plan."""
        return {"steps": self.steps, "shift": self.shift, "grid": self.grid}

    @property
    def options(self) -> dict[str, Any]:
        """Options of `plan`."""
        return {**self.sampling, "window": self.frames, **self.extra}

    def config(self) -> WanConfig:
        """Shape of the network."""
        from longtake.models.wan import WanConfig

        return WanConfig(**self.network, view=self.view)

    def codec(self) -> WanCodecConfig:
        """Shape of the codec: all of these use that of Wan 2.1."""
        from longtake.models.wan_codec import WanCodecConfig

        return WanCodecConfig()

    def gigabytes(self) -> dict[str, float]:
        """Weights of every part in GB (10^9 bytes): bfloat16, but for codec and image encoder, which stay float32."""
        parts = {"network": 2 * self.parameters, "text encoder": 2 * TEXT_PARAMETERS, "codec": 4 * CODEC_PARAMETERS}
        if self.kind == "i2v" and "image_dim" in self.network:
            parts["image encoder"] = 4 * IMAGE_PARAMETERS
        return {name: count / 1e9 for name, count in parts.items()}


_1B: dict[str, Any] = dict(num_attention_heads=12, num_layers=30, ffn_dim=8960)
_14B: dict[str, Any] = dict(num_attention_heads=40, num_layers=40, ffn_dim=13824)
_IMAGE_1B: dict[str, Any] = dict(in_channels=36, image_dim=1280, added_kv_proj_dim=1536)
_IMAGE_14B: dict[str, Any] = dict(in_channels=36, image_dim=1280, added_kv_proj_dim=5120)
_540P: dict[str, Any] = dict(size=(544, 960), frames=97, fps=24.0, steps=30)
_720P: dict[str, Any] = dict(size=(720, 1280), frames=121, fps=24.0, steps=30)
_FORCING: dict[str, Any] = (
    dict(  # pixels are handed over as in the authors' code: their prefixes begin with a 1-frame latent
        kind="df", shift=8.0, guidance=6.0, extra=dict(overlap=17, hand="pixels", context=0.02, noise="call")
    )
)
_TEXT: dict[str, Any] = dict(kind="t2v", shift=8.0, guidance=6.0)
_IMAGE: dict[str, Any] = dict(kind="i2v", shift=5.0, guidance=5.0, extra=dict(overlap=1, hand="pixels"))
_WAN: dict[str, Any] = dict(frames=81, fps=16.0, licence=APACHE)


def _skyreels(model: str, **facts: Any) -> Preset:
    """A SkyReels-V2 checkpoint; `model` is the end of its repositories' names."""
    hub = f"Skywork/SkyReels-V2-{model}"
    requested = 14.7 if "1.3B" in model else 51.0
    return Preset(f"skyreels-v2-{model.lower()}", hub=f"{hub}-Diffusers", original=hub, requested_gb=requested, **facts)


def _svi(name: str, chain: Chain, overlap: int, network: Mapping[str, Any] = _14B | _IMAGE_14B, **hand: Any) -> Preset:
    """Stable Video Infinity: a base of Wan image to video, a LoRA (which the script names), and a way to chain clips."""
    return Preset(
        f"svi-{name}", kind="i2v", network=network, size=(480, 832), frames=81, fps=16.0, steps=50, shift=5.0,
        parameters=16_394_878_784 if "image_dim" in network else 2 * 14_288_901_184, guidance=5.0, licence=APACHE,
        solver="euler", extra=dict(overlap=overlap, **(hand or dict(hand="floor8", keep="new"))), grid="linear",
        chain=chain,
    )  # fmt: skip


def _wan(model: str, **facts: Any) -> Preset:
    """A Wan 2.1 checkpoint; `model` is the end of its repositories' names."""
    hub = f"Wan-AI/Wan2.1-{model}"
    return Preset(f"wan2.1-{model.lower()}", hub=f"{hub}-Diffusers", original=hub, **(_WAN | facts))


WAN: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        _skyreels(
            "DF-1.3B-540P", network=_1B | dict(inject_sample_info=True), parameters=1_435_525_696, **_540P, **_FORCING
        ),
        _skyreels("DF-14B-540P", network=_14B, parameters=14_288_491_584, **_540P, **_FORCING),
        _skyreels("DF-14B-720P", network=_14B, parameters=14_288_491_584, **_720P, **_FORCING),
        _skyreels("T2V-14B-540P", network=_14B, parameters=14_288_491_584, **_540P, **_TEXT),
        _skyreels("T2V-14B-720P", network=_14B, parameters=14_288_491_584, **_720P, **_TEXT),
        _skyreels("I2V-1.3B-540P", network=_1B | _IMAGE_1B, parameters=1_564_428_608, **_540P, **_IMAGE),
        _skyreels("I2V-14B-540P", network=_14B | _IMAGE_14B, parameters=16_394_878_784, **_540P, **_IMAGE),
        _skyreels("I2V-14B-720P", network=_14B | _IMAGE_14B, parameters=16_394_878_784, **_720P, **_IMAGE),
        _wan(
            "T2V-1.3B", network=_1B, parameters=1_418_996_800, size=(480, 832), steps=50,
            **(_TEXT | dict(shift=8.0, guidance=6.0)),
        ),
        _wan(
            "T2V-14B", network=_14B, parameters=14_288_491_584, size=(720, 1280), steps=50,
            **(_TEXT | dict(shift=5.0, guidance=5.0)),
        ),
        _wan(
            "I2V-14B-480P", network=_14B | _IMAGE_14B, parameters=16_394_878_784, size=(480, 832), steps=40,
            **(_IMAGE | dict(shift=3.0)),
        ),
        _wan(
            "I2V-14B-720P", network=_14B | _IMAGE_14B, parameters=16_394_878_784, size=(720, 1280), steps=40, **_IMAGE
        ),
        Preset("wan-2048", network={}, parameters=2_191_878_208, licence="", requested_gb=51.0, **_540P, **_FORCING),
    )
}  # fmt: skip


_EXPERTS = _14B | dict(in_channels=36)  # Wan 2.2 A14B: two of these, which see no CLIP
SVI: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        _svi("shot", Chain("image"), overlap=1),
        _svi("film", Chain("grey"), overlap=5),
        _svi("tom", Chain("grey"), overlap=1),
        _svi("2.0", Chain("image"), overlap=5),
        _svi(
            "2.0-pro", Chain("latents", switch=0.875), 5, _EXPERTS, hand="latents", anchor=True, keep="old"
        ),
    )
}  # fmt: skip

Released = Preset | LTXPreset
PRESETS: dict[str, Released] = {**WAN, **LTX, **SVI}


def preset(name: str) -> Released:
    """The preset of that name; ValueError names the nearest."""
    if name not in PRESETS:
        close = get_close_matches(name, PRESETS, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(PRESETS)}"
        raise ValueError(f"no preset is called {name!r}: {hint}")
    return PRESETS[name]


def wan(name: str) -> Preset:
    """The same of the Wan family alone."""
    found = preset(name)
    if not isinstance(found, Preset):
        raise ValueError(f"{name} is no Wan checkpoint: there are {', '.join(WAN)}")
    return found


def fitting(network: Mapping[str, Any], kind: Kind | None = None, brand: str = "") -> list[Preset]:
    """Presets of this network (and kind) whose names begin with `brand`. Resolutions share shapes: 540P comes first."""
    return [
        found
        for found in WAN.values()
        if kind in (None, found.kind)
        and found.name.startswith(brand)
        and all(getattr(found.config(), name) == value for name, value in network.items())
    ]
