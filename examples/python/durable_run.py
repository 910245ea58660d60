"""A run that is stopped and goes on: the video has the bytes of one that was never stopped.

python examples/python/durable_run.py [FOLDER]
"""

import hashlib
import sys

import longtake

folder = sys.argv[1] if len(sys.argv) > 1 else "out/durable"
pipe = longtake.load("pocket")
prompt, options = "a red ball over the sea", dict(seconds=5, num_inference_steps=4, seed=5)


def stop_early(event):
    """Stop after the second segment, as Ctrl-C, a crash or a power cut would."""
    if isinstance(event, longtake.SegmentWritten) and event.index == 1:
        pipe.interrupt()


print(longtake.record(pipe, prompt, output=f"{folder}/stopped", on_event=stop_early, **options))
stopped = longtake.resume(f"{folder}/stopped")
whole = longtake.record(pipe, prompt, output=f"{folder}/whole", **options)
digests = [hashlib.sha256(run.video.read_bytes()).hexdigest() for run in (stopped, whole)]
print(f"equal bytes: {digests[0] == digests[1]}, checks passed: {all(one.passed for one in stopped.verify())}")
