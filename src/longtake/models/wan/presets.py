"""Released checkpoints by name: their shapes, and the settings published with them. Data; importing it needs no torch.

Sources: the README and command lines of SkyworkAI/SkyReels-V2 and Wan-Video/Wan2.1, the configs of their diffusers
conversions, and the model cards for licences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from longtake.models.wan.config import WanConfig
    from longtake.models.wan.vae_config import WanVAEConfig

Kind = Literal["df", "t2v", "i2v"]
KINDS: Mapping[Kind, str] = {
    "df": "diffusion forcing: every latent frame at its own sigma",
    "t2v": "text to video: one sigma for all frames",
    "i2v": "image to video: one sigma for all frames, the image concatenated by channel",
}

NEGATIVE = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，丑陋的，"
    "残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，"
    "三条腿，背景人很多，倒着走"
)

# Of test_svi.py in vita-epfl/Stable-Video-Infinity, word by word: scripts/test/svi_{shot,film,tom}.sh and svi_2.0.sh run it.
# inference_svi_2.0_pro.py has `NEGATIVE`.
SVI_NEGATIVE = (
    "bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, images, static, overall gray, "
    "worst quality, low quality, JPEG compression residue, ugly, incomplete, extra fingers, poorly drawn hands, poorly "
    "drawn faces, deformed, disfigured, misshapen limbs, fused fingers, still picture, messy background, three legs, many "
    "people in the background, walking backwards"
)

TEXT_PARAMETERS = 5_680_910_336  # umT5-XXL encoder
IMAGE_PARAMETERS = 630_766_080  # CLIP ViT-H/14, vision only
VAE_PARAMETERS = 126_892_531
SVI_HUB = "vita-video-gen/svi-model"
SKYWORK, APACHE = "skywork-license", "apache-2.0"


@dataclass(frozen=True)
class SviChaining:
    """How Stable Video Infinity chains clips.

    pad: what follows the context frames in a clip's conditioning: "grey", the first "image" of the video repeated, or zero
    "latents" after an anchor. seed: clip c draws its noise from seed * c. switch: the sigma below which a second network
    takes over (0: there is only one). base, lora: the repository of the base model on the hub, and the files of the LoRA in
    `SVI_HUB`, one for each network.
    """

    pad: Literal["grey", "image", "latents"]
    seed: int = 42
    switch: float = 0.0
    base: str = "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers"
    lora: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preset:
    """A released checkpoint, without its weights.

    network: settings that differ from the defaults of `WanConfig`. parameters: of the transformer. size: (height, width).
    frames: of a window. hub, original: repositories in the diffusers layout and in the authors' own. options: of its strategy; the first
    three of them (steps, shift, sigma_spacing) suit any plan. requested_gb: the memory that its specification names for it.
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
    revision: str | None = None
    licence: str = SKYWORK
    requested_gb: float | None = None
    negative: str = NEGATIVE
    solver: str = "unipc"
    extra: Mapping[str, Any] = field(default_factory=dict)
    sigma_spacing: str = "skyreels"
    chain: SviChaining | None = None

    family = "wan"

    @property
    def max_latent_frames(self) -> int:
        """Latent frames of a window."""
        return 1 + (self.frames - 1) // 4

    @property
    def tokens(self) -> int:
        """Tokens of one latent frame at `size`."""
        return (self.size[0] // 16) * (self.size[1] // 16)

    @property
    def plan(self) -> str:
        """The strategy that the kind was trained for."""
        return {"df": "sliding", "t2v": "clip", "i2v": "clip-conditioned"}[self.kind]

    @property
    def published(self) -> dict[str, Any]:
        """Sampling options that reproduce the published code where the others differ from it on purpose."""
        return {"solver": "unipc-skyreels"} if self.kind == "df" and self.solver == "unipc" else {}

    @property
    def sampling(self) -> dict[str, Any]:
        """Options that suit the checkpoint under any strategy."""
        return {"steps": self.steps, "shift": self.shift, "sigma_spacing": self.sigma_spacing}

    @property
    def options(self) -> dict[str, Any]:
        """Options of its own strategy."""
        return {**self.sampling, "window": self.frames, **self.extra}

    def config(self) -> WanConfig:
        """Return the shape of the transformer."""
        from longtake.models.wan.config import WanConfig

        return WanConfig(**self.network, max_latent_frames=self.max_latent_frames)

    def vae(self) -> WanVAEConfig:
        """Return the shape of the VAE: all of these use that of Wan 2.1."""
        from longtake.models.wan.vae_config import WanVAEConfig

        return WanVAEConfig()

    def gigabytes(self) -> dict[str, float]:
        """Return the weights of every part in GB (10^9 bytes): bfloat16, except for VAE and image encoder in float32."""
        parts = {"network": 2 * self.parameters, "text encoder": 2 * TEXT_PARAMETERS, "vae": 4 * VAE_PARAMETERS}
        if self.kind == "i2v" and "image_dim" in self.network:
            parts["image encoder"] = 4 * IMAGE_PARAMETERS
        return {name: count / 1e9 for name, count in parts.items()}

    def how_to_get(self) -> str:
        """Say where to get weights that no repository holds in the diffusers layout."""
        if self.chain is None:
            return f"no weights of {self.name} are published: give your own as {self.name}=FOLDER"
        files = [f"svi/{file}" for file in self.chain.lora]
        marks = ("high:", "low:") if len(files) > 1 else ("",)
        flags = " ".join(f"--lora {mark}{file}" for mark, file in zip(marks, files))
        return (
            f"{self.name} is a base model and a LoRA, which are two downloads: `hf download {self.chain.base} --local-dir "
            f"{self.chain.base.split('/')[1]}` and `hf download {SVI_HUB} {' '.join(self.chain.lora)} --local-dir svi`; "
            f"then give --model {self.name}={self.chain.base.split('/')[1]} {flags}"
        )


_1B: dict[str, Any] = dict(num_attention_heads=12, num_layers=30, ffn_dim=8960)
_14B: dict[str, Any] = dict(num_attention_heads=40, num_layers=40, ffn_dim=13824)
_IMAGE_1B: dict[str, Any] = dict(in_channels=36, image_dim=1280, added_kv_proj_dim=1536)
_IMAGE_14B: dict[str, Any] = dict(in_channels=36, image_dim=1280, added_kv_proj_dim=5120)
_540P: dict[str, Any] = dict(size=(544, 960), frames=97, fps=24.0, steps=30)
_720P: dict[str, Any] = dict(size=(720, 1280), frames=121, fps=24.0, steps=30)
_FORCING: dict[str, Any] = (
    dict(  # pixels are handed over as in the authors' code: their prefixes begin with a 1-frame latent
        kind="df",
        shift=8.0,
        guidance=6.0,
        extra=dict(overlap=17, handoff="pixels", context_noise=0.02, context_noise_mode="resampled"),
    )
)
_TEXT: dict[str, Any] = dict(kind="t2v", shift=8.0, guidance=6.0)
_IMAGE: dict[str, Any] = dict(kind="i2v", shift=5.0, guidance=5.0, extra=dict(overlap=1, handoff="pixels"))
_WAN: dict[str, Any] = dict(frames=81, fps=16.0, licence=APACHE)


def _skyreels(model: str, **facts: Any) -> Preset:
    """Describe a SkyReels-V2 checkpoint. model: the end of the names of its repositories."""
    hub = f"Skywork/SkyReels-V2-{model}"
    requested = 14.7 if "1.3B" in model else 51.0
    return Preset(f"skyreels-v2-{model.lower()}", hub=f"{hub}-Diffusers", original=hub, requested_gb=requested, **facts)


def _svi(
    name: str, chain: SviChaining, overlap: int, network: Mapping[str, Any] = _14B | _IMAGE_14B, **handoff: Any
) -> Preset:
    """Describe a Stable Video Infinity: Wan image-to-video, a LoRA (named in the script), and how clips are chained."""
    negative = NEGATIVE if chain.pad == "latents" else SVI_NEGATIVE
    return Preset(
        f"svi-{name}", kind="i2v", network=network, size=(480, 832), frames=81, fps=16.0, steps=50, shift=5.0,
        parameters=16_394_878_784 if "image_dim" in network else 2 * 14_288_901_184, guidance=5.0, licence=APACHE,
        solver="euler", negative=negative, extra=dict(overlap=overlap, **(handoff or dict(handoff="pixels-floor8", overlap_source="new"))), sigma_spacing="linear",
        chain=chain,
    )  # fmt: skip


def _wan(model: str, **facts: Any) -> Preset:
    """Describe a Wan 2.1 checkpoint. model: the end of the names of its repositories."""
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


_EXPERTS = _14B | dict(in_channels=36)  # Wan 2.2 A14B: two of these, without CLIP
SVI: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        _svi("shot", SviChaining("image", lora=("version-1.0/svi-shot.safetensors",)), overlap=1),
        _svi("film", SviChaining("grey", lora=("version-1.0/svi-film-opt-10212025.safetensors",)), overlap=5),
        _svi("tom", SviChaining("grey", lora=("version-1.0/svi-tom.safetensors",)), overlap=1),
        _svi("2.0", SviChaining("image", lora=("version-2.0/SVI_Wan2.1-I2V-14B_lora_v2.0.safetensors",)), overlap=5),
        _svi(
            "2.0-pro", SviChaining("latents", switch=0.875, base="Wan-AI/Wan2.2-I2V-A14B-Diffusers", lora=tuple(f"version-2.0/SVI_Wan2.2-I2V-A14B_{part}_noise_lora_v2.0_pro.safetensors" for part in ("high", "low"))), 5, _EXPERTS, handoff="latents", anchor=True, overlap_source="old"
        ),
    )
}  # fmt: skip

PRESETS: dict[str, Preset] = {**WAN, **SVI}


def preset(name: str) -> Preset:
    """Return the Wan preset of that name. Raises ValueError with the nearest name."""
    if name not in PRESETS:
        close = get_close_matches(name, PRESETS, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(PRESETS)}"
        raise ValueError(f"no Wan checkpoint is called {name!r}: {hint}")
    return PRESETS[name]


def fitting(network: Mapping[str, Any], kind: Kind | None = None, brand: str = "") -> list[Preset]:
    """Return the presets of this network (and kind) whose names begin with `brand`; of equal shapes, 540P comes first."""
    return [
        found
        for found in WAN.values()
        if kind in (None, found.kind)
        and found.name.startswith(brand)
        and all(getattr(found.config(), name) == value for name, value in network.items())
    ]
