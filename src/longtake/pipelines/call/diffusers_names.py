"""Attributes that a pipeline of diffusers has and one of longtake has not: the error says what stands for them here."""

from __future__ import annotations

from typing import Any

VAE = "frames are decoded as a stream, in constant memory, so leave the line out; the VAE itself is pipe.model.vae"
FASTER = "the attention is chosen by longtake.load(..., attention=), and the fastest by default, so leave the line out"
ADAPTERS = "strengths are in pipe.loras, and set_adapters(names, weights) sets them"
INSTEAD = {
    "scheduler": 'give its settings to the call, such as solver="unipc", shift=5',
    "vae": VAE,
    "enable_vae_tiling": VAE,
    "enable_vae_slicing": VAE,
    "disable_vae_tiling": VAE,
    "disable_vae_slicing": VAE,
    "enable_attention_slicing": FASTER,
    "enable_xformers_memory_efficient_attention": FASTER,
    "transformer": "the network belongs to pipe.model, and longtake.load takes dtype, offload, fp8, attention and compile",
    "text_encoder": "use pipe.encode_prompt(prompt)",
    "tokenizer": "use pipe.encode_prompt(prompt)",
    "image_encoder": "give the image to the call",
    "components": "the parts of a model belong together, in pipe.model",
    "config": "longtake.defaults_for(pipe) returns the settings of a call",
    "dtype": "it is pipe.source.options.dtype, and pipe.to(dtype) changes it",
    "cuda": 'use pipe.to("cuda")',
    "cpu": 'use pipe.to("cpu")',
    "guidance_scale": "result.settings has the settings of a call",
    "enable_group_offload": 'use longtake.load(..., offload="blocks")',
    "unload_lora": "use unload_lora_weights()",
    "disable_lora": ADAPTERS,
    "enable_lora": ADAPTERS,
}


class DiffusersNames:
    """Answers reading or setting an attribute of diffusers' pipelines that has no effect here with what to do instead."""

    def __getattr__(self, name: str) -> Any:
        hint = f": {INSTEAD[name]}" if name in INSTEAD else ""
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}{hint}", name=name, obj=self)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in INSTEAD:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r} to set: {INSTEAD[name]}")
        super().__setattr__(name, value)
