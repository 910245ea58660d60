"""The way from latents to output frames: it decides when to decode, now, later, or in a thread beside the next clip."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from longtake.engine.events import Frames
from longtake.engine.output.async_decode import AsyncDecode
from longtake.engine.output.frame_assembler import FrameAssembler
from longtake.engine.state import merged, restore
from longtake.models.interfaces import VAE
from longtake.planning.shots import TimelineWindow
from longtake.planning.window import Cut

LATENTS_PER_PUSH = 8  # latents per call of the decoder: enough to be fast, few enough to stay small


class ClipDecoder:
    """The streaming decoder of one clip. replay: the newest latents decoded, which restore the decoder."""

    def __init__(self, vae: VAE):
        self.decoder = vae.decoder()
        self.replay: deque[Tensor] = deque(maxlen=max(1, vae.replay_latents))

    def decode(self, latents: Sequence[Tensor]) -> Iterator[Tensor]:
        """Decode latents (B C h w) in order, a few at a time; yields output frames (B 3 T H W)."""
        for i in range(0, len(latents), LATENTS_PER_PUSH):
            some = list(latents[i : i + LATENTS_PER_PUSH])
            self.replay.extend(some)
            with torch.inference_mode():
                video = self.decoder.push(torch.stack(some, 2))
            yield video

    def flush(self) -> Tensor:
        """Return the frames that the decoder still held back, at the end of a clip."""
        with torch.inference_mode():
            return self.decoder.flush()

    def decode_rest(self, latents: Sequence[Tensor]) -> Iterator[Tensor]:
        """Decode the last latents of a clip, then flush."""
        yield from self.decode(latents)
        yield self.flush()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the latents that restore the decoder."""
        return {"replay": torch.stack(list(self.replay), 2)} if self.replay else {}, {}

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Bring a new decoder to where the saved one was; the frames were shown before."""
        if "replay" in tensors:
            for _ in self.decode(tensors["replay"].unbind(2)):
                pass


class VideoOutput:
    """Takes the final latents of clip after clip and gives output frames.

    The end of a clip whose pixels nobody needs, since the next clip is handed latents, is deferred and decoded in a thread
    while the next clip is generated. overlapped: whether that may be. clip_open: the clip may still grow, so its decoder has
    not been flushed. deferred_latents: of the end of a clip. background: that end while it is decoded, and its cut.
    """

    def __init__(self, vae: VAE, device: str, tail_length: int, first: int = 0, overlapped: bool = True):
        self.vae, self.device, self.overlapped = vae, device, overlapped
        self.assembler = FrameAssembler(tail_length, next_frame=first)
        self.decoder = ClipDecoder(vae)
        self.clip_open = False
        self.deferred_latents: list[Tensor] | None = None
        self.background: tuple[AsyncDecode, Cut] | None = None

    @property
    def shown(self) -> int:
        """Output frames shown so far."""
        return self.assembler.shown

    # ------------------------------------------------------------ clips
    def start_clip(self, cut: Cut, old_end: int) -> int:
        """Begin to decode another clip; returns the number in the video of its first frame.

        old_end: the output frame behind the old clip.
        """
        if self.deferred_latents is None:
            first = self.assembler.cut(cut)
        else:  # the assembler's turn comes when the old clip is decoded
            first = old_end - cut.overlap
            self.background = (
                AsyncDecode(partial(self.decoder.decode_rest, self.deferred_latents), self.device),
                cut,
            )
            self.deferred_latents = None
        self.decoder = ClipDecoder(self.vae)
        return first

    def begin_window(self, now: TimelineWindow) -> None:
        """Note where the shot ends, and whether the clip continues after this window."""
        self.assembler.end, self.clip_open = now.end, not now.ends_clip

    def push(
        self, latents: list[Tensor], now: TimelineWindow, end: int, on_decoded: Callable[[Tensor], None] | None = None
    ) -> Iterator[Frames]:
        """Take the latents (B C h w) that a window finished; yields the frames that may be shown.

        end: the output frame behind these latents. on_decoded: is called with all decoded frames (B 3 T H W), which are
        then decoded at once.
        """
        yield from self.join()
        if now.ends_clip and now.withheld:
            self.assembler.withhold_from = end - now.withheld
        if self._can_defer(now) and on_decoded is None:
            self.deferred_latents, self.clip_open = latents, False
            return
        for video in self.decoder.decode(latents):
            if on_decoded is not None and video.shape[2]:
                on_decoded(video)
            yield from self.assembler.push(video)
        if now.ends_clip:
            yield from self._close_clip()

    def finish(self, remaining: Sequence[Tensor] = ()) -> Iterator[Frames]:
        """End a shot: decode and show everything that was deferred, kept back or withheld.

        remaining: latents (B C h w) that a later window was to revise, where an edit ended the shot early.
        """
        if self.deferred_latents is not None:
            latents, self.deferred_latents = self.deferred_latents, None
            yield from self._shown(self.decoder.decode_rest(latents))
        if self.clip_open:
            yield from self._shown(self.decoder.decode(remaining))
            yield from self._close_clip()
        yield from self.assembler.release()

    def _close_clip(self) -> Iterator[Frames]:
        self.clip_open = False
        yield from self.assembler.push(self.decoder.flush())

    def _shown(self, videos: Iterator[Tensor]) -> Iterator[Frames]:
        for video in videos:
            yield from self.assembler.push(video)

    def _can_defer(self, now: TimelineWindow) -> bool:
        """Return whether the rest of the clip may be decoded while the next clip is generated."""
        cut = now.next_cut
        latents_handed_over = cut is not None and cut.overlap and cut.handoff == "latents"
        return self.overlapped and bool(latents_handed_over) and not now.resamples_anchor and not self.decoder.replay

    # ------------------------------------------------------------ the thread
    def poll(self) -> Iterator[Frames]:
        """Show the frames of the old clip that were decoded meanwhile."""
        if self.background is not None:
            yield from self._from_background(self.background[0].ready())

    def join(self) -> Iterator[Frames]:
        """Wait for all frames of the old clip, and show them."""
        if self.background is not None:
            yield from self._from_background(self.background[0].rest())

    def _from_background(self, videos: Iterator[Tensor]) -> Iterator[Frames]:
        assert self.background is not None
        decode, cut = self.background
        yield from self._shown(videos)
        if decode.over:
            self.background = None
            self.assembler.cut(cut)

    def close(self) -> None:
        """Stop the thread after the piece that it is decoding."""
        if self.background is not None:
            self.background[0].stop()

    # ------------------------------------------------------------ state
    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return what is kept between windows; nothing is decoded in the background then."""
        tensors, facts = merged(assembler=self.assembler, decoder=self.decoder)
        if self.deferred_latents is not None:
            tensors["deferred"] = torch.stack(self.deferred_latents, 2)
        return tensors, {**facts, "clip_open": self.clip_open}

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take over a saved state."""
        self.close()
        self.background = None
        self.clip_open, self.decoder = facts["clip_open"], ClipDecoder(self.vae)
        restore(tensors, facts, assembler=self.assembler, decoder=self.decoder)
        self.deferred_latents = list(tensors["deferred"].unbind(2)) if "deferred" in tensors else None
