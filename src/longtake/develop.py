"""Decoding beside denoising: the latents of a finished take become frames in a thread while the next take is made.

Only where the next take needs none of these frames, since it is told of latents. The frames are those of decoding first,
bit for bit: the same decoder takes the same latents, with as many threads of torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

import torch
from torch import Tensor


class Developing:
    """Decoded frames (B 3 T H W), piece by piece, made in a thread. What fails there is raised where frames are taken.

    pieces: makes them, in order. device: where they are made; on a GPU the thread has a stream of its own.
    """

    def __init__(self, pieces: Callable[[], Iterator[Tensor]], device: str = "cpu"):
        self.over = False
        self._made: SimpleQueue[Tensor | BaseException | None] = SimpleQueue()
        self._left, threads = Event(), torch.get_num_threads()
        streams = _Streams(device) if torch.device(device).type == "cuda" else None
        Thread(target=_work, args=(pieces, self._made, self._left, streams, threads)).start()

    def ready(self) -> Iterator[Tensor]:
        """The pieces that are there by now."""
        while not self.over and not self._made.empty():
            yield from self._next()

    def rest(self) -> Iterator[Tensor]:
        """All that are not taken yet; waits for them."""
        while not self.over:
            yield from self._next()

    def leave(self) -> None:
        """Nobody will take any more: stop after the piece in hand."""
        self._left.set()

    def _next(self) -> Iterator[Tensor]:
        piece = self._made.get()
        if isinstance(piece, Tensor):
            yield piece
            return
        self.over = True
        if piece is not None:
            raise piece


class _Streams:
    """The stream that asks for frames and the one that makes them."""

    def __init__(self, device: str):
        self.asks, self.makes = torch.cuda.current_stream(device), torch.cuda.Stream(device)
        self.makes.wait_stream(self.asks)

    def entered(self) -> Any:
        """Work of this thread goes to its own stream."""
        return torch.cuda.stream(self.makes)

    def given(self, piece: Tensor) -> None:
        """The piece is done, and its memory stays until the other stream has used it."""
        self.makes.synchronize()
        piece.record_stream(self.asks)


def _work(
    pieces: Callable[[], Iterator[Tensor]], made: SimpleQueue, left: Event, streams: _Streams | None, threads: int
) -> None:
    """Put pieces into `made`, and None or an error behind the last one."""
    try:
        torch.set_num_threads(threads)
        with streams.entered() if streams else nullcontext():
            for piece in pieces():
                if streams:
                    streams.given(piece)
                made.put(piece)
                if left.is_set():
                    break
        made.put(None)
    except BaseException as error:
        made.put(error)
