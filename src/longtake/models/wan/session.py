"""One rollout's use of a Wan network: cached text keys and values, and in a causal network those of clean frames.

Shapes: B videos, C latent channels, F latent frames in view, H W latent size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from longtake.models.interfaces import Conditioning, ContextFrames
from longtake.models.layers import runs
from longtake.models.runtime.calibration import Calibration
from longtake.models.runtime.step_cache import CachingSession
from longtake.models.wan.block import Columns, FrameKV, KVRecorder, PositionedKV, TextKV
from longtake.models.wan.image_conditioning import ConcatConditioning
from longtake.models.wan.step_cache import published_calibration
from longtake.models.wan.transformer import WanTransformer
from longtake.planning.window import Window


class WanSession(CachingSession):
    """A `Session`. A bidirectional network runs all frames in view at every step and caches only texts.

    A causal network also caches the keys and values of clean frames: those that a window keeps at sigma 0, or has
    finished. Clean frames that are not cached yet are run through the network once. Frames that have not started are not
    run, since no other frame attends to them. The cached values of a frame depend on the frames before it and on its
    prompt, and stay when those leave the view or the prompt changes; so they equal a run without a cache only until a
    frame leaves.

    whole_timesteps: truncate timesteps to integers, as the published pipelines of Wan and SkyReels-V2 do. conditioner:
    makes the image conditioning of a window, for an image-to-video network. cache: see `StepCache`.
    """

    def __init__(
        self,
        net: WanTransformer,
        whole_timesteps: bool = False,
        conditioner: Callable[[Window, ContextFrames], ConcatConditioning] | None = None,
    ):
        self.net, self.whole_timesteps, self.conditioner = net, whole_timesteps, conditioner
        self.texts: dict[str, TextKV] = {}
        self.concat: ConcatConditioning | None = None
        self.frames: tuple[int, ...] = ()  # those in kv_cache, ascending
        self.kv_cache: FrameKV | None = None
        self.size = (0, 0)  # H, W of the cached frames
        self.positioned_kv: PositionedKV | None = None  # the cache at its positions in the window
        self.row = 0  # of window.sigmas, at the last step
        self.pending: tuple[list[int], Tensor] | None = None  # columns to cache and their x, of a finished window

    @torch.no_grad()
    def begin(self, window: Window, context: ContextFrames, cond: Conditioning) -> None:
        """Prepare for a window: read its prompts, and cache clean frames that are new in view."""
        self._cache_pending()
        self.window, self.cond, self.row = window, cond, 0
        if self.cache is not None:
            self.cache.begin(window)
        if self.conditioner is not None:
            self.concat, self.texts = self.conditioner(window, context), {}
        self.texts = {text.key: self.texts.get(text.key) or self._text_kv(text.embedding) for text in cond.texts}
        if self.net.config.causal:
            still = [window.frames[i] for i in clean_context(window)]
            self._keep([frame for frame in self.frames if frame in still])
            self._learn([frame for frame in still if frame not in self.frames], context)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the velocity; it is 0 for frames that do not move in this step."""
        live, moves, fresh = self._needed(sigma)
        if not moves:
            return torch.zeros_like(x)
        if self.whole_timesteps:
            sigma = (1000 * sigma + 1e-9).floor() / 1000
        inputs = x
        if self.concat is not None:
            inputs = torch.cat([x, repeated(self.concat.concat_BCFhw, len(x)).to(x)], 1)
        velocity = self._velocity(inputs, sigma, live, moves, fresh).to(x.dtype)
        if velocity.shape[2] == x.shape[2]:
            return velocity
        whole = torch.zeros_like(x)
        whole[:, :, columns(moves)] = velocity
        return whole

    def finish(self, window: Window, x: Tensor) -> None:
        """Note the frames that became clean; they are cached when they are next needed, at the end of a clip never."""
        fresh = [i for i in became_clean(window) if window.frames[i] not in self.frames]
        if self.net.config.causal and fresh:
            self.pending = fresh, x

    def state(self) -> dict[str, Tensor]:
        """Return all cached keys and values, verbatim."""
        self._cache_pending()
        if self.kv_cache is None:
            return {}
        keys = {f"key.{i}": key for i, key in enumerate(self.kv_cache.keys)}
        values = {f"value.{i}": value for i, value in enumerate(self.kv_cache.values)}
        return {"frames": torch.tensor(self.frames), "size": torch.tensor(self.size), **keys, **values}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore the cached keys and values."""
        self.frames, self.kv_cache, self.positioned_kv, self.pending = (), None, None, None
        if state:
            self.frames, self.size = tuple(state["frames"].tolist()), tuple(state["size"].tolist())
            like = self.net.proj_out.weight
            kept = [[state[f"{kind}.{i}"].to(like) for i in range(len(self.net.blocks))] for kind in ("key", "value")]
            self.kv_cache = FrameKV(*kept)

    def published_calibration(self, size: tuple[int, int]) -> Calibration | None:
        """Return the published step caching calibration for videos of (height, width) pixels, if there is one."""
        return published_calibration(self.net.config, size)

    def _text_kv(self, text_BLD: Tensor) -> TextKV:
        image = self.concat.image_BLD if self.concat is not None else None
        return self.net.text_kv(text_BLD, None if image is None else repeated(image, len(text_BLD)))

    def _inputs(self, at: Columns) -> dict:
        """Return the network's inputs for the frames in these columns."""
        pick = (lambda row: row[at]) if isinstance(at, slice) else (lambda row: [row[i] for i in at])
        return dict(
            text=[self.texts[text.key] for text in self.cond.texts],
            positions=pick(self.window.positions),
            scene=pick(self.cond.scene),
            blocks=pick(self.window.block) if self.net.config.causal else None,
            kv_cache=self.positioned_kv,
            fps=self.cond.fps,
            control=self._control(at),
        )

    def _control(self, at: Columns) -> Tensor | None:
        """Return the control signal of these columns, (F, temporal_compression * D)."""
        return None if self.cond.control is None else self.cond.control[at].flatten(1)

    def _velocity(self, x: Tensor, sigma: Tensor, live: list[int], moves: list[int], fresh: list[int]) -> Tensor:
        """Return the velocity of the columns `moves` in a step that runs the columns `live`; cache the columns `fresh`."""
        at, fps = columns(live), self.cond.fps
        cache = None if fresh else self.cache
        if cache is not None:
            embedding = self.net.timestep_embedding(sigma[..., moves], fps, cache.calibration.projected)
            if cache.can_skip(self.row, moves, embedding, layout=len(x)):
                control, residual = self._control(columns(moves)), cache.residual(moves)
                return self.net.forward_cached(x[:, :, columns(moves)], sigma[..., moves], residual, fps, control)
        recorder = KVRecorder(columns(live.index(i) for i in fresh)) if fresh else None
        out = None if live == moves else columns(live.index(i) for i in moves)
        residuals: list[Tensor] | None = None if cache is None else []
        velocity = self.net(
            x[:, :, at], sigma[..., at], out=out, recorder=recorder, residuals=residuals, **self._inputs(at)
        )
        if recorder is not None:
            self._add(fresh, recorder.kv, x)
        if cache is not None and residuals:
            cache.store(moves, residuals[0])
        return velocity

    def _needed(self, sigma: Tensor) -> tuple[list[int], list[int], list[int]]:
        """Return the columns to run at these sigmas, those whose velocity is used, and those to cache from now on."""
        window, moves = self.window, list(range(len(self.window.frames)))
        row = next((r for r in range(self.row, window.steps) if same(sigma, window.sigmas[r])), None)
        if row is not None:
            self.row = row
            moves = (window.sigmas[row] != window.sigmas[row + 1]).nonzero()[:, 0].tolist()
        if not self.net.config.causal:
            return list(range(len(window.frames))), moves, []
        moves = [i for i in moves if window.frames[i] not in self.frames]
        last = max((window.block[i] for i in moves), default=-1)
        live = [i for i, frame in enumerate(window.frames) if frame not in self.frames and window.block[i] <= last]
        return live, moves, [] if row is None else settled(window, row, live)

    @torch.no_grad()
    def _cache_pending(self) -> None:
        """Run a finished window once at its last sigmas, up to the last frame to cache."""
        if self.pending is None:
            return
        (fresh, x), self.pending = self.pending, None
        window, last = self.window, self.window.block[fresh[-1]]
        ran = [i for i, frame in enumerate(window.frames) if frame not in self.frames and window.block[i] <= last]
        self._remember(ran, fresh, x[:, :, columns(ran)], window.sigmas[-1, ran])

    def _keep(self, frames: list[int]) -> None:
        """Drop all cached frames but these, and move them to their positions in this window."""
        if self.kv_cache is not None and len(frames) < len(self.frames):
            self.kv_cache = picked(self.kv_cache, [self.frames.index(frame) for frame in frames])
        self.frames = tuple(frames)
        self._place()

    def _learn(self, frames: list[int], context: ContextFrames) -> None:
        """Run clean frames through the network, block by block, and cache their keys and values."""
        at = [self.window.frames.index(frame) for frame in frames]
        for _, start, stop in runs([self.window.block[i] for i in at]):
            x = torch.stack([context.latents[frame] for frame in frames[start:stop]], 2)
            self._remember(at[start:stop], at[start:stop], x, torch.zeros(stop - start))

    def _remember(self, ran: list[int], keep: list[int], x: Tensor, sigma: Tensor) -> None:
        """Run the columns `ran`, which hold x at these sigmas, and cache the columns `keep` of them."""
        at = columns(ran.index(i) for i in keep)
        self._add(keep, self.net.frame_kv(x, sigma, at=at, **self._inputs(columns(ran))), x)

    def _add(self, at: list[int], new: FrameKV, x: Tensor) -> None:
        """Add the keys and values of these columns to the cache, in the order of the frames."""
        frames = [*self.frames, *(self.window.frames[i] for i in at)]
        order, old = sorted(range(len(frames)), key=frames.__getitem__), self.kv_cache
        self.kv_cache = self.positioned_kv = None
        self.kv_cache = new if old is None else picked(chained(old, new), order)
        self.frames, self.size = tuple(frames[i] for i in order), (x.shape[3], x.shape[4])
        self._place()

    def _place(self) -> None:
        """Move the cached keys to the positions of their frames in this window."""
        if self.kv_cache is None or not self.frames:
            self.kv_cache = self.positioned_kv = None
            return
        positions = [self.window.positions[self.window.frames.index(frame)] for frame in self.frames]
        self.positioned_kv = self.net.position_kv(self.kv_cache, positions, *self.size)


def repeated(x: Tensor, batch: int) -> Tensor:
    """Repeat x for every guidance branch of a batch."""
    return x if len(x) == batch else x.repeat(batch // len(x), *[1] * (x.ndim - 1))


def clean_context(window: Window) -> list[int]:
    """Return the context columns that a window keeps at sigma 0."""
    still = (window.sigmas == 0).all(0).tolist()
    return [i for i, role in enumerate(window.role) if role == "context" and still[i]]


def became_clean(window: Window) -> list[int]:
    """Return the columns that are clean for good at the end of a window: not revisable, and not cross-faded."""
    clean = (window.sigmas[-1] == 0) & (window.sigmas[0] > 0)
    if window.blend is not None:
        clean &= window.blend == 1
    return [i for i in clean.nonzero()[:, 0].tolist() if i < len(window.frames) - window.revisable]


def settled(window: Window, row: int, live: Sequence[int]) -> list[int]:
    """Return the columns of a step whose keys and values never change from this row on: they are clean for good, and so
    are all columns that they attend to."""
    clean = [i for i in became_clean(window) if window.sigmas[row, i] == 0]
    first = next((window.block[i] for i in live if i not in clean), None)
    return [i for i in live if i in clean and (first is None or window.block[i] < first)]


def same(sigma: Tensor, row: Tensor) -> bool:
    """Whether these sigmas are those of a row."""
    return sigma.shape == row.shape and bool((sigma.cpu() == row).all())


def columns(at: Iterable[int]) -> Columns:
    """Return a slice for adjacent columns, so that nothing is copied, else the columns themselves."""
    at = list(at)
    return slice(at[0], at[-1] + 1) if at and at[-1] - at[0] == len(at) - 1 else at


def picked(kv: FrameKV, at: Sequence[int]) -> FrameKV:
    """Return some frames of a cache by their index; the cache itself if that is all of them in order."""
    if list(at) == list(range(kv.keys[0].shape[1])):
        return kv
    return FrameKV(*([x[:, list(at)] for x in layers] for layers in (kv.keys, kv.values)))


def chained(first: FrameKV, second: FrameKV) -> FrameKV:
    """Concatenate two caches. Both are consumed, so that at most one layer is in memory twice."""

    def joined(one: list[Tensor], two: list[Tensor]) -> list[Tensor]:
        return [torch.cat((one.pop(0), two.pop(0)), 1) for _ in range(len(one))]

    return FrameKV(joined(first.keys, second.keys), joined(first.values, second.values))
