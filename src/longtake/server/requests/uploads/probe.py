"""The program that decodes a file for the first time: `python -m longtake.server.requests.uploads.probe KIND FORMAT PATH LIMITS`.

A process of its own, with limits of memory and time: a file that breaks a decoder, or grows without bound, harms nothing
else. Prints one JSON object: what the file holds, or {"error": sentence}.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from longtake.core.platform import limit_process
from longtake.server.requests.uploads.limits import MediaLimits


class Refused(Exception):
    """A file that is beyond a limit, or that cannot be decoded; the message says which."""


def image_facts(path: str, format: str, limits: MediaLimits) -> dict[str, Any]:
    """Decode an image. Its size is checked before, from the header."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    with Image.open(path, formats=[format]) as image:
        width, height = image.size
        if width * height > limits.pixels:
            raise Refused(f"the image has {width}x{height} pixels, and at most {limits.pixels:,} are taken")
        image.load()
    return {"width": width, "height": height}


def video_facts(path: str, format: str, limits: MediaLimits) -> dict[str, Any]:
    """Decode the first frame of a video, and count its frames without decoding them."""
    import av

    with av.open(f"file:{path}", format=format, options={"protocol_whitelist": "file"}) as container:
        if not container.streams.video:
            raise Refused("the file holds no video")
        stream = container.streams.video[0]
        if stream.width * stream.height > limits.frame_pixels:
            raise Refused(
                f"its frames have {stream.width}x{stream.height} pixels, and at most {limits.frame_pixels:,} are taken"
            )
        _check_seconds(container.duration, limits)
        next(container.decode(stream), None)
        container.seek(0)
        frames, seconds = _counted(container, stream, limits)
        return {"width": stream.width, "height": stream.height, "frames": frames, "seconds": seconds}


def sound_facts(path: str, format: str, limits: MediaLimits) -> dict[str, Any]:
    """Decode the first samples of a sound, and measure its length."""
    import av

    with av.open(f"file:{path}", format=format, options={"protocol_whitelist": "file"}) as container:
        if not container.streams.audio:
            raise Refused("the file holds no sound")
        stream = container.streams.audio[0]
        _check_seconds(container.duration, limits)
        next(container.decode(stream), None)
        return {"seconds": round((container.duration or 0) / 1e6, 3)}


def _check_seconds(duration: int | None, limits: MediaLimits) -> None:
    """Refuse a length in microseconds that the header states."""
    if duration is not None and duration / 1e6 > limits.seconds:
        raise Refused(f"it lasts {duration / 1e6:,.0f} s, and at most {limits.seconds:,.0f} s are taken")


def _counted(container: Any, stream: Any, limits: MediaLimits) -> tuple[int, float]:
    """Return the number of frames and the seconds, whatever the header states."""
    frames, first, last = 0, None, 0
    for packet in container.demux(stream):
        if packet.pts is None:
            continue
        frames, first = frames + 1, packet.pts if first is None else min(first, packet.pts)
        last = max(last, packet.pts + (packet.duration or 0))
        _check_seconds(int((last - first) * stream.time_base * 1_000_000), limits)
        if frames > limits.frames:
            raise Refused(f"it has more than {limits.frames:,} frames")
    if not frames:
        raise Refused("the video holds no frames")
    return frames, round(float((last - (first or 0)) * stream.time_base), 3)


def tags(path: str, format: str, limits: MediaLimits) -> dict[str, Any]:
    """Read the texts that a file carries beside its frames."""
    from pathlib import Path

    from longtake.media.metadata import read_tags

    found = read_tags(Path(path))
    if sum(map(len, found.values())) > limits.text:
        raise Refused(f"its texts have more than {limits.text:,} characters")
    return {"tags": found}


PROBES = {"image": image_facts, "video": video_facts, "sound": sound_facts, "tags": tags}


def main(arguments: list[str]) -> int:
    """Decode a file within the limits and print what it holds."""
    kind, format, path, text = arguments
    limits = MediaLimits(**json.loads(text))
    limit_process(limits.memory, limits.cpu)
    try:
        facts = PROBES[kind](path, format, limits)
    except Refused as refused:
        facts = {"error": str(refused)}
    except MemoryError:
        facts = {"error": "decoding it takes too much memory"}
    except Exception as error:
        facts = {"error": f"it cannot be decoded ({type(error).__name__})"}
    print(json.dumps(facts))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
