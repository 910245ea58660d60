"""Decoding beside denoising: the last latents of a clip are decoded in a thread while the next clip is generated.

This is only done where the next clip needs none of these frames, since it is handed latents. The frames equal those of
decoding first, bit for bit: the same decoder gets the same latents, with as many threads of torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

import torch
from torch import Tensor


class AsyncDecode:
    """Decoded frames (B 3 T H W), piece by piece, from a thread. An error in the thread is raised where frames are fetched.

    pieces: generates them, in order. device: where; on a GPU the thread has a stream of its own. over: all are fetched.
    """

    def __init__(self, pieces: Callable[[], Iterator[Tensor]], device: str = "cpu"):
        self.over = False
        self._decoded: SimpleQueue[Tensor | BaseException | None] = SimpleQueue()
        self._stop, threads = Event(), torch.get_num_threads()
        streams = _Streams(device) if torch.device(device).type == "cuda" else None
        Thread(target=_work, args=(pieces, self._decoded, self._stop, streams, threads)).start()

    def ready(self) -> Iterator[Tensor]:
        """Fetch the pieces that are decoded by now."""
        while not self.over and not self._decoded.empty():
            yield from self._next()

    def rest(self) -> Iterator[Tensor]:
        """Fetch all other pieces, and wait for them."""
        while not self.over:
            yield from self._next()

    def stop(self) -> None:
        """End the thread after the piece that it is decoding; no more are fetched."""
        self._stop.set()

    def _next(self) -> Iterator[Tensor]:
        piece = self._decoded.get()
        if isinstance(piece, Tensor):
            yield piece
            return
        self.over = True
        if piece is not None:
            raise piece


class _Streams:
    """The CUDA stream that uses the frames and the one that decodes them."""

    def __init__(self, device: str):
        self.using, self.decoding = torch.cuda.current_stream(device), torch.cuda.Stream(device)
        self.decoding.wait_stream(self.using)

    def entered(self) -> Any:
        """Send the work of this thread to its own stream."""
        return torch.cuda.stream(self.decoding)

    def hand_over(self, piece: Tensor) -> None:
        """Wait until the piece is decoded, and keep its memory until the other stream has used it."""
        self.decoding.synchronize()
        piece.record_stream(self.using)


def _work(
    pieces: Callable[[], Iterator[Tensor]], decoded: SimpleQueue, stop: Event, streams: _Streams | None, threads: int
) -> None:
    """Put every piece into `decoded`, then None, or the error that ended it."""
    try:
        torch.set_num_threads(threads)
        with streams.entered() if streams else nullcontext():
            for piece in pieces():
                if streams:
                    streams.hand_over(piece)
                decoded.put(piece)
                if stop.is_set():
                    break
        decoded.put(None)
    except BaseException as error:
        decoded.put(error)
