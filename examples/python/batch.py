"""A list of prompts is a batch, with variations of each; frames come as in diffusers.

python examples/python/batch.py [FOLDER]
"""

import sys
from pathlib import Path

import longtake

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "out/batch")
pipe = longtake.load("pocket")
prompts = ["a red ball drifts to the right over the sea", "a blue star at night"]
result = pipe(prompts, num_videos_per_prompt=2, num_frames=25, num_inference_steps=6, seed=10, output_type="pil")
for number, video in enumerate(result):
    video.frames[0].save((video.save(folder / f"{number}.mp4")).with_suffix(".png"))
    print(f"video {number}: seed {video.seed}, {video.frames}")
