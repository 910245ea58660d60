"""A LoRA under the method names of diffusers.

python examples/python/lora.py LORA.safetensors [FILE]
"""

import sys

import longtake

pipe = longtake.load("pocket")
pipe.load_lora_weights(sys.argv[1], adapter_name="style")
pipe.set_adapters("style", 0.8)
styled = pipe("a red ball over the sea", num_frames=25, num_inference_steps=6)
pipe.unload_lora_weights()
plain = pipe("a red ball over the sea", num_frames=25, num_inference_steps=6)
change = (styled.frames[0].uint8().float() - plain.frames[0].uint8().float()).abs().mean()
print(f"the LoRA changes a pixel by {change:.1f} of 255 on average")
styled.save(sys.argv[2] if len(sys.argv) > 2 else "out/styled.mp4")
