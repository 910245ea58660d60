"""Recipe `recycle`: error-recycling fine-tuning (Stable Video Infinity): a LoRA learns from its own mistakes.

The errors that the network makes are kept (`train.memory`) and put back into later inputs: into the clean video, into
the noise, and into the frames that the network is told of, as they are when it goes on from its own video. It is
taught the clean video all the same: the target is (noise + E_noise) - video, whatever the input was. It works on top of
any recipe that draws samples and gives velocities, of any family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from longtake.models import wan_codec
from longtake.models.lora import inject, save
from longtake.models.wan_lora import SVI_TARGETS
from longtake.noise import ramp, shifted
from longtake.train.checkpoint import CheckpointError
from longtake.train.config import ConfigError, read_table
from longtake.train.footage import Footage
from longtake.train.memory import Memory, Replace, Residual, shared
from longtake.train.place import place
from longtake.train.ranks import ranks
from longtake.train.recipes.mixed import Mixed, Whole
from longtake.train.sample import Sample, guided, remade
from longtake.train.settings import NamesScores, ReadsFrozen, Recipe
from longtake.train.shards import Loss

STEPS = 1000  # levels that training draws from
SHORT = 3  # latents, at least, of a video that is made only for its first frames
HISTORY = 0.05  # frames at or below this level are those that the network goes on from, if its recipe names no `floor`

# Published settings: paper (Table 9) and scripts of Stable Video Infinity 1.0, and those that were asked for.
PRESETS: Mapping[str, Mapping[str, float]] = {
    "svi-film": dict(video=0.9, told=0.9, noise=0.01, clean=0.5),
    "svi-shot": dict(video=0.9, told=0.9, noise=0.01, clean=0.2),
    "svi-requested": dict(video=0.5, told=0.5, noise=0.5, clean=0.0),
    "none": dict(video=0.0, told=0.0, noise=0.0, clean=1.0),  # the same training without errors
}


# What clips are told beside x, see `told.Givens`: what their tables `given` do not say themselves.
GIVEN: Mapping[str, Mapping[str, str]] = {
    "svi-film": dict(mask="first", pad="grey"),
    "svi-shot": dict(mask="first", pad="image"),
    "svi-requested": dict(mask="first", pad="grey"),
}


@dataclass(frozen=True)
class RecycleConfig:
    """recipe, settings: the recipe that draws samples, and its table. preset: see PRESETS; what is given wins over it.

    video, noise, told: how often the error goes into the video, the noise, and the frames that the network is told
    of; clean: how often into none of them. frames: told latent frames that get one (of rounds before x: all). jitter: errors are scaled by up
    to this much, up or down. rounds: if not 0, the errors of told frames are not remembered from any clip, but
    those of the same frames after the network has made the video again so many times at most, each time told of
    what it made before; calls: Euler calls of each, guided by `guidance`; depth: the level that a block-causal network
    makes them again from, what came out of the round before; repeats: how often each of these videos stands in a
    batch, with noise and a level of its own, in place of other videos, since rounds take most of the time. codec: what
    it made also goes through the codec as frames of bytes, as at a hand-over. warmup: batches whose errors all ranks share.
    update: how often a clean batch is remembered. buckets, capacity, full, ram: see `memory.Memory`. levels:
    "published" draws one of 1000 shifted levels evenly and weights them, "recipe" keeps those of the recipe. sprite:
    extra weight of the sprite, where the clips know of one. rank, alpha, targets, seed: of the LoRA.
    """

    recipe: str = "i2v"
    settings: Mapping[str, Any] = field(default_factory=dict)
    preset: str = "svi-film"
    video: float | None = None
    noise: float | None = None
    told: float | None = None
    clean: float | None = None
    frames: int = 3
    jitter: float = 0.0
    rounds: int = 0
    calls: int = 6
    guidance: float = 1.0
    depth: float = 0.7
    repeats: int = 1
    codec: bool = False
    warmup: int = 50
    update: float = 0.1
    buckets: int = 50
    capacity: int = 500
    full: Replace = "nearest"
    ram: float = 8.0
    shift: float = 5.0
    levels: Literal["published", "recipe"] = "published"
    sprite: float = 0.0
    rank: int = 128
    alpha: float = 128.0
    targets: Sequence[str] = SVI_TARGETS
    seed: int = 0

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ConfigError(f"preset is {self.preset!r}; it is one of {', '.join(PRESETS)}")
        for name, value in PRESETS[self.preset].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        for name in ("video", "noise", "told", "clean", "update"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it is a share from 0 to 1")
        if self.frames < 1 or self.jitter < 0 or self.warmup < 0 or self.rounds < 0:
            raise ConfigError("frames are at least 1; jitter, warmup and rounds are not negative")
        if not 0 < self.depth <= 1:
            raise ConfigError(f"depth is {self.depth}; it is a level above 0, at most 1")
        if self.calls < 1 or self.repeats < 1 or (self.repeats > 1 and not self.rounds):
            raise ConfigError("calls and repeats are at least 1, and repeats are for rounds alone")

    @property
    def remembers(self) -> bool:
        """Whether errors are kept, which are drawn again: told frames with rounds have their own."""
        return bool(self.video or self.noise or (self.told and not self.rounds))


# ---------------------------------------------------------------- arithmetic
def published_levels(rng: torch.Generator, count: int, shift: float) -> Tensor:
    """Levels (B,): entries of the grid of 1000 shifted ones, each equally likely."""
    u = 1 - torch.randint(STEPS, (count,), generator=rng).double() / STEPS
    return shifted(u, shift).float()


def level_weight(level: Tensor, shift: float) -> Tensor:
    """Weight of levels: a bell around the middle timestep, 0 at its lowest, 1 on average over the grid."""
    grid = bell(shifted(1 - torch.arange(STEPS, dtype=torch.float64) / STEPS, shift))
    return ((bell(level.double()) - grid.min()) / (grid - grid.min()).mean()).to(level)


def bell(level: Tensor) -> Tensor:
    """exp(-2 ((t - 500) / 1000)^2) of the timestep t = 1000 level."""
    return torch.exp(-2 * (level - 0.5) ** 2)


# ---------------------------------------------------------------- one batch
@dataclass(frozen=True)
class Chosen:
    """What is put into one video: errors (C F h w) of the video, of the noise, and of told frames (C m h w), or none."""

    video: Tensor | None = None
    noise: Tensor | None = None
    told: Tensor | None = None
    clean: bool = True


def choose(
    config: RecycleConfig, memory: Memory, level: Tensor, rng: torch.Generator, own: Tensor | None = None
) -> Chosen:
    """Decide by chance what goes into a video at levels (F,), and draw it; own (C m h w): errors of this very video, of
    which told frames then get theirs."""
    assert (
        config.video is not None and config.noise is not None and config.told is not None and config.clean is not None
    )
    noisy, told, video, clean = torch.rand(4, generator=rng).tolist()
    if clean < config.clean:
        return Chosen()
    highest, found = float(level.max()), dict[str, Tensor]()
    if noisy < config.noise and (entry := memory.draw(rng, highest)):
        found["noise"] = _jittered(entry.noise, config.jitter, rng)
    count = min(config.frames, len(level))
    if told < config.told and own is not None:
        found["told"] = _jittered(own, config.jitter, rng)
    elif told < config.told and (entry := memory.draw(rng)):
        error = entry.video
        first = int(torch.randint(error.shape[1] - count + 1, (), generator=rng))
        found["told"] = _jittered(error[:, first : first + count], config.jitter, rng)
    if video < config.video and (entry := memory.draw(rng, highest)):
        found["video"] = _jittered(entry.video, config.jitter, rng)
    return Chosen(**found, clean=False)


def _jittered(error: Tensor, jitter: float, rng: torch.Generator) -> Tensor:
    """The error times 1 - jitter to 1 + jitter; all chance is drawn either way."""
    return error * (1 + jitter * (2 * float(torch.rand((), generator=rng)) - 1))


def corrupted(sample: Sample, chosen: Sequence[Chosen], floor: float = HISTORY) -> Sample:
    """The sample with the errors in its video, its noise, and what the network is told: beside x, in the clean frames
    before x, or in those frames of x itself that it goes on from.

    floor: the highest level of a frame to go on from.
    """
    video, noise = sample.video.clone(), sample.noise.clone()
    beside, before = (None if told is None else told.clone() for told in (sample.beside, sample.before))
    for i, one in enumerate(chosen):
        if one.video is not None:
            video[i] += one.video
        if one.noise is not None:
            noise[i] += one.noise
        if one.told is not None:
            channels, count = one.told.shape[:2]
            if beside is not None:
                beside[i, -channels:, :count] += one.told
            elif before is not None:
                before[i, :, :count] += one.told
            else:
                history = (sample.level[i] <= floor).nonzero()[:count, 0]
                video[i][:, history] += one.told[:, : len(history)]
    return replace(sample, video=video, noise=noise, beside=beside, before=before)


# ---------------------------------------------------------------- the recipe
class Velocities(Protocol):
    """What gives velocities of samples."""

    def velocity(self, sample: Sample) -> Tensor:
        """(B C F h w)"""


class Draws(Recipe, Protocol):
    """A recipe that error recycling can stand on."""

    @property
    def video(self) -> Velocities: ...

    @property
    def draw(self) -> Callable[[int, torch.Generator], Sample]: ...


class RecycleRecipe:
    """A `Recipe`: another one, of whose network a LoRA alone is trained, on inputs with its own errors in them."""

    def __init__(self, inner: Draws, config: RecycleConfig, out: Path):
        self.inner, self.config, self.out = inner, config, out
        self.restores_frozen = bool(config.settings.get("init"))
        self.memory = Memory(
            config.buckets, config.shift, config.capacity, config.full, config.ram, out / "memory", ranks()[0]
        )
        self.codec = wan_codec.load(_codec_folder(inner), torch.float32, place()) if config.codec else None
        self.floor = config.settings.get("floor", HISTORY)
        self.batches = 0  # of this rank so far

    @property
    def module(self) -> nn.Module:
        """See `Recipe`."""
        return self.inner.module

    @property
    def uniform(self) -> bool:
        """See `Recipe`."""
        return bool(getattr(self.inner, "uniform", False)) and self.config.rounds < 2  # ranks draw how many rounds

    def loss(self, step: int, rng: torch.Generator) -> Loss:
        """Weighted mean square of v_hat - ((noise + E_noise) - video)."""
        sample = self._levelled(self.inner.draw(step, rng), rng)
        sample, own = self._with_own(sample, rng) if self.config.rounds else (sample, [None] * len(sample.level))
        chosen = [choose(self.config, self.memory, level, rng, e) for level, e in zip(sample.level, own)]
        seen = corrupted(sample, chosen, self.floor)
        target = seen.noise - sample.video
        residual = self.inner.video.velocity(seen) - target
        if self.config.remembers:
            self._remember(residual.detach().float(), sample.level, chosen, rng)
        error = residual.float().pow(2).mean(1)  # (B F h w)
        if self.config.levels == "published":
            weight = level_weight(sample.level, self.config.shift)
            size: Tensor | float = float(weight.numel())
        else:
            weight = (sample.level > self.floor).to(error)
            size = weight.sum().clamp_min(1e-6)
        if self.config.sprite:
            share = 1 + self.config.sprite * sample.sprite
            error = error * share / share.mean()
        return Loss((error.mean((2, 3)) * weight).sum(), size)

    def _with_own(self, sample: Sample, rng: torch.Generator) -> tuple[Sample, Sequence[Tensor]]:
        """The sample with repeats of its first videos, and what is wrong with told frames of each (B C m h w)."""
        count = -(-len(sample.level) // self.config.repeats)
        rows = [number % count for number in range(len(sample.level))]
        own = self._own(sample.picked(range(count)), rng)[rows].unbind()
        return replace(sample.picked(rows), noise=sample.noise, level=sample.level), own

    @torch.no_grad()
    def _own(self, sample: Sample, rng: torch.Generator) -> Tensor:
        """What is wrong with told frames (B C m h w) after some rounds of being told of what was made of them before."""
        if sample.beside is None and sample.before is None:
            raise ConfigError("rounds are for a network that is told of frames beside x or before it: leave them out")
        made, count = (self._beside, self.config.frames) if sample.before is None else (self._before, sample.frames)
        true = sample.video[:, :, :count]
        last = torch.randint(1, self.config.rounds + 1, (len(true),), generator=rng)
        error = torch.zeros_like(true)
        for number in range(1, int(last.max()) + 1):
            frames, goes_on = made(sample, error, rng), number <= last
            error[goes_on] = self.hand(frames[goes_on]) - true[goes_on]
        return error

    def _beside(self, sample: Sample, error: Tensor, rng: torch.Generator) -> Tensor:
        """The first frames as they are made anew by a network that is told of them, with what is wrong with them."""
        channels, count = error.shape[1:3]
        short = sample.cut(min(max(SHORT, count), sample.frames))
        assert short.beside is not None
        beside = short.beside.clone()
        beside[:, -channels:, :count] += error
        noise = torch.randn(short.noise.shape, generator=rng)
        levels = ramp(self.config.calls, self.config.shift).float().expand(len(error), -1)
        return remade(self._guided, replace(short, noise=noise, beside=beside), levels)[:, :, :count]

    def _before(self, sample: Sample, error: Tensor, rng: torch.Generator) -> Tensor:
        """All frames, each block noised and made clean again behind the blocks before it, with what is wrong with both."""
        wrong, noise = sample.video + error, torch.randn(sample.noise.shape, generator=rng)
        levels = self.config.depth * ramp(self.config.calls, 1.0).float().expand(len(error), -1)
        return remade(self._guided, replace(sample, video=wrong, before=wrong, noise=noise), levels)

    def _guided(self, sample: Sample) -> Tensor:
        """The velocity as it is in use, with guidance."""
        return guided(self.inner.video.velocity, sample, self.config.guidance)

    def hand(self, latents: Tensor) -> Tensor:
        """The first latents of videos (B C m h w), through frames of bytes if codec is set."""
        if self.codec is None:
            return latents
        decoder = self.codec.decoder()
        frames = torch.cat([decoder.push(latents.to(place())), decoder.flush()], 2)
        return self.codec.encode(((frames.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1).to(latents)

    def _levelled(self, sample: Sample, rng: torch.Generator) -> Sample:
        if self.config.levels == "recipe":
            return sample
        if bool((sample.level != sample.level[:, :1]).any()):
            raise ConfigError('this recipe has a level per frame: set levels = "recipe"')
        level = published_levels(rng, len(sample.level), self.config.shift)
        return replace(sample, level=level[:, None].expand_as(sample.level))

    def _remember(self, residual: Tensor, level: Tensor, chosen: Sequence[Chosen], rng: torch.Generator) -> None:
        """Keep what went wrong: always after a batch with errors, sometimes after a clean one."""
        entries = [Residual(r, s) for r, s in zip(residual, level)]
        wanted = [not one.clean or float(torch.rand((), generator=rng)) < self.config.update for one in chosen]
        if self.batches < self.config.warmup:
            world = ranks()[1]
            entries = shared(entries, _gathered)
            wanted = [want for want in wanted for _ in range(world)]
        for entry, want in zip(entries, wanted):
            if want:
                self.memory.push(entry, rng)
        self.batches += 1

    # ------------------------------------------------------------ with the checkpoint
    def keep(self, folder: Path) -> None:
        """Write this rank's memory into a checkpoint."""
        self.memory.save(folder)
        (folder / f"recycle-{ranks()[0]}.txt").write_text(f"{self.batches}\n")

    def recall(self, folder: Path) -> None:
        """Undo `keep`. CheckpointError if the checkpoint has no memory of this rank."""
        self.memory.load(folder)
        try:
            self.batches = int((folder / f"recycle-{ranks()[0]}.txt").read_text())
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{folder} does not say how many batches there were: {error}") from error

    # ------------------------------------------------------------ as the recipe inside
    def dataset(self) -> Mapping[str, Any]:
        """See `HasData`."""
        return self.inner.dataset() if hasattr(self.inner, "dataset") else {}

    def frozen(self, init: bool = True) -> Mapping[str, Sequence[Path]]:
        """See `ReadsFrozen`: the network under the LoRA too."""
        return self.inner.frozen(init=True) if isinstance(self.inner, ReadsFrozen) else {}

    def scores(self) -> Sequence[str] | None:
        """See `NamesScores`."""
        names = self.inner.scores() if isinstance(self.inner, NamesScores) else None
        return None if names is None else (*names, "memory")

    def check(self, step: int, out: Path) -> dict[str, float]:
        """See `Recipe`; and how full the memory is."""
        return {**self.inner.check(step, out), "memory": float(len(self.memory))}

    def finish(self, out: Path) -> None:
        """Write lora.safetensors and the folder lora/."""
        save(self.module, out / "lora.safetensors")
        save(self.module, out / "lora")


def _check_shapes(inner: Draws) -> None:
    """ConfigError if a recipe draws videos of several shapes."""
    data, stages = (getattr(inner.video, name, None) for name in ("data", "config"))
    if isinstance(data, Footage) and len(data.buckets) > 1:
        raise ConfigError("[recycle] keeps errors of one shape: give [footage] one of seconds and one of sizes")
    lengths = {length for _, options in getattr(stages, "lengths", ()) for length in options}
    if not isinstance(data, Footage) and len(lengths) > 1:
        raise ConfigError("[recycle] keeps errors of one shape: give one length in settings.lengths")


def _codec_folder(inner: Draws) -> Path:
    folder = getattr(inner.video, "codec_folder", None)
    if folder is None:
        raise ConfigError("[recycle] codec = true, but this recipe has no codec: leave it out, or name one in settings")
    return Path(folder)


def _gathered(tensor: Tensor) -> list[Tensor]:
    world = ranks()[1]
    if world == 1:
        return [tensor]
    parts = [torch.empty_like(tensor) for _ in range(world)]
    dist.all_gather(parts, tensor)
    return parts


def maker(recipes: Mapping[str, Callable[[Mapping[str, Any], Path], Any]]) -> Callable[..., RecycleRecipe]:
    """The function that makes the recipe, given all that it may stand on."""

    def make(config: Mapping[str, Any], out: Path) -> RecycleRecipe:
        """The recipe of a run's table and folder, with the one inside. ConfigError if that one cannot be stood on."""
        settings = read_table(RecycleConfig, config, "recycle")
        if settings.recipe not in recipes:
            raise ConfigError(f"[recycle] recipe is {settings.recipe!r}: it is one of {', '.join(recipes)}")
        table = dict(settings.settings)
        if settings.recipe == "i2v" and settings.preset in GIVEN:
            table["given"] = {**GIVEN[settings.preset], **table.get("given", {})}
        inner = recipes[settings.recipe](table, out)
        if isinstance(inner, Mixed):
            inner = Whole(inner)
        if not hasattr(inner, "draw") or not hasattr(inner, "video"):
            raise ConfigError(
                f"[recycle] recipe {settings.recipe!r} makes no video: use i2v, flow, forcing, causal or mixed"
            )
        if settings.remembers:
            _check_shapes(inner)
        inject(inner.module, settings.rank, settings.alpha or settings.rank, settings.targets, seed=settings.seed)
        return RecycleRecipe(inner, settings, out)

    return make
