"""One rollout's use of a Wan network: texts read once, and in a causal network clean frames that are never run again.

Shapes: B videos, C latent channels, F latent frames in view, H W latent size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from longtake.models.base import Cond, Past
from longtake.models.layers import runs
from longtake.models.wan import WanTransformer
from longtake.models.wan_block import FrameMemory, Placed, TextMemory
from longtake.models.wan_image import Beside
from longtake.plan import Window


class WanSession:
    """A Session. A bidirectional network runs all frames in view at every call and remembers only texts.

    A causal one remembers keys and values of clean frames: those that a window holds still at level 0 are served from
    memory, and told to the network once if they are not yet there. What is remembered of a frame saw the frames
    before it and the prompt of its time, and stays as it was when those leave the view or the prompt changes; so it
    equals a run without memory only until a frame leaves.

    whole_timesteps: cut timesteps to whole numbers, as the published pipelines of Wan and SkyReels-V2 do.
    tell: what an image-to-video network is told beside x of the known frames of a window.
    """

    def __init__(
        self,
        net: WanTransformer,
        whole_timesteps: bool = False,
        tell: Callable[[Window, Past], Beside] | None = None,
    ):
        self.net, self.whole_timesteps, self.tell = net, whole_timesteps, tell
        self.texts: dict[str, TextMemory] = {}
        self.beside: Beside | None = None
        self.frames: tuple[int, ...] = ()  # remembered, ascending
        self.memory: FrameMemory | None = None
        self.size = (0, 0)  # H, W of the remembered frames
        self.placed: Placed | None = None  # the memory, where it stands in the window

    @torch.no_grad()
    def begin(self, window: Window, past: Past, cond: Cond) -> None:
        """See `Session`."""
        self.window, self.cond = window, cond
        if self.tell is not None:
            self.beside, self.texts = self.tell(window, past), {}
        self.texts = {text.key: self.texts.get(text.key) or self._read(text.embedding) for text in cond.texts}
        if self.net.config.causal:
            still = [window.frames[i] for i in clean_context(window)]
            self._keep([frame for frame in self.frames if frame in still])
            self._learn([frame for frame in still if frame not in self.frames], past)
        self.live = columns(i for i, frame in enumerate(window.frames) if frame not in self.frames)

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        """See `Session`; remembered frames have no velocity."""
        if self.whole_timesteps:
            level = (1000 * level + 1e-9).floor() / 1000
        seen = x
        if self.beside is not None:
            seen = torch.cat([x, repeated(self.beside.beside_BCFhw, len(x)).to(x)], 1)
        velocity = self.net(seen[:, :, self.live], level[..., self.live], **self._told(self.live)).to(x.dtype)
        if velocity.shape[2] == x.shape[2]:
            return velocity
        whole = torch.zeros_like(x)
        whole[:, :, self.live] = velocity
        return whole

    @torch.no_grad()
    def finish(self, window: Window, x: Tensor) -> None:
        """See `Session`: one pass at the last levels over what is not remembered, up to the last frame to remember."""
        fresh = [i for i in became_clean(window) if window.frames[i] not in self.frames]
        if not self.net.config.causal or not fresh:
            return
        last = window.block[fresh[-1]]
        seen = [i for i, frame in enumerate(window.frames) if frame not in self.frames and window.block[i] <= last]
        self._remember(seen, fresh, x[:, :, columns(seen)], window.levels[-1, seen])

    def state(self) -> dict[str, Tensor]:
        """See `Session`: all keys and values, verbatim."""
        if self.memory is None:
            return {}
        keys = {f"key.{i}": key for i, key in enumerate(self.memory.keys)}
        values = {f"value.{i}": value for i, value in enumerate(self.memory.values)}
        return {"frames": torch.tensor(self.frames), "size": torch.tensor(self.size), **keys, **values}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `Session`."""
        self.frames, self.memory, self.placed = (), None, None
        if state:
            self.frames, self.size = tuple(state["frames"].tolist()), tuple(state["size"].tolist())
            like = self.net.proj_out.weight
            kept = [[state[f"{kind}.{i}"].to(like) for i in range(len(self.net.blocks))] for kind in ("key", "value")]
            self.memory = FrameMemory(*map(tuple, kept))

    def _read(self, text_BLD: Tensor) -> TextMemory:
        image = self.beside.image_BLD if self.beside is not None else None
        return self.net.text_memory(text_BLD, None if image is None else repeated(image, len(text_BLD)))

    def _told(self, at: slice | list[int]) -> dict:
        """What the network is told of the frames in these columns."""
        pick = (lambda row: row[at]) if isinstance(at, slice) else (lambda row: [row[i] for i in at])
        return dict(
            text=[self.texts[text.key] for text in self.cond.texts],
            positions=pick(self.window.positions),
            scene=pick(self.cond.scene),
            blocks=pick(self.window.block) if self.net.config.causal else None,
            memory=self.placed,
            fps=self.cond.fps,
        )

    def _keep(self, frames: list[int]) -> None:
        """Forget all frames but these, and stand them where they are in this window."""
        if self.memory is not None and len(frames) < len(self.frames):
            self.memory = picked(self.memory, [self.frames.index(frame) for frame in frames])
        self.frames = tuple(frames)
        self._place()

    def _learn(self, frames: list[int], past: Past) -> None:
        """Run clean frames through the network for their keys and values, block by block."""
        at = [self.window.frames.index(frame) for frame in frames]
        for _, start, stop in runs([self.window.block[i] for i in at]):
            x = torch.stack([past.known[frame] for frame in frames[start:stop]], 2)
            self._remember(at[start:stop], at[start:stop], x, torch.zeros(stop - start))
            self._place()

    def _remember(self, seen: list[int], keep: list[int], x: Tensor, level: Tensor) -> None:
        """Run the columns `seen`, which hold x at these levels, and add the columns `keep` of them to the memory."""
        new = self.net.remember(x, level, **self._told(columns(seen)))
        new = picked(new, [seen.index(i) for i in keep])
        frames = [*self.frames, *(self.window.frames[i] for i in keep)]
        order = sorted(range(len(frames)), key=frames.__getitem__)
        self.memory = new if self.memory is None else picked(chained(self.memory, new), order)
        self.frames, self.size = tuple(frames[i] for i in order), (x.shape[3], x.shape[4])

    def _place(self) -> None:
        if self.memory is None or not self.frames:
            self.memory = self.placed = None
            return
        positions = [self.window.positions[self.window.frames.index(frame)] for frame in self.frames]
        self.placed = self.net.place(self.memory, positions, *self.size)


def repeated(x: Tensor, batch: int) -> Tensor:
    """x once for every guidance branch, which come one after the other in a batch."""
    return x if len(x) == batch else x.repeat(batch // len(x), *[1] * (x.ndim - 1))


def clean_context(window: Window) -> list[int]:
    """Columns that a window holds still at level 0."""
    still = (window.levels == 0).all(0).tolist()
    return [i for i, role in enumerate(window.role) if role == "context" and still[i]]


def became_clean(window: Window) -> list[int]:
    """Columns that stand at level 0 at the end of a window for good: not to be remade, not cross-faded with an old one."""
    clean = (window.levels[-1] == 0) & (window.levels[0] > 0)
    if window.blend is not None:
        clean &= window.blend == 1
    return [i for i in clean.nonzero()[:, 0].tolist() if i < len(window.frames) - window.hold]


def columns(at: Iterable[int]) -> slice | list[int]:
    """A slice for columns in a row, so that nothing is copied; else the columns themselves."""
    at = list(at)
    return slice(at[0], at[-1] + 1) if at and at[-1] - at[0] == len(at) - 1 else at


def picked(memory: FrameMemory, at: Sequence[int]) -> FrameMemory:
    """Frames of a memory by their place in it; the memory itself if that is all of them in order."""
    if list(at) == list(range(memory.keys[0].shape[1])):
        return memory
    return FrameMemory(*(tuple(x[:, list(at)] for x in layers) for layers in (memory.keys, memory.values)))


def chained(first: FrameMemory, second: FrameMemory) -> FrameMemory:
    """Two memories, one after the other."""
    pairs = ((first.keys, second.keys), (first.values, second.values))
    return FrameMemory(*(tuple(torch.cat(both, 1) for both in zip(*pair)) for pair in pairs))
