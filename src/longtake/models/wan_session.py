"""One rollout's use of a Wan network: texts read once, and in a causal network clean frames that are never run again.

Shapes: B videos, C latent channels, F latent frames in view, H W latent size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from longtake.models.base import Cond, Past
from longtake.models.cache import StepCache
from longtake.models.layers import runs
from longtake.models.wan import WanTransformer
from longtake.models.wan_block import Columns, FrameMemory, Keep, Placed, TextMemory
from longtake.models.wan_image import Beside
from longtake.plan import Window


class WanSession:
    """A Session. A bidirectional network runs all frames in view at every call and remembers only texts.

    A causal one remembers keys and values of clean frames: those that a window holds still at level 0, or has finished,
    are served from memory, and told to the network once if they are not yet there. Frames that have not begun are not
    run, since nobody sees them. What is remembered of a frame saw the frames
    before it and the prompt of its time, and stays as it was when those leave the view or the prompt changes; so it
    equals a run without memory only until a frame leaves.

    whole_timesteps: cut timesteps to whole numbers, as the published pipelines of Wan and SkyReels-V2 do.
    tell: what an image-to-video network is told beside x of the known frames of a window. cache: see `StepCache`.
    """

    def __init__(
        self,
        net: WanTransformer,
        whole_timesteps: bool = False,
        tell: Callable[[Window, Past], Beside] | None = None,
    ):
        self.net, self.whole_timesteps, self.tell = net, whole_timesteps, tell
        self.cache: StepCache | None = None
        self.texts: dict[str, TextMemory] = {}
        self.beside: Beside | None = None
        self.frames: tuple[int, ...] = ()  # remembered, ascending
        self.memory: FrameMemory | None = None
        self.size = (0, 0)  # H, W of the remembered frames
        self.placed: Placed | None = None  # the memory, where it stands in the window
        self.row = 0  # of the window, at the last call
        self.owed: tuple[list[int], Tensor] | None = None  # columns to remember and x, of a window that is over

    @torch.no_grad()
    def begin(self, window: Window, past: Past, cond: Cond) -> None:
        """See `Session`."""
        self._settle()
        self.window, self.cond, self.row = window, cond, 0
        if self.cache is not None:
            self.cache.begin(window)
        if self.tell is not None:
            self.beside, self.texts = self.tell(window, past), {}
        self.texts = {text.key: self.texts.get(text.key) or self._read(text.embedding) for text in cond.texts}
        if self.net.config.causal:
            still = [window.frames[i] for i in clean_context(window)]
            self._keep([frame for frame in self.frames if frame in still])
            self._learn([frame for frame in still if frame not in self.frames], past)

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        """See `Session`; frames that do not move in this call have no velocity."""
        live, moves, fresh = self._needed(level)
        if not moves:
            return torch.zeros_like(x)
        if self.whole_timesteps:
            level = (1000 * level + 1e-9).floor() / 1000
        seen = x
        if self.beside is not None:
            seen = torch.cat([x, repeated(self.beside.beside_BCFhw, len(x)).to(x)], 1)
        velocity = self._velocity(seen, level, live, moves, fresh).to(x.dtype)
        if velocity.shape[2] == x.shape[2]:
            return velocity
        whole = torch.zeros_like(x)
        whole[:, :, columns(moves)] = velocity
        return whole

    def finish(self, window: Window, x: Tensor) -> None:
        """See `Session`. What became clean is remembered when it is next needed, which at the end of a take is never."""
        fresh = [i for i in became_clean(window) if window.frames[i] not in self.frames]
        if self.net.config.causal and fresh:
            self.owed = fresh, x

    def state(self) -> dict[str, Tensor]:
        """See `Session`: all keys and values, verbatim."""
        self._settle()
        if self.memory is None:
            return {}
        keys = {f"key.{i}": key for i, key in enumerate(self.memory.keys)}
        values = {f"value.{i}": value for i, value in enumerate(self.memory.values)}
        return {"frames": torch.tensor(self.frames), "size": torch.tensor(self.size), **keys, **values}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `Session`."""
        self.frames, self.memory, self.placed, self.owed = (), None, None, None
        if state:
            self.frames, self.size = tuple(state["frames"].tolist()), tuple(state["size"].tolist())
            like = self.net.proj_out.weight
            kept = [[state[f"{kind}.{i}"].to(like) for i in range(len(self.net.blocks))] for kind in ("key", "value")]
            self.memory = FrameMemory(*kept)

    def _read(self, text_BLD: Tensor) -> TextMemory:
        image = self.beside.image_BLD if self.beside is not None else None
        return self.net.text_memory(text_BLD, None if image is None else repeated(image, len(text_BLD)))

    def _told(self, at: Columns) -> dict:
        """What the network is told of the frames in these columns."""
        pick = (lambda row: row[at]) if isinstance(at, slice) else (lambda row: [row[i] for i in at])
        return dict(
            text=[self.texts[text.key] for text in self.cond.texts],
            positions=pick(self.window.positions),
            scene=pick(self.cond.scene),
            blocks=pick(self.window.block) if self.net.config.causal else None,
            memory=self.placed,
            fps=self.cond.fps,
            track=self._driven(at),
        )

    def _driven(self, at: Columns) -> Tensor | None:
        """What drives the frames in these columns (F, stride * D)."""
        return None if self.cond.track is None else self.cond.track[at].flatten(1)

    def _velocity(self, x: Tensor, level: Tensor, live: list[int], moves: list[int], fresh: list[int]) -> Tensor:
        """Velocity of the columns `moves` in a call of the columns `live`; `fresh` are remembered."""
        at, fps = columns(live), self.cond.fps
        cache = None if fresh else self.cache
        if cache is not None:
            embedding = self.net.embedded(level[..., moves], fps, cache.rule.projected)
            known = cache.recall(self.row, moves, embedding)
            if known is not None:
                track = self._driven(columns(moves))
                return self.net.short(x[:, :, columns(moves)], level[..., moves], known, fps, track)
        keep = Keep(columns(live.index(i) for i in fresh)) if fresh else None
        out = None if live == moves else columns(live.index(i) for i in moves)
        added: list[Tensor] | None = None if cache is None else []
        velocity = self.net(x[:, :, at], level[..., at], out=out, keep=keep, added=added, **self._told(at))
        if keep is not None:
            self._add(fresh, keep.memory, x)
        if cache is not None and added:
            cache.store(moves, added[0])
        return velocity

    def _needed(self, level: Tensor) -> tuple[list[int], list[int], list[int]]:
        """Columns to run at these levels, those of them whose velocity is used, and those to remember from now on."""
        window, moves = self.window, list(range(len(self.window.frames)))
        row = next((r for r in range(self.row, window.calls) if same(level, window.levels[r])), None)
        if row is not None:
            self.row = row
            moves = (window.levels[row] != window.levels[row + 1]).nonzero()[:, 0].tolist()
        if not self.net.config.causal:
            return list(range(len(window.frames))), moves, []
        moves = [i for i in moves if window.frames[i] not in self.frames]
        last = max((window.block[i] for i in moves), default=-1)
        live = [i for i, frame in enumerate(window.frames) if frame not in self.frames and window.block[i] <= last]
        return live, moves, [] if row is None else settled(window, row, live)

    @torch.no_grad()
    def _settle(self) -> None:
        """One pass at the last levels of a window that is over, up to the last frame to remember."""
        if self.owed is None:
            return
        (fresh, x), self.owed = self.owed, None
        window, last = self.window, self.window.block[fresh[-1]]
        seen = [i for i, frame in enumerate(window.frames) if frame not in self.frames and window.block[i] <= last]
        self._remember(seen, fresh, x[:, :, columns(seen)], window.levels[-1, seen])

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

    def _remember(self, seen: list[int], keep: list[int], x: Tensor, level: Tensor) -> None:
        """Run the columns `seen`, which hold x at these levels, and add the columns `keep` of them to the memory."""
        at = columns(seen.index(i) for i in keep)
        self._add(keep, self.net.remember(x, level, at=at, **self._told(columns(seen))), x)

    def _add(self, at: list[int], new: FrameMemory, x: Tensor) -> None:
        """Keys and values of these columns join what is remembered, in the order of the frames."""
        frames = [*self.frames, *(self.window.frames[i] for i in at)]
        order, old = sorted(range(len(frames)), key=frames.__getitem__), self.memory
        self.memory = self.placed = None
        self.memory = new if old is None else picked(chained(old, new), order)
        self.frames, self.size = tuple(frames[i] for i in order), (x.shape[3], x.shape[4])
        self._place()

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


def settled(window: Window, row: int, live: Sequence[int]) -> list[int]:
    """Which of the columns that a call runs have, from this row on, keys and values that never change: they are clean
    for good, and so is every other one that they see."""
    clean = [i for i in became_clean(window) if window.levels[row, i] == 0]
    first = next((window.block[i] for i in live if i not in clean), None)
    return [i for i in live if i in clean and (first is None or window.block[i] < first)]


def same(level: Tensor, row: Tensor) -> bool:
    """Whether these levels are those of a row."""
    return level.shape == row.shape and bool((level.cpu() == row).all())


def columns(at: Iterable[int]) -> Columns:
    """A slice for columns in a row, so that nothing is copied; else the columns themselves."""
    at = list(at)
    return slice(at[0], at[-1] + 1) if at and at[-1] - at[0] == len(at) - 1 else at


def picked(memory: FrameMemory, at: Sequence[int]) -> FrameMemory:
    """Frames of a memory by their place in it; the memory itself if that is all of them in order."""
    if list(at) == list(range(memory.keys[0].shape[1])):
        return memory
    return FrameMemory(*([x[:, list(at)] for x in layers] for layers in (memory.keys, memory.values)))


def chained(first: FrameMemory, second: FrameMemory) -> FrameMemory:
    """Two memories, one after the other. Both are used up, so that no more than one layer is held twice."""

    def joined(one: list[Tensor], two: list[Tensor]) -> list[Tensor]:
        return [torch.cat((one.pop(0), two.pop(0)), 1) for _ in range(len(one))]

    return FrameMemory(joined(first.keys, second.keys), joined(first.values, second.values))
