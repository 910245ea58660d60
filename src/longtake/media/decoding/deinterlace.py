"""Interlaced video, deinterlaced by FFmpeg's filter bwdif: a frame for each frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import av
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.stream import VideoStream


def deinterlaced(frames: Iterable[VideoFrame], stream: VideoStream) -> Iterator[VideoFrame]:
    """Yield the frames with both fields of one time; frames that are not marked as interlaced stay as they are.

    A frame also depends on the one before it and the one after it.
    """
    graph = Graph()
    source = graph.add_buffer(template=stream)
    filter, sink = graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink")
    source.link_to(filter)
    filter.link_to(sink)
    graph.configure()
    for frame in chain(frames, [None]):
        graph.push(frame)
        while True:
            try:
                found = graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                break
            assert isinstance(found, VideoFrame)
            yield found
