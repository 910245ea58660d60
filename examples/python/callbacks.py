"""Follow every step, see a preview of it, and stop.

python examples/python/callbacks.py [FOLDER]
"""

import sys
import time
from pathlib import Path

import longtake

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "out/callbacks")
folder.mkdir(parents=True, exist_ok=True)
pipe = longtake.load("pocket")
started = time.monotonic()


def follow(pipe, step, timestep, given):
    """Print a step; stop in the second window."""
    shape = tuple(given["latents"].shape)
    print(f"window {given['window']}, step {step}, timestep {timestep:.0f}, latents {shape}")
    if given["window"] == 1:
        pipe.interrupt()


result = pipe(
    "a red ball over the sea",
    seconds=10,
    num_inference_steps=4,
    callback_on_step_end=follow,
    callback_on_frames=lambda frames, first: print(f"frames {first} to {first + len(frames) - 1}"),
    preview=folder / "preview.png",
)
print(f"stopped after {time.monotonic() - started:.1f} s with {len(result.frames[0])} frames")
result.save(folder / "stopped.mp4")
