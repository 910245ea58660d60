"""Scenes on a timeline, and a prompt that is changed while the video is generated.

python examples/python/timeline.py [FOLDER]
"""

import sys

import longtake

folder = sys.argv[1] if len(sys.argv) > 1 else "out/timeline"
pipe = longtake.load("pocket")


def edit(event):
    """Change what has not begun, as another thread or process could at any time."""
    if isinstance(event, longtake.RunOpened):
        run = longtake.open_run(folder)
        run.replace("a yellow star over the desert", at=4)
        print(f"changed from second {run.earliest:g} on at the earliest")


scenes = [("a red ball over the sea", 2), ("a blue heart over the sea", 2), ("a green ring over the desert", 2)]
run = longtake.record(pipe, scenes=scenes, output=folder, num_inference_steps=6, on_event=edit)
for scene in run.scenes():
    print(f"{scene.start:5.2f} s  {scene.prompt}")
