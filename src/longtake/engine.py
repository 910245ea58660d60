"""The only loop that calls a model to make video: windows in, output frames out, in constant memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice, pairwise
from typing import Any

import torch
from torch import Tensor

from longtake.geometry import first_frame, frames_of_latents, is_whole, latents_of_frames, nearest_whole
from longtake.grade import tone_mapped
from longtake.guidance import Guidance
from longtake.guide import Guided, guidance_of
from longtake.look import Look
from longtake.models.base import Cond, Decoder, Model, Past, Session, Text
from longtake.noise import Keyed, Noise, Spot, mix
from longtake.outlet import Frames, Outlet
from longtake.plan import Cut, PlanError, Source, Window, check
from longtake.plans import Plan
from longtake.plans.conditioned import Item, conditioned
from longtake.refine import Small, grown, second, shrunk
from longtake.script import Script
from longtake.solve import SOLVERS, Memory, Step, no_noise
from longtake.tape import Row, Tape

DECODE = 8  # latents per push of the decoder: enough to be fast, few enough to stay small


# ---------------------------------------------------------------- events
@dataclass(frozen=True)
class Began:
    """Window `index` begins. frames: output frames shown before it."""

    index: int
    window: Window
    frames: int


@dataclass(frozen=True)
class Called:
    """Model call `call` of `calls` of window `index` is done."""

    index: int
    call: int
    calls: int


@dataclass(frozen=True)
class Ended:
    """Window `index` is done and `frames` output frames have been shown in all: the only safe points for a snapshot."""

    index: int
    frames: int


Event = Began | Called | Frames | Ended


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


# ---------------------------------------------------------------- one take
@dataclass
class Take:
    """A run of latents in one coordinate system. first: the output frame of the video at which it starts.

    given: the frames (B 3 T H W) with which it began, for a model that is told of them as pixels.
    """

    number: int
    first: int
    decoder: Decoder
    session: Session
    tape: Tape = field(default_factory=Tape)
    replay: deque[Tensor] = field(default_factory=deque)  # the last latents decoded, enough to restore the decoder
    given: Tensor | None = None

    def decode(self, latents: Sequence[Tensor]) -> Iterator[Tensor]:
        """Latents (B C h w) in order -> output frames (B 3 T H W), a few latents at a time."""
        for i in range(0, len(latents), DECODE):
            self.replay.extend(latents[i : i + DECODE])
            with torch.inference_mode():
                video = self.decoder.push(torch.stack(list(latents[i : i + DECODE]), 2))
            yield video


class Rollout:
    """A video in the making: iterate over `run()`; `state()` after an Ended event is all that is needed to go on.

    frames are those of the script; None makes video without end. guidance 1 calls the model once per step. fps: the
    rate that the model is told, by default its own.
    start: frames (B 3 T H W) in [-1, 1] with which the video begins; T is 1 + stride * k. extend: they are the end of
    a video that was shown before, so the script begins after them. end: a frame (B 3 1 H W) that the video comes to.
    items: pictures and clips that stand at any frame. guidance: how much the prompt counts, or all there is to say of it.
    """

    def __init__(
        self,
        model: Model,
        script: Script,
        plan: Plan,
        *,
        seeds: Sequence[int] = (0,),
        guidance: float | Guidance | None = None,
        negative: str | None = None,
        solver: str = "euler",
        noise: Noise | None = None,
        batched: bool = True,
        fps: float | None = None,
        start: Tensor | None = None,
        extend: bool = False,
        end: Tensor | None = None,
        items: Sequence[Item] = (),
    ):
        self.before = start.shape[2] if start is not None and extend else 0  # frames of the start, shown before
        if items:
            plan = conditioned(plan, items, script, model.codec.stride, self.before)
        self.model, self.script, self.plan = model, script, plan
        self.fps = model.fps if fps is None else fps
        _check_loras(model, script)
        self.guidance = guidance_of(model, guidance)
        self.negative = model.negative if negative is None else negative
        self.step, self.noise, self.batched = SOLVERS[solver], noise or Keyed(tuple(seeds)), batched
        self.batch = len(seeds)
        height, width = model.size
        self.shape = (model.codec.channels, height // model.codec.scale, width // model.codec.scale)
        self.index = 0  # windows done
        self.texts: dict[str, Text] = {}
        self.anchor: Tensor | None = None  # the first latent of the shot
        self.known = 0 if start is None else latents_of_frames(start.shape[2], model.codec.stride)
        self.items = [self._encoded(item.frames) for item in items]
        self.ends = [] if end is None else self._encoded(end)
        self.small_items = [] if model.refine is None else [self._small_encoded(item.frames) for item in items]
        self.small_ends = [] if model.refine is None or end is None else self._small_encoded(end)
        self.small: Small | None = None
        self.look = Look()
        self.outlet = Outlet(tail_length=plan.seam, at=-self.before)
        self.take = self._new_take(0, -self.before)
        if start is not None:
            self._give(self._encoded(start), start)

    def run(self) -> Iterator[Event]:
        """Make the video, from where it stands. Leaving the loop stops it; PlanError if the model cannot do the plan."""
        windows = islice(self._windows(), self.index, None)
        for (window, end), (after, _) in _with_next(windows):
            for planned in (window, after) if after is not None else (window,):  # refused before work, not after it
                check(planned, self.model.limits)
            yield Began(self.index, window, self.outlet.shown)
            if window.cut:
                self._cut(window.cut)
            self.outlet.end = end
            last = after is None or after.cut is not None
            hold = after.cut.seam if after is not None and after.cut and after.cut.keep != "old" else 0
            yield from self._window(window, last, hold)
            if last:
                yield from self.outlet.push(self._flushed())
            self.index += 1
            yield Ended(self.index - 1, self.outlet.shown)

    def _windows(self) -> Iterator[tuple[Window, int | None]]:
        """Every window of every shot, with the output frame at which its shot ends."""
        for number, shot in enumerate(self.script.shots()):
            end = None if shot.frames is None else shot.first + shot.frames
            before, known = (self.before, self.known) if not number else (0, 0)
            guides = 1 if self.ends and end == self.script.frames else 0
            frames = None if shot.frames is None else shot.frames + before
            windows = self.plan.windows(frames, self.model.codec.stride, self.model.limits, known, guides)
            for i, window in enumerate(windows):
                yield (replace(window, cut=Cut(0)) if number and not i else window), end

    def _window(self, window: Window, last: bool, hold: int) -> Iterator[Event]:
        take = self.take
        cond = self._cond(window)
        remade = list(take.tape.clean(window))
        take.tape.rows |= {f: Row(self._sourced(source), 0.0) for f, source in window.sources.items()}
        if self.model.refine is not None:
            window = self._first_pass(window, cond, remade, last)
        take.session.begin(window, Past(take.tape.clean(window), take.given), cond)
        draw = self._draw(window)
        x, past = take.tape.load(window, draw)
        redraw = (lambda x, call: take.tape.refresh(x, window, call, draw)) if window.noise == "call" else None
        if window.cond_noise:
            redraw = lambda x, call: take.tape.stirred(x, window, call, draw)
            x = redraw(x, 0)
        fresh = lambda level: self._step_noise(window, level, remade)
        calls = denoise(take.session, x, window, self.step, past, redraw, fresh)
        for call in range(1, window.calls + 1):
            x, past = next(calls)
            yield Called(self.index, call, window.calls)
        x = self.look.graded(x, window, cond.texts[cond.scene[-1]].key)
        with torch.inference_mode():
            take.session.finish(window, x)
        made = dict(take.tape.save(window, x, past, last))
        if self.anchor is None and 0 in made:
            self.anchor = made[0].clone()
        if last and hold:
            self.outlet.hold_from = take.first + frames_of_latents(take.tape.done, self.model.codec.stride) - hold
        for video in take.decode(self._grainy(made, draw)):
            yield from self.outlet.push(video)

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
        channels, height, width = self.shape
        shape = (channels, height // refine.scale, width // refine.scale)
        sources = {f: self._sourced(source, small) for f, source in window.sources.items()}
        fresh = lambda level: self._step_noise(window, level, remade, shape)
        made = small.run(window, cond, sources, self.step, self._draw(window, shape), fresh, last)
        after = second(window, refine.levels)
        self.take.tape.rows |= grown(window, made, refine)
        return after

    def _sourced(self, source: Source, small: Small | None = None) -> Tensor:
        """A clean latent (B C h w) that is not on the tape by itself; that of the first pass if there is one."""
        rows, anchor = (self.take.tape.rows, self.anchor) if small is None else (small.tape.rows, small.anchor)
        if source.kind == "item":
            latent = (self.items if small is None else self.small_items)[source.item][source.latent]
        elif source.kind == "end":
            latent = (self.ends if small is None else self.small_ends)[source.latent]
        elif source.kind == "copy":
            latent = rows[source.latent].value
        else:
            latent = rows[0].value if anchor is None else anchor
        return latent.expand(self.batch, -1, -1, -1)

    def _step_noise(
        self, window: Window, level: Tensor, remade: Sequence[int], shape: tuple[int, int, int] | None = None
    ) -> Tensor:
        """Noise (B C F h w) of a step to these levels (F,): of each frame its own, and another where it is made again."""
        spots = [
            Spot("step", self._frame(f), self.take.number, f, window.draw + (f in remade), round(1e6 * to))
            for f, to in zip(window.frames, level.tolist())
        ]
        return self.noise(spots, shape or self.shape).to(self.model.device)

    def _flushed(self) -> Tensor:
        with torch.inference_mode():
            return self.take.decoder.flush()

    # ------------------------------------------------------------ takes
    def _new_take(self, number: int, first: int) -> Take:
        refine, guidance = self.model.refine, self.guidance
        if refine is not None:
            self.small = Small(self._session(guidance), anchor=None if self.small is None else self.small.anchor)
            guidance = refine.guidance
        replay: deque[Tensor] = deque(maxlen=max(1, self.model.codec.reach))
        return Take(number, first, self.model.codec.decoder(), self._session(guidance), replay=replay)

    def _session(self, guidance: Guidance) -> Session:
        """A new session of the model, with guidance if there is any."""
        if guidance.plain:
            return self.model.session()
        negative = self._text(self.negative) if max(guidance.scale) > 1 else None
        return Guided(self.model.session, guidance, negative, self.batched)

    def _cut(self, cut: Cut) -> None:
        """Open a new take, told of the end of the old one; a new shot (no seam) knows nothing, not even its anchor."""
        told, frames = self._told(cut)
        self.take = self._new_take(self.take.number + 1, self.outlet.cut(cut))
        self._give(told, frames)
        if not cut.seam:
            self.anchor, self.look = None, Look()
            if self.small is not None:
                self.small.anchor = None

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
        """Frames (B 3 T H W) as latents (B C h w). PlanError if they do not fill whole latents."""
        stride, count = self.model.codec.stride, frames.shape[2]
        if not is_whole(count, stride):
            low, high = nearest_whole(count, stride)
            raise PlanError(f"{count} given frames do not fill whole latent frames of {stride}: give {low} or {high}")
        with torch.inference_mode():
            return list(self.model.codec.encode(frames.to(self.model.device)).unbind(2))

    # ------------------------------------------------------------ what a window is told
    def _draw(
        self, window: Window, shape: tuple[int, int, int] | None = None
    ) -> Callable[[Any, list[int], int], Tensor]:
        def draw(purpose: Any, frames: list[int], call: int) -> Tensor:
            spots = [
                Spot(purpose, self._frame(f), self.take.number, f, window.draw, call if purpose == "context" else 0)
                for f in frames
            ]
            return self.noise(spots, shape or self.shape).to(self.model.device)

        return draw

    def _frame(self, latent: int) -> int:
        """First output frame of the video of a latent frame of this take."""
        return self.take.first + first_frame(latent, self.model.codec.stride)

    def _cond(self, window: Window) -> Cond:
        new = [f for f in window.frames if f not in self.take.tape.rows] or [window.frames[-1]]
        now = self.script.at(self._frame(new[0]))
        scenes = [self.script.at(self._frame(f)) if window.text == "frame" else now for f in window.frames]
        prompts = list(dict.fromkeys(scene.prompt for scene in scenes))
        texts = {prompt: self._text(prompt) for prompt in prompts}
        self.texts = {key: text for key, text in self.texts.items() if key in texts or key == self.negative}
        return Cond(tuple(texts.values()), tuple(prompts.index(s.prompt) for s in scenes), self.fps, now.lora)

    def _text(self, prompt: str) -> Text:
        if prompt not in self.texts:
            with torch.inference_mode():
                embedding = self.model.text.encode([prompt]).expand(self.batch, -1, -1)
            self.texts[prompt] = Text(prompt, embedding)
        return self.texts[prompt]

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
        for name, tensor in (("anchor", self.anchor), ("given", take.given)):
            if tensor is not None:
                tensors[name] = tensor
        small, tape_small = self.small.state() if self.small is not None else ({}, {})
        tensors |= {f"small.{k}": v for k, v in small.items()}
        look, looked = self.look.state()
        tensors |= {f"look.{k}": v for k, v in look.items()}
        facts = {"index": self.index, "take": take.number, "first": take.first, "tape": tape, "outlet": shown}
        facts |= {"look": looked, "small": tape_small}
        return {name: t.detach().contiguous() for name, t in tensors.items()}, facts

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Undo `state`: the next `run` goes on after that window."""

        def part(name: str) -> dict[str, Tensor]:
            return {k.removeprefix(name): v for k, v in tensors.items() if k.startswith(name)}

        self.index, self.anchor = facts["index"], tensors.get("anchor")
        self.outlet = Outlet.restored(part("outlet."), facts["outlet"], tail_length=self.plan.seam)
        self.take = self._new_take(facts["take"], facts["first"])
        self.take.given = tensors.get("given")
        self.look = Look.restored(part("look."), facts.get("look", {}))
        if self.small is not None:
            self.small.load(part("small."), facts["small"])
        self.take.tape = Tape.restored(part("tape."), facts["tape"])
        self.take.session.load(part("session."))
        if "replay" in tensors:
            for _ in self.take.decode(tensors["replay"].unbind(2)):
                pass


def _check_loras(model: Model, script: Script) -> None:
    """Refuse what the model cannot take before anything is made. ValueError says what."""
    for loras in dict.fromkeys(scene.lora for scene in script.scenes if scene.lora):
        if model.adapter is None:
            raise ValueError(f"{model.name} takes no LoRA, but a scene asks for {loras[0][0]}: leave `lora` out")
        model.adapter.check(loras)


def _with_next(items: Iterable[tuple[Window, Any]]) -> Iterator[tuple[tuple[Window, Any], tuple[Window | None, Any]]]:
    """Each item with the one after it, (None, None) after the last."""
    before = None
    for item in items:
        if before is not None:
            yield before, item
        before = item
    if before is not None:
        yield before, (None, None)
