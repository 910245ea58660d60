"""A clip of the pocket world: scenes one after another, and the state of sprite and scenery at any frame."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from longtake.world import driven
from longtake.world.facts import COLOURS, SCENERIES, SHAPES, SIZES, Facts, change_facts, sample_facts
from longtake.world.motion import Array, Path, ease, entry_phase, move, wrap

FPS = 24
SWITCH = 0.5  # seconds that a change takes to complete


@dataclass(frozen=True)
class Scene:
    """Facts that hold from a frame on."""

    facts: Facts
    first: int = 0


@dataclass(frozen=True)
class State:
    """Everything that is drawn, per frame: place, radius and angle (T,), colour (T, 3), and how much of each shape and
    scenery is seen (T, number of shapes), (T, number of sceneries). seconds (T,) counts from the start of the clip."""

    x: Array
    y: Array
    radius: Array
    angle: Array
    colour: Array
    shapes: Array
    sceneries: Array
    seconds: Array


@dataclass(frozen=True)
class Clip:
    """Scenes in order; the last one goes on for ever. The seed fixes where things start and where the camera stands.

    reach: how far the screen reaches from its middle, across and down, in units. drive: what moves the sprite of an only
    scene instead of its own motion (see `driven.DRIVES`).
    """

    scenes: tuple[Scene, ...]
    seed: int
    reach: tuple[float, float] = (1.0, 1.0)
    drive: str = ""

    def __post_init__(self) -> None:
        if self.drive and self.drive not in driven.DRIVES:
            raise ValueError(f"a sprite is driven by a {' or a '.join(driven.DRIVES)}, not by {self.drive!r}")
        if self.drive and len(self.scenes) > 1:
            raise ValueError("a driven clip has one scene: use switch = 0")

    @cached_property
    def _start(self) -> tuple[float, float, float, float]:
        """Home x, home y, phase and camera."""
        rng = random.Random(f"pocket clip {self.seed}")
        return rng.uniform(-0.6, 0.6), rng.uniform(-0.4, 0.4), rng.random(), rng.uniform(-0.5, 0.5)

    @property
    def camera(self) -> float:
        """How far to the right the camera stands, in screen units."""
        return self._start[3]

    def state(self, start: int, stop: int) -> State:
        """The state of the frames start..stop-1."""
        frames = np.arange(start, stop)
        return _join([self._scene_state(i, frames[self._inside(i, frames)]) for i in range(len(self.scenes))])

    def track(self, start: int, stop: int) -> Array:
        """What drives the frames start..stop-1, a row for each (T, D)."""
        return driven.track(self.drive, self.seed, np.arange(start, stop) / FPS)

    def facts_at(self, frame: int) -> Facts:
        """The facts that hold at a frame."""
        return next(scene.facts for scene in reversed(self.scenes) if scene.first <= frame)

    def _inside(self, index: int, frames: Array) -> Array:
        """Which frames belong to a scene."""
        last = index + 1 == len(self.scenes)
        return (frames >= self.scenes[index].first) & (last or frames < self.scenes[index + 1].first)

    @cached_property
    def _entries(self) -> list[State | None]:
        """The state just before each scene: None before the first."""
        entries: list[State | None] = [None]
        for index, following in enumerate(self.scenes[1:]):
            entries.append(self._scene_state(index, np.array([following.first]), entries[index]))
        return entries

    def _scene_state(self, index: int, frames: Array, entry: State | None = None) -> State:
        """The state of frames by the rules of one scene, eased in from the state at its entry."""
        scene = self.scenes[index]
        if entry is None and index > 0:
            entry = self._entries[index]
        seconds = (frames - scene.first) / FPS
        own = _unswitched(scene.facts, self._path(scene.facts, seconds, entry), frames / FPS)
        if entry is None:
            return own
        begin = _unswitched(scene.facts, self._path(scene.facts, np.zeros(1), entry), np.zeros(1))
        return _eased(entry, begin, own, ease(seconds, SWITCH), self.reach)

    def _path(self, facts: Facts, seconds: Array, entry: State | None) -> Path:
        """The path of a scene, which starts at home or where the scene before it left the sprite."""
        if self.drive:
            return driven.follow(self.drive, driven.track(self.drive, self.seed, seconds), self._start[:2])
        if entry is None:
            x, y, phase, _ = self._start
            return move(facts.motion, (x, y), phase, seconds)
        wide, tall = self.reach
        x, y = float(wrap(entry.x[0], wide)), float(wrap(entry.y[0], tall))
        path = move(facts.motion, (x, y), entry_phase(facts.motion, x, y), seconds)
        return Path(path.x, path.y, path.growth, path.turn + entry.angle[0])


def _unswitched(facts: Facts, path: Path, seconds: Array) -> State:
    """The state of a scene that knows nothing of the one before."""
    frames = len(path.x)
    return State(
        x=path.x,
        y=path.y,
        radius=SIZES[facts.size] * path.growth,
        angle=path.turn,
        colour=np.tile(np.array(COLOURS[facts.colour]), (frames, 1)),
        shapes=np.tile(np.eye(len(SHAPES))[SHAPES.index(facts.shape)], (frames, 1)),
        sceneries=np.tile(np.eye(len(SCENERIES))[SCENERIES.index(facts.scenery)], (frames, 1)),
        seconds=seconds,
    )


def _eased(entry: State, begin: State, own: State, part: Array, reach: tuple[float, float]) -> State:
    """From the entry state into a scene's own: what differs at the switch fades as part goes from 0 to 1."""
    left = 1 - part
    return State(
        x=own.x + left * wrap(entry.x - begin.x, reach[0]),
        y=own.y + left * wrap(entry.y - begin.y, reach[1]),
        radius=own.radius + left * (entry.radius - begin.radius),
        angle=own.angle,
        colour=own.colour + left[:, None] * (entry.colour - begin.colour),
        shapes=own.shapes + left[:, None] * (entry.shapes - begin.shapes),
        sceneries=own.sceneries + left[:, None] * (entry.sceneries - begin.sceneries),
        seconds=own.seconds,
    )


def _join(states: list[State]) -> State:
    """States of consecutive frames as one."""
    return State(**{name: np.concatenate([getattr(s, name) for s in states]) for name in State.__dataclass_fields__})


def make_clip(rng: random.Random, frames: int, switch: float = 0.0, drive: str = "") -> Clip:
    """A clip at random; with probability `switch` its facts change once, at a latent's first frame (1 + 4 k).

    A driven sprite has no motion of its own: its facts say that it is still.
    """
    facts = sample_facts(rng)
    if drive:
        facts = replace(facts, motion="still")
    scenes = [Scene(facts)]
    if rng.random() < switch:
        scenes.append(Scene(change_facts(facts, rng), 1 + 4 * rng.randrange(4, max(5, (frames - 1) // 4 - 5))))
    return Clip(tuple(scenes), rng.randrange(1 << 30), drive=drive)
