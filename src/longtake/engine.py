"""The only loop that calls a model to make video: windows in, output frames out, in constant memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from longtake.develop import Developing
from longtake.events import Began, Called, Ended, Event
from longtake.geometry import frames_of_latents, latents_of_frames
from longtake.grade import tone_mapped
from longtake.guidance import Guidance
from longtake.guide import Guided, guidance_of
from longtake.live import Edge, Live
from longtake.look import Look
from longtake.models.base import Cond, Model, Past, Session
from longtake.noise import Keyed, Noise, mix
from longtake.outlet import Frames, Outlet
from longtake.plan import Cut, PlanError, Source, Window, check
from longtake.plans import Plan
from longtake.plans.conditioned import Item, conditioned
from longtake.prompts import Edit
from longtake.refine import Small, grown, second, shrunk
from longtake.schedule import Opening, Planned, Shots
from longtake.script import Script
from longtake.solve import SOLVERS, Memory, Step, no_noise
from longtake.stock import Stock, Texts
from longtake.take import Grain, Take, encoded
from longtake.tape import Row, Tape
from longtake.track import Track, TwoScales


# ---------------------------------------------------------------- one window
def denoise(
    velocity: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    window: Window,
    step: Step,
    past: Memory | None = None,
    refresh: Callable[[Tensor, int], Tensor] | None = None,
    fresh: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[tuple[Tensor, Memory | None]]:
    """Carry every frame of x (B C F H W) from window.levels[0] to window.levels[-1]; yields after each model call.

    refresh(x, call), if given, draws the noise on the context anew before every call but the first. fresh(level_next)
    draws the noise of a step that needs some.
    """
    for call, (level, level_next) in enumerate(pairwise(window.levels)):
        if refresh is not None and call:
            x = refresh(x, call)
        with torch.inference_mode():
            noise = no_noise if fresh is None else partial(fresh, level_next)
            x, past = step(x, velocity(x, level), level, level_next, past, noise)
        yield x, past


# ---------------------------------------------------------------- the video
class Rollout:
    """A video in the making: iterate over `run()`; `state()` after an Ended event is all that is needed to go on.

    frames are those of the script; None makes video without end. guidance 1 calls the model once per step. fps: the
    rate that the model is told, by default its own.
    start: frames (B 3 T H W) in [-1, 1] with which the video begins; T is 1 + stride * k. extend: they are the end of
    a video that was shown before, so the script begins after them. anchor: the first frame of the video (B 3 1 H W), if
    that is not the first of `start`. end: a frame (B 3 1 H W) that the video comes to.
    track: what the model is told of every output frame beside the prompt (see `track.Track`).
    items: pictures and clips that stand at any frame. guidance: how much the prompt counts, or all there is to say of it.
    overlapped: decode a take while the next one is made, where that one is told of latents and so needs no frames.
    """

    def __init__(
        self, model: Model, script: Script, plan: Plan, *, seeds: Sequence[int] = (0,),
        guidance: float | Guidance | None = None, negative: str | None = None, solver: str = "euler",
        noise: Noise | None = None, batched: bool = True, fps: float | None = None, start: Tensor | None = None,
        extend: bool = False, end: Tensor | None = None, items: Sequence[Item] = (), track: Track | None = None,
        overlapped: bool = True, anchor: Tensor | None = None,
    ):  # fmt: skip
        self.before = start.shape[2] if start is not None and extend else 0  # frames of the start, shown before
        if items:
            plan = conditioned(plan, items, script, model.codec.stride, self.before)
        self.model, self.plan = model, plan
        self.fps = model.fps if fps is None else fps
        for loras in dict.fromkeys(scene.lora for scene in script.scenes if scene.lora):
            model.takes(loras)
        if track is not None:
            track.suits(model)
        self.guidance, self.track = guidance_of(model, guidance), track
        self.negative = model.negative if negative is None else negative
        own = model.noise(seeds) if model.noise else Keyed(tuple(seeds))
        self.step, self.noise, self.batched = SOLVERS[solver], noise or own, batched
        self.batch = len(seeds)
        height, width = (side // model.codec.scale for side in model.size)
        self.grain = Grain(self.noise, (model.codec.channels, height, width), model.device)
        self.index = 0  # windows done
        self.texts = Texts(model.text, self.batch)
        self.open = False  # the take may go on: its end has not been decoded
        self.overlapped = overlapped and not model.turns
        self.owed: list[Tensor] | None = None  # latents at the end of the take, to be decoded beside the next one
        self.developing: tuple[Developing, Cut] | None = None  # the end of the take before, and the cut behind it
        self.moving = 0  # the last latent frame that the window makes
        self.anchor: Tensor | None = None  # the first latent of the shot
        self.image: Tensor | None = None  # its first frame, for a model that is told of pixels
        self.known = 0 if start is None else latents_of_frames(start.shape[2], model.codec.stride)
        self.stock = Stock.of(items, end, self._encoded)
        self.small_stock = None if model.refine is None else Stock.of(items, end, self._small_encoded)
        self.small: Small | None = None
        self.look = Look()
        stride = model.codec.stride
        shots = Shots(script, plan, model.limits, stride, known=self.known, before=self.before, ends=end is not None)
        self.live = Live(shots, self.fps, self.texts.embedding)
        self.outlet = Outlet(tail_length=plan.seam, at=-self.before)
        self.take = self._new_take(0, -self.before)
        if start is not None:
            self._begin(start, anchor)

    def run(self) -> Iterator[Event]:
        """Make the video, from where it stands. Leaving the loop stops it; PlanError if the model cannot do the plan."""
        try:
            yield from self._run()
        finally:
            if self.developing is not None:
                self.developing[0].leave()

    def _run(self) -> Iterator[Event]:
        while True:
            now, after = self.live.next(lambda: self.edge, self.index)
            if now is None:
                yield from self._paid()
                return
            for planned in (now, after) if after is not None else (now,):  # refused before work, not after it
                check(planned.window, self.model.limits)
            yield Began(self.index, now.window, self.outlet.shown)
            yield from self._opened(now)
            hold = after.window.cut.seam if after and after.window.cut and after.window.cut.keep != "old" else 0
            late = self._can_wait(now, after)
            yield from self._window(now, hold, late)
            if now.last and not late:
                yield from self._closed()
            self.index += 1
            yield Ended(self.index - 1, self.outlet.shown)

    def _opened(self, now: Planned) -> Iterator[Event]:
        """Begin the take of a window, if it begins one, and say whether it follows another scene."""
        if now.opening:
            yield from self._paid()
        if now.opening and self.open:  # an edit ended the shot after its last window was done
            held = self.take.tape.rest()
            for video in self.take.decode(self._grainy(dict(held), self.grain.of(self.take, now.window))):
                yield from self.outlet.push(video)
            yield from self._closed()
        if now.opening:
            yield from self.outlet.release()
            self._cut_to(now.opening)
        elif now.window.cut:
            self._cut(now.window.cut)
        self.outlet.end, self.open = now.end, not now.last
        rows = () if now.opening else self.take.tape.rows
        new = [f for f in now.window.frames if f not in rows] or [now.window.frames[-1]]
        yield from self.live.switched(self.index, now, [self.take.frame(f) for f in new])

    def _closed(self) -> Iterator[Frames]:
        """The end of a take."""
        self.open = False
        with torch.inference_mode():
            rest = self.take.decoder.flush()
        yield from self.outlet.push(rest)

    def _can_wait(self, now: Planned, after: Planned | None) -> bool:
        """Whether what a window makes may be decoded beside the next one, which needs none of its frames."""
        cut = after.window.cut if after is not None and not after.opening else None
        if cut is None or cut.hand != "latents" or not cut.seam or not now.last or now.light:
            return False
        pictured = self.model.limits.context != "beside" or self.image is not None
        return self.overlapped and pictured and not self.take.replay

    def _paid(self) -> Iterator[Frames]:
        """Decode now what was to be decoded beside the next take."""
        owed, self.owed = self.owed, None
        for video in self.take.ended(owed) if owed is not None else ():
            yield from self.outlet.push(video)

    def _developed(self, wait: bool) -> Iterator[Frames]:
        """Frames of the take before that were made meanwhile, or all that are left of them."""
        if self.developing is None:
            return
        frames, cut = self.developing
        for video in frames.rest() if wait else frames.ready():
            yield from self.outlet.push(video)
        if frames.over:
            self.developing = None
            self.outlet.cut(cut)

    def _window(self, now: Planned, hold: int, late: bool) -> Iterator[Event]:
        take, window, last = self.take, now.window, now.last
        cond = self._cond(window)
        remade = list(take.tape.clean(window))
        take.tape.rows |= {f: Row(self._sourced(source), 0.0) for f, source in window.sources.items()}
        before: dict[int, Row] = {}  # what the second of two passes is blended with
        if self.model.refine is not None:
            before = {f: take.tape.rows[f] for f in remade}
            window = self._first_pass(window, cond, remade, last)
        past = Past(take.tape.clean(window), take.given, self.anchor, self.image, untold=now.light)
        take.session.begin(window, past, cond)
        draw = self.grain.of(take, window)
        shown = zip(window.frames, window.moves.tolist(), window.role)
        self.moving = max((f for f, moves, role in shown if moves and role != "guide"), default=0)
        x, memory = take.tape.load(window, draw)
        take.tape.rows |= before
        redraw = (lambda x, call: take.tape.refresh(x, window, call, draw)) if window.noise == "call" else None
        if window.cond_noise:
            redraw = lambda x, call: take.tape.stirred(x, window, call, draw)
            x = redraw(x, 0)
        fresh = lambda level: self.grain.of_step(take, window, level, remade)
        calls = denoise(take.session, x, window, self.step, memory, redraw, fresh)
        for call in range(1, window.calls + 1):
            x, memory = next(calls)
            yield Called(self.index, call, window.calls)
            yield from self._developed(wait=False)
        yield from self._developed(wait=True)
        x = self.look.graded(x, window, cond.texts[cond.scene[-1]].key)
        with torch.inference_mode():
            take.session.finish(window, x)
        made = dict(take.tape.save(window, x, memory, last))
        if self.anchor is None and 0 in made:
            self.anchor = made[0].clone()
        if last and hold:
            self.outlet.hold_from = take.first + frames_of_latents(take.tape.done, self.model.codec.stride) - hold
        latents = self._grainy(made, draw)
        if late:
            self.owed, self.open = latents, False
            return
        for video in take.decode(latents):
            self._look_at(video, now)
            yield from self.outlet.push(video)

    def _look_at(self, video: Tensor, now: Planned) -> None:
        """Keep the frames that a model which is told of pixels will want again."""
        if self.model.limits.context != "beside" or not video.shape[2]:
            return
        if self.image is None:
            self.image = video[:, :, :1].clamp(-1, 1).clone()
        if now.light:
            self.take.given = video[:, :, :1].clamp(-1, 1).clone()

    def _grainy(self, made: Mapping[int, Tensor], draw: Callable[[Any, list[int], int], Tensor]) -> list[Tensor]:
        """Finished latents (B C h w) by their number in the take, with the noise that the decoder expects in them."""
        level = self.model.decode_noise
        if not made or not (level or self.model.tone):
            return list(made.values())
        x = torch.stack(list(made.values()), 2)
        if level:
            x = mix(x, draw("decode", list(made), 0), torch.full((len(made),), level))
        return list(tone_mapped(x, self.model.tone).unbind(2))

    def _first_pass(self, window: Window, cond: Cond, remade: Sequence[int], last: bool) -> Window:
        """Make the window small; the window that makes it large from there, with what it begins from on the tape."""
        small, refine = self.small, self.model.refine
        assert small is not None and refine is not None
        grain, take = self.grain.smaller(refine.scale), self.take
        sources = {f: self._sourced(source, small) for f, source in window.sources.items()}
        fresh = lambda level: grain.of_step(take, window, level, remade)
        made = small.run(window, cond, sources, self.step, grain.of(take, window), fresh, last)
        after = second(window, refine.levels)
        self.take.tape.rows |= grown(window, made, refine)
        return after

    def _sourced(self, source: Source, small: Small | None = None) -> Tensor:
        """A clean latent (B C h w) that is not on the tape by itself; that of the first pass if there is one."""
        if small is None:
            latent = self.stock.latent(source, self.take.tape.rows, self.anchor)
        else:
            assert self.small_stock is not None
            latent = self.small_stock.latent(source, small.tape.rows, small.anchor)
        return latent.expand(self.batch, -1, -1, -1)

    # ------------------------------------------------------------ the prompt stream
    @property
    def script(self) -> Script:
        """As it is now, after all edits."""
        return self.live.script

    @property
    def edge(self) -> Edge:
        """What has begun: an edit changes the first clip or block that has not started, and what comes after it."""
        rows = self.take.tape.rows
        begun = self.take.frame(max(rows) + 1) if rows else max(0, self.outlet.at)
        return Edge(self.index, begun, self.model.codec.stride, self.model.limits.view)

    @property
    def reached(self) -> int:
        """The first output frame that an edit can change once the window that is running now is done."""
        return self.take.frame(self.moving + 1)

    def edit(self, edit: Edit) -> Edit:
        """Change the script behind what has begun; only before `run`, or right after an Ended event (see `Live.edit`)."""
        return self.live.edit(edit, self.edge)

    def follow(self, changes: Mapping[int, Sequence[Edit]]) -> None:
        """Repeat edits, given by the window before which each was made; to be called before `load`."""
        self.live.follow(changes)

    # ------------------------------------------------------------ takes
    def _new_take(self, number: int, first: int) -> Take:
        refine, guidance = self.model.refine, self.guidance
        if refine is not None:
            self.small = Small(self._session(guidance), anchor=None if self.small is None else self.small.anchor)
            guidance = guidance if guidance.plain else refine.guidance
        replay: deque[Tensor] = deque(maxlen=max(1, self.model.codec.reach))
        return Take(
            number, first, self.model.codec.stride, self.model.codec.decoder(), self._session(guidance), replay=replay
        )

    def _session(self, guidance: Guidance) -> Session:
        """A new session of the model, with guidance if there is any."""
        if self.track is not None and self.track.scale != 1:
            scale, negative = max(guidance.scale), self.texts[self.negative]
            return TwoScales(self.model.session, scale, self.track.scale, negative)
        if guidance.plain:
            return self.model.session()
        avoid = self.texts[self.negative] if max(guidance.scale) > 1 else None
        return Guided(self.model.session, guidance, avoid, self.batched)

    def _cut(self, cut: Cut) -> None:
        """Open a new take, told of the end of the old one."""
        told, frames = self._told(cut)
        if self.owed is None:
            first = self.outlet.cut(cut)
        else:
            first = self.take.frame(self.take.tape.done) - cut.seam
            self.developing = Developing(partial(self.take.ended, self.owed), self.model.device), cut
            self.owed = None
        self.take = self._new_take(self.take.number + 1, first)
        self._give(told, frames)

    def _cut_to(self, opening: Opening) -> None:
        """Open a new shot, which knows nothing, or only the anchor of the one before."""
        self.take = self._new_take(self.take.number + 1, self.outlet.cut(Cut(0)))
        if opening == "new":
            self.anchor, self.image, self.look = None, None, Look()
            if self.small is not None:
                self.small.anchor = None
        elif self.anchor is not None:
            self._give([self.anchor], self.image)

    def _begin(self, start: Tensor, anchor: Tensor | None) -> None:
        """Begin the first take, told of frames, and of the first one of the video as after a cut."""
        told = self._encoded(start)
        self.anchor = told[0] if anchor is None else self._encoded(anchor)[0]
        anchored = len(told) > 1 and getattr(self.plan, "anchor", False)
        self._give([self.anchor, *told[1:]] if anchored else told, start)
        if self.small is not None and anchor is not None:
            self.small.anchor = self._small_encoded(anchor)[0]
        if self.model.limits.context == "beside":
            self.image = (start[:, :, :1] if anchor is None else anchor).to(self.model.device)

    def _told(self, cut: Cut) -> tuple[list[Tensor], Tensor | None]:
        """The known latents (B C h w) with which a new take begins, and the frames that they are if handed over so."""
        if not cut.seam:
            return [], None
        if cut.hand == "latents":
            count = latents_of_frames(cut.seam, self.model.codec.stride)
            recent = [row.value for _, row in sorted(self.take.tape.rows.items())]
            anchor = [self.anchor] if cut.anchor and self.anchor is not None else []
            known = anchor + recent[len(recent) - count + len(anchor) :]
            return known, None
        frames = self.outlet.seam(cut)
        return self._encoded(frames), frames

    def _give(self, latents: list[Tensor], frames: Tensor | None) -> None:
        """Begin the take with clean latents (B C h w), which are these frames."""
        self.take.tape.rows = {f: Row(latent, 0.0) for f, latent in enumerate(latents)}
        if self.small is not None and latents:
            self.small.tape.rows = {f: Row(latent, 0.0) for f, latent in enumerate(self._small_told(latents, frames))}
        if frames is not None and self.model.limits.context == "beside":
            self.take.given = frames.to(self.model.device)

    def _small_told(self, latents: list[Tensor], frames: Tensor | None) -> list[Tensor]:
        """The same for the first of two passes. PlanError if it was handed over as latents, which do not shrink."""
        assert self.small is not None
        if frames is not None:
            return self._small_encoded(frames)
        if self.small.anchor is None or len(latents) != 1 or latents[0] is not self.anchor:
            raise PlanError("in two passes the end of a take is handed over as pixels: use --hand pixels")
        return [self.small.anchor]

    def _small_encoded(self, frames: Tensor) -> list[Tensor]:
        assert self.model.refine is not None
        return self._encoded(shrunk(frames, self.model.refine.scale))

    def _encoded(self, frames: Tensor) -> list[Tensor]:
        return encoded(self.model.codec, frames, self.model.device)

    # ------------------------------------------------------------ what a window is told
    def _cond(self, window: Window) -> Cond:
        new = [f for f in window.frames if f not in self.take.tape.rows] or [window.frames[-1]]
        now = self.script.at(self.take.frame(new[0]))
        scenes = [self.script.at(self.take.frame(f)) if window.text == "frame" else now for f in window.frames]
        prompts = list(dict.fromkeys(scene.prompt for scene in scenes))
        texts = tuple(self.texts[prompt] for prompt in prompts)
        self.texts.keep({*prompts, self.negative})
        track = None
        if self.track is not None:
            track = self.track.sliced(window.frames, self.take.first, self.model.codec.stride).to(self.model.device)
        return Cond(texts, tuple(prompts.index(s.prompt) for s in scenes), self.fps, now.lora, track)

    # ------------------------------------------------------------ snapshots
    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and json-able facts from which `load` goes on bit for bit; only right after an Ended event."""
        take = self.take
        rows, tape = take.tape.state()
        outlet, shown = self.outlet.state()
        tensors = {f"tape.{k}": v for k, v in rows.items()} | {f"outlet.{k}": v for k, v in outlet.items()}
        tensors |= {f"session.{k}": v for k, v in take.session.state().items()}
        if take.replay:
            tensors["replay"] = torch.stack(list(take.replay), 2)
        owed = None if self.owed is None else torch.stack(self.owed, 2)
        for name, tensor in (("anchor", self.anchor), ("given", take.given), ("image", self.image), ("owed", owed)):
            if tensor is not None:
                tensors[name] = tensor
        small, tape_small = self.small.state() if self.small is not None else ({}, {})
        tensors |= {f"small.{k}": v for k, v in small.items()}
        look, looked = self.look.state()
        tensors |= {f"look.{k}": v for k, v in look.items()}
        facts = {"index": self.index, "take": take.number, "first": take.first, "tape": tape, "outlet": shown}
        facts |= {"look": looked, "small": tape_small}
        facts |= {"open": self.open, **self.live.state()}
        return {name: t.detach().contiguous() for name, t in tensors.items()}, facts

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Undo `state`: the next `run` goes on after that window."""

        def part(name: str) -> dict[str, Tensor]:
            return {k.removeprefix(name): v for k, v in tensors.items() if k.startswith(name)}

        self.index, self.anchor, self.image = facts["index"], tensors.get("anchor"), tensors.get("image")
        self.open = facts.get("open", True)
        self.live.load(facts, self.index)
        self.outlet = Outlet.restored(part("outlet."), facts["outlet"], tail_length=self.plan.seam)
        self.take = self._new_take(facts["take"], facts["first"])
        self.take.given = tensors.get("given")
        self.look = Look.restored(part("look."), facts.get("look", {}))
        if self.small is not None:
            self.small.load(part("small."), facts["small"])
        self.take.tape = Tape.restored(part("tape."), facts["tape"])
        self.take.session.load(part("session."))
        self.owed = list(tensors["owed"].unbind(2)) if "owed" in tensors else None
        if "replay" in tensors:
            for _ in self.take.decode(tensors["replay"].unbind(2)):
                pass
