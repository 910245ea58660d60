"""Tiny checkpoints with random weights, in the folder layout of released ones."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from longtake.models import ltx, ltx_codec, ltx_codec_config, wan, wan_codec, weights
from longtake.models.text import T5Config, T5Encoder

WORDS = ["<pad>", "<unk>", "a", "red", "blue", "ball", "drifts", "over", "the", "sea"]


def random_wan(
    folder: Path, causal: bool = False, view: int = 9, block: int = 1, size: int = 16, seed: int = 0, net=(), codec=()
) -> Path:
    """A Wan checkpoint: 2 layers, codec of stride 4 and scale 4, a vocabulary of ten words; net, codec: other shapes."""
    torch.manual_seed(seed)
    config = wan.tiny(causal=causal, view=view, block=block, **dict(net))
    made = wan.WanTransformer(config)
    wan.initialise(made)
    torch.nn.init.normal_(made.proj_out.weight, std=0.2)
    weights.save(made, config, folder / "transformer", kind="SkyReelsV2Transformer3DModel")
    codec_config = wan_codec.tiny(z_dim=4, latents_mean=(0.0,) * 4, latents_std=(1.0,) * 4, **dict(codec))
    weights.save(wan_codec.WanCodec(codec_config), codec_config, folder / "vae", kind="AutoencoderKLWan")
    random_text(folder, config.text_dim)
    about = dict(name="tiny", family="wan", fps=24, size=[size, size], guidance=2.0, sampling={"steps": 3})
    about |= dict(view=view, block=block, causal=causal)
    (folder / "longtake.json").write_text(json.dumps(about))
    return folder


def random_ltx(folder: Path, view: int = 9, size: int = 16, seed: int = 0, grown: bool = True, **about) -> Path:
    """An LTX checkpoint: 2 layers, codec of stride 8 and scale 8 (that of 0.9.5 if `grown`), the same ten words."""
    torch.manual_seed(seed)
    config = ltx.tiny(causal_temporal_positioning=grown)
    net = ltx.LTXTransformer(config)
    ltx.initialise(net)
    torch.nn.init.normal_(net.proj_out.weight, std=0.2)
    weights.save(net, config, folder / "transformer", kind="LTXVideoTransformer3DModel")
    codec_config = ltx_codec_config.tiny() if grown else ltx_codec_config.tiny_old()
    weights.save(ltx_codec.LTXCodec(codec_config), codec_config, folder / "vae", kind="AutoencoderKLLTXVideo")
    random_text(folder, config.caption_channels)
    about = dict(name="tiny-ltx", family="ltx", fps=24, size=[size, size], guidance=2.0, view=view) | about
    about |= dict(sampling={"steps": 3, "shift": 1.0, "grid": "quadratic"})
    (folder / "longtake.json").write_text(json.dumps(about))
    return folder


def random_text(folder: Path, width: int) -> None:
    """A text encoder of this width and a tokenizer of ten words."""
    words = T5Config(vocab_size=len(WORDS), d_model=width, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    (folder / "text_encoder").mkdir()
    save_file(T5Encoder(words).state_dict(), folder / "text_encoder" / "model.safetensors")
    (folder / "text_encoder" / "config.json").write_text(json.dumps(asdict(words)))
    (folder / "tokenizer").mkdir()
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer" / "tokenizer.json"))
