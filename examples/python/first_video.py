"""A prompt in, a video file out.

python examples/python/first_video.py [FILE]
"""

import sys

import longtake

pipe = longtake.load("pocket")
result = pipe("a red ball drifts to the right over the sea", seconds=3, seed=1)
for path in result.save(sys.argv[1] if len(sys.argv) > 1 else "out/ball.mp4"):
    print(f"{len(result.frames[0])} frames at {result.fps:g} fps: {path}")
