"""Tiny checkpoints with random weights in the layouts of released ones: diffusers, original, and single files."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from longtake.models.checkpoints import loading as weights
from longtake.models.encoders.clip_vision import ClipConfig, ClipVision
from longtake.models.encoders.t5 import T5Config, T5Encoder
from longtake.models.wan.config import WanConfig, tiny
from longtake.models.wan.transformer import WanTransformer
from longtake.models.wan.vae import WanVAE
from longtake.models.wan.vae_config import WanVAEConfig
from tests.oracles import shuffled

PIPELINES = {
    "df": ("SkyReelsV2DiffusionForcingPipeline", "SkyReelsV2Transformer3DModel"),
    "t2v": ("WanPipeline", "WanTransformer3DModel"),
    "i2v": ("WanImageToVideoPipeline", "WanTransformer3DModel"),
}
PIECES = ["<pad>", "</s>", "<unk>", "▁a", "▁red", "▁ball", "▁", *"abcdefghijklmnopqrstuvwxyz"]
WORDS = T5Config(vocab_size=len(PIECES), d_model=10, d_kv=4, d_ff=16, num_layers=2, num_heads=2)
CLIP = ClipConfig(
    hidden_size=14, intermediate_size=20, num_hidden_layers=2, num_attention_heads=1, image_size=28, patch_size=14
)


@dataclass(frozen=True)
class Parts:
    """The networks of a checkpoint."""

    kind: str
    net: WanTransformer
    vae: WanVAE
    text: T5Encoder
    image_encoder: ClipVision


def parts(kind: str) -> Parts:
    """Return the networks of a kind; they have one head, since no shape shows the number of heads."""
    changes = dict(num_attention_heads=1, attention_head_dim=24, in_channels=16, out_channels=16)
    changes |= dict(in_channels=36, image_dim=14, added_kv_proj_dim=24) if kind == "i2v" else {}
    changes |= dict(inject_sample_info=True) if kind == "df" else {}
    nets = WanTransformer(tiny(**changes)), WanVAE(WanVAEConfig(base_dim=4)), T5Encoder(WORDS), ClipVision(CLIP)
    return Parts(kind, *(shuffled(net) for net in nets))


def tokenizer() -> Tokenizer:
    """A unigram tokenizer that ends a prompt with </s>, as that of umT5."""
    scores = [(piece, 0.0 if i < 3 else -1.0 if len(piece) > 1 else -3.0) for i, piece in enumerate(PIECES)]
    made = Tokenizer(models.Unigram(scores, unk_id=2))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return made


def diffusers(folder: Path, made: Parts) -> Path:
    """Write a diffusers folder."""
    pipeline, network = PIPELINES[made.kind]
    weights.save(made.net, made.net.config, folder / "transformer", kind=network)
    keep = {f for f in asdict(made.net.config) if f not in ("causal", "block", "max_latent_frames")}
    config = {key: value for key, value in asdict(made.net.config).items() if key in keep}
    (folder / "transformer" / "config.json").write_text(json.dumps({"_class_name": network} | config))
    weights.save(made.vae, made.vae.config, folder / "vae", kind="AutoencoderKLWan")
    weights.save(made.text, made.text.config, folder / "text_encoder", name="model")
    if made.kind == "i2v":
        weights.save(made.image_encoder, made.image_encoder.config, folder / "image_encoder", name="model")
    (folder / "tokenizer").mkdir()
    tokenizer().save(str(folder / "tokenizer" / "tokenizer.json"))
    (folder / "model_index.json").write_text(
        json.dumps({"_class_name": pipeline, "transformer": ["diffusers", network]})
    )
    return folder


def original(folder: Path, made: Parts, **config) -> Path:
    """Write a folder in the layout of Wan and SkyReels-V2, with its pickles converted."""
    folder.mkdir(parents=True)
    tensors = renamed(made.net, wan_name)
    names = sorted(tensors)
    for i, some in enumerate((names[::2], names[1::2]), 1):
        file = f"diffusion_pytorch_model-{i:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in some}, folder / file)
    save_file(renamed(made.vae, vae_name), folder / "Wan2.1_VAE.safetensors")
    save_file(renamed(made.text, text_name), folder / "models_t5_umt5-xxl-enc-bf16.safetensors")
    if made.kind == "i2v":
        save_file(image_encoder_tensors(made.image_encoder), folder / "models_clip.safetensors")
    (folder / "google" / "umt5-xxl").mkdir(parents=True)
    tokenizer().save(str(folder / "google" / "umt5-xxl" / "tokenizer.json"))
    dims = made.net.config
    about = dict(dim=dims.dim, num_heads=dims.num_attention_heads, model_type="i2v" if made.kind == "i2v" else "t2v")
    about |= dict(inject_sample_info=dims.inject_sample_info) | config
    (folder / "config.json").write_text(json.dumps(about))
    return folder


def single(folder: Path, made: Parts, **entries) -> Path:
    """Write single files as ComfyUI keeps them, and the .toml file that lists them."""
    for name in ("diffusion_models", "vae", "text_encoders", "clip_vision"):
        (folder / name).mkdir(parents=True)
    prefixed = {f"model.diffusion_model.{name}": tensor for name, tensor in renamed(made.net, wan_name).items()}
    save_file(prefixed, folder / "diffusion_models" / "wan.safetensors")
    save_file(renamed(made.vae, vae_name), folder / "vae" / "wan_vae.safetensors")
    packed = {"spiece_model": torch.zeros(3, dtype=torch.uint8)}
    save_file(made.text.state_dict() | packed, folder / "text_encoders" / "umt5.safetensors")
    vision = {f"vision_model.{name}": tensor for name, tensor in made.image_encoder.state_dict().items()}
    save_file(vision | {"visual_projection.weight": torch.zeros(2, 14)}, folder / "clip_vision" / "h.safetensors")
    tokenizer().save(str(folder / "tokenizer.json"))
    lines = dict(
        transformer="diffusion_models/wan.safetensors", vae="vae/wan_vae.safetensors", tokenizer="tokenizer.json",
        text_encoder="text_encoders/umt5.safetensors", kind=made.kind,
    )  # fmt: skip
    if made.kind == "i2v":
        lines["image_encoder"] = "clip_vision/h.safetensors"
    lines |= entries
    (folder / "model.toml").write_text("\n".join(f'{key} = "{value}"' for key, value in lines.items() if value))
    return folder / "model.toml"


# ---------------------------------------------------------------- original names
def renamed(net: torch.nn.Module, name) -> dict[str, torch.Tensor]:
    return {name(old): tensor for old, tensor in net.state_dict().items()}


def wan_name(name: str) -> str:
    """Return the name of a tensor in Wan and SkyReels-V2 files, written independently of the rename table."""
    for new, old in (
        ("fps_projection.net.0.proj", "fps_projection.0"), ("fps_projection.net.2", "fps_projection.2"),
        ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
        ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
        ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
        ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
        ("condition_embedder.time_proj", "time_projection.1"),
        ("condition_embedder.image_embedder.norm1", "img_emb.proj.0"),
        ("condition_embedder.image_embedder.ff.net.0.proj", "img_emb.proj.1"),
        ("condition_embedder.image_embedder.ff.net.2", "img_emb.proj.3"),
        ("condition_embedder.image_embedder.norm2", "img_emb.proj.4"),
        ("norm_added_k", "norm_k_img"), ("add_k_proj", "k_img"), ("add_v_proj", "v_img"),
        ("to_out.0", "o"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"),
        ("attn1", "self_attn"), ("attn2", "cross_attn"), ("norm2", "norm3"),
        ("ffn.net.0.proj", "ffn.0"), ("ffn.net.2", "ffn.2"), ("proj_out", "head.head"),
    ):  # fmt: skip
        name = name.replace(new, old)
    return "head.modulation" if name == "scale_shift_table" else name.replace("scale_shift_table", "modulation")


def vae_name(name: str) -> str:
    """Return the name of a VAE tensor in Wan files."""
    match = re.match(r"decoder\.up_blocks\.(\d)\.(resnets|upsamplers)\.(\d)\.(.*)", name)
    if match:
        place = 4 * int(match[1]) + (3 if match[2] == "upsamplers" else int(match[3]))
        name = f"decoder.upsamples.{place}.{match[4]}"
    for new, old in (
        ("post_quant_conv", "conv2"), ("quant_conv", "conv1"), ("coder.conv_in", "coder.conv1"),
        ("norm_out", "head.0"), ("conv_out", "head.2"), ("down_blocks", "downsamples"),
        ("mid_block.resnets.0", "middle.0"), ("mid_block.attentions.0", "middle.1"), ("mid_block.resnets.1", "middle.2"),
        ("conv_shortcut", "shortcut"), ("norm1", "residual.0"), ("norm2", "residual.3"),
    ):  # fmt: skip
        name = name.replace(new, old)
    return re.sub(r"(s\.\d+|middle\.\d)\.conv(\d)", lambda m: f"{m[1]}.residual.{2 if m[2] == '1' else 6}", name)


def text_name(name: str) -> str:
    """Return the name of a text encoder tensor in Wan files."""
    for new, old in (
        ("shared.", "token_embedding."), ("encoder.final_layer_norm", "norm"), ("encoder.block.", "blocks."),
        ("layer.0.SelfAttention.relative_attention_bias", "pos_embedding.embedding"),
        ("layer.0.SelfAttention", "attn"), ("layer.0.layer_norm", "norm1"), ("layer.1.layer_norm", "norm2"),
        ("layer.1.DenseReluDense.wi_0", "ffn.gate.0"), ("layer.1.DenseReluDense.wi_1", "ffn.fc1"),
        ("layer.1.DenseReluDense.wo", "ffn.fc2"),
    ):  # fmt: skip
        name = name.replace(new, old)
    return name


def image_encoder_tensors(net: ClipVision) -> dict[str, torch.Tensor]:
    """Return the tensors of the image encoder in the layout of Wan files, with an unused text tower."""
    mine, theirs = net.state_dict(), {"log_scale": torch.zeros(()), "visual.head": torch.zeros(14, 3)}
    theirs["textual.token_embedding.weight"] = torch.zeros(2, 3)
    theirs["visual.cls_embedding"] = mine["embeddings.class_embedding"][None, None]
    theirs["visual.pos_embedding"] = mine["embeddings.position_embedding.weight"][None]
    theirs["visual.patch_embedding.weight"] = mine["embeddings.patch_embedding.weight"]
    for i in range(net.config.num_hidden_layers):
        for end in ("weight", "bias"):
            at, to = f"encoder.layers.{i}.", f"visual.transformer.{i}."
            theirs[f"{to}attn.to_qkv.{end}"] = torch.cat([mine[f"{at}self_attn.{x}_proj.{end}"] for x in "qkv"])
            theirs[f"{to}attn.proj.{end}"] = mine[f"{at}self_attn.out_proj.{end}"]
            for old, new in (
                ("norm1", "layer_norm1"),
                ("norm2", "layer_norm2"),
                ("mlp.0", "mlp.fc1"),
                ("mlp.2", "mlp.fc2"),
            ):
                theirs[f"{to}{old}.{end}"] = mine[f"{at}{new}.{end}"]
    for old, new in (("pre_norm", "pre_layrnorm"), ("post_norm", "post_layernorm")):
        for end in ("weight", "bias"):
            theirs[f"visual.{old}.{end}"] = mine[f"{new}.{end}"]
    return {name: tensor.contiguous().clone() for name, tensor in theirs.items()}


def session(model):
    """Return a session of the network itself, without its wrappers."""
    made = model.session()
    while hasattr(made, "session"):
        made = made.session
    return made


def blank(file: Path, shapes: dict[str, tuple[int, ...]], dtype: str = "BF16", width: int = 2) -> Path:
    """Write a safetensors file of real size that occupies no disk space: a true header, and a hole for the tensors."""
    header, at = {}, 0
    for name, shape in shapes.items():
        size = width * int(torch.Size(shape).numel())
        header[name] = dict(dtype=dtype, shape=list(shape), data_offsets=[at, at + size])
        at += size
    text = json.dumps(header).encode()
    with open(file, "wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + at)
    return file


def shapes(config: WanConfig, name=lambda name: name) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of a transformer, without weights."""
    with torch.device("meta"):
        return {name(key): tuple(t.shape) for key, t in WanTransformer(config).state_dict().items()}
