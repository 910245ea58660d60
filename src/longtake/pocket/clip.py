"""A clip of the pocket world: a sequence of scenes, and the state of sprite and scenery at any frame."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from longtake.pocket.control import DRIVES, control_signal, driven_path
from longtake.pocket.facts import COLOURS, SCENERIES, SHAPES, SIZES, Facts, change_facts, sample_facts
from longtake.pocket.motion import FPS, Array, Path, ease, entry_phase, move, wrap

SWITCH = 0.5  # seconds from the start of a change of scene to its end


@dataclass(frozen=True)
class Scene:
    """Facts that hold from frame number `first` on."""

    facts: Facts
    first: int = 0


@dataclass(frozen=True)
class State:
    """The numbers that a renderer draws, per frame.

    x, y, radius and angle of the sprite (T,), its colour (T, 3), the share of every shape (T, shapes) and of every
    scenery (T, sceneries); seconds (T,) counts from the start of the clip.
    """

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
    """Scenes in order; the last one never ends. The seed fixes the start positions and the position of the camera.

    reach: half the width and half the height of the screen, in units. drive: the control signal that moves the sprite
    instead of a motion of its own, in a clip of one scene (a key of `control.DRIVES`).
    """

    scenes: tuple[Scene, ...]
    seed: int
    reach: tuple[float, float] = (1.0, 1.0)
    drive: str = ""

    def __post_init__(self) -> None:
        if self.drive and self.drive not in DRIVES:
            raise ValueError(f"{self.drive!r} cannot drive a sprite: choose {' or '.join(DRIVES)}")
        if self.drive and len(self.scenes) > 1:
            raise ValueError(f"a clip driven by a {self.drive} has one scene, not {len(self.scenes)}: use switch = 0")

    @cached_property
    def _start(self) -> tuple[float, float, float, float]:
        """Return the start position x, y of the sprite, the phase of its motion and the position of the camera."""
        rng = random.Random(f"pocket clip {self.seed}")
        return rng.uniform(-0.6, 0.6), rng.uniform(-0.4, 0.4), rng.random(), rng.uniform(-0.5, 0.5)

    @property
    def camera(self) -> float:
        """Position of the camera to the right, in units."""
        return self._start[3]

    def state(self, start: int, stop: int) -> State:
        """Return the state of the frames start..stop-1."""
        frames = np.arange(start, stop)
        return _join([self._scene_state(i, frames[self._inside(i, frames)]) for i in range(len(self.scenes))])

    def control_signal(self, start: int, stop: int) -> Array:
        """Return the control signal of the frames start..stop-1, a row for each (T, D)."""
        return control_signal(self.drive, self.seed, np.arange(start, stop) / FPS)

    def facts_at(self, frame: int) -> Facts:
        """Return the facts that hold at a frame."""
        return next(scene.facts for scene in reversed(self.scenes) if scene.first <= frame)

    def _inside(self, index: int, frames: Array) -> Array:
        """Return which frames belong to a scene."""
        last = index + 1 == len(self.scenes)
        return (frames >= self.scenes[index].first) & (last or frames < self.scenes[index + 1].first)

    @cached_property
    def _entries(self) -> list[State | None]:
        """States at the start of each scene as the scene before it leaves them; None for the first."""
        entries: list[State | None] = [None]
        for index, following in enumerate(self.scenes[1:]):
            entries.append(self._scene_state(index, np.array([following.first]), entries[index]))
        return entries

    def _scene_state(self, index: int, frames: Array, entry: State | None = None) -> State:
        """Return the state of frames of one scene, eased in from the state at its entry."""
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
        """Return the path of a scene from its start position, or from where the scene before it left the sprite."""
        if self.drive:
            return driven_path(self.drive, control_signal(self.drive, self.seed, seconds), self._start[:2])
        if entry is None:
            x, y, phase, _ = self._start
            return move(facts.motion, (x, y), phase, seconds)
        wide, tall = self.reach
        x, y = float(wrap(entry.x[0], wide)), float(wrap(entry.y[0], tall))
        path = move(facts.motion, (x, y), entry_phase(facts.motion, x, y), seconds)
        return Path(path.x, path.y, path.growth, path.turn + entry.angle[0])


def _unswitched(facts: Facts, path: Path, seconds: Array) -> State:
    """Return the state of a scene as if there were none before it."""
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
    """Ease from the entry state into the scene's own state: their difference at the switch fades as part rises from 0 to 1."""
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
    """Concatenate the states of consecutive frames."""
    return State(**{name: np.concatenate([getattr(s, name) for s in states]) for name in State.__dataclass_fields__})


def make_clip(rng: random.Random, frames: int, switch: float = 0.0, drive: str = "") -> Clip:
    """Draw a clip at random; with probability `switch` its facts change once, at the first frame of a latent (1 + 4 k).

    A sprite driven by a control signal has no motion of its own: its facts say "still".
    """
    facts = sample_facts(rng)
    if drive:
        facts = replace(facts, motion="still")
    scenes = [Scene(facts)]
    if rng.random() < switch:
        scenes.append(Scene(change_facts(facts, rng), 1 + 4 * rng.randrange(4, max(5, (frames - 1) // 4 - 5))))
    return Clip(tuple(scenes), rng.randrange(1 << 30), drive=drive)
