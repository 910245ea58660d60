"""A tiny Wan pipeline of diffusers with random weights, built offline from its configs."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.released import tokenizer


def save_wan(folder: Path) -> Path:
    """Write the folder that `WanPipeline.from_pretrained` and `longtake.load` open."""
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
    from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

    torch.manual_seed(0)
    words = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer(), pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    text = UMT5EncoderModel(
        UMT5Config(
            vocab_size=len(words),
            d_model=16,
            d_kv=8,
            d_ff=16,
            num_layers=1,
            num_heads=2,
            feed_forward_proj="gated-gelu",
        )
    )
    vae = AutoencoderKLWan(base_dim=4, z_dim=16)
    net = WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=16, out_channels=16, text_dim=16, freq_dim=32,
        ffn_dim=32, num_layers=2,
    )  # fmt: skip
    scheduler = UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0)
    WanPipeline(tokenizer=words, text_encoder=text, vae=vae, scheduler=scheduler, transformer=net).save_pretrained(
        folder
    )
    return folder
