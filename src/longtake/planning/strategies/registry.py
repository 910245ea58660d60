"""The strategies for long video, by name: one line each. A strategy is a planner (a file of this folder) with defaults.

Another package adds a strategy with `longtake.register_strategy`, or with an entry point of the group
`longtake.strategies` that names a `Strategy`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from longtake.core.errors import PlanError
from longtake.core.options import check_value
from longtake.core.registry import Registry, load_reference, suggestion
from longtake.planning.limits import Conditioned
from longtake.planning.strategies import contract_cases as cases
from longtake.planning.strategies.diffusion_forcing import DiffusionForcing
from longtake.planning.strategies.looping import Looping
from longtake.planning.strategies.options import SCHEDULE_OPTIONS, Option, build, options_of
from longtake.planning.strategies.sliding_window import SlidingWindow
from longtake.planning.window import Plan

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Advice:
    """When to choose a strategy, as half sentences for help and docs: what it is good for, what it costs, which models run it."""

    good_for: str = ""
    costs: str = ""
    models: str = ""

    def rows(self) -> list[tuple[str, str]]:
        """Return what is said, each with its heading."""
        rows = (("Good for", self.good_for), ("Costs", self.costs), ("Models", self.models))
        return [(heading, text) for heading, text in rows if text]


@dataclass(frozen=True)
class Strategy:
    """A registered strategy, with all that the command line, the docs and the contract tests read of it.

    planner: the class of its plans, a frozen dataclass (see `Plan`, and `planning/strategies/options.py` for its flags), or
    "module:class", which is imported when the strategy is first used.
    title, about: for lists, a few words and one line. advice: see `Advice`. defaults: the options that the name stands for.
    example: options of a command line that shows what it is good for.
    conditioning: how a model must take context frames to run it (see `Limits`).
    same_options_as: name of the strategy whose options, as a model has them, suit this one too ("": none).
    cases: options that the contract tests run, given the temporal compression of the model; between them they use all that
    the planner can do. statistics: options under which it keeps the statistics of a Gaussian model.
    """

    planner: Callable[..., Plan] | str
    title: str
    about: str
    defaults: Options = field(default_factory=dict)
    example: str = ""
    conditioning: Conditioned = "inpaint"
    same_options_as: str = ""
    cases: Callable[[int], Sequence[Options]] = cases.defaults
    statistics: Options = field(default_factory=dict)
    advice: Advice = Advice()

    def planner_class(self) -> type:
        """Return the class of the plans, importing it if needed. Raise PlanError if it is none."""
        found: type = self._imported() if isinstance(self.planner, str) else self.planner  # type: ignore[assignment]
        names = {one.name for one in fields(found)} if isinstance(found, type) and is_dataclass(found) else set()
        if "schedule" not in names or not hasattr(found, "windows"):
            raise PlanError(
                f"the planner of the strategy {self.title!r}, {found!r}, is no plan: make it a frozen dataclass with a "
                "field `schedule` and a method `windows`"
            )
        if unknown := self.defaults.keys() - names - set(SCHEDULE_OPTIONS):
            raise PlanError(f"the strategy {self.title!r} has a default for {min(unknown)!r}, which its planner lacks")
        return found

    def _imported(self) -> Any:
        return load_reference(f"the strategy {self.title!r}", str(self.planner), PlanError)

    def options(self) -> dict[str, Option]:
        """Return the options that a user may set, with the defaults of this strategy."""
        own = options_of(self.planner_class())
        return {n: Option(n, o.type, self.defaults.get(n, o.default), o.help) for n, o in own.items()}

    def plan(self, **options: Any) -> Plan:
        """Make a plan with these options. Raise PlanError if there is no such option, or its value cannot be."""
        known = self.options()
        for name, value in options.items():
            if name in known:
                check_value(name, value, known[name].type, PlanError)
            else:
                raise PlanError(f"the strategy {self.title!r} has no option {name!r}: {suggestion(name, known)}")
        plan: Plan = build(self.planner_class(), {**self.defaults, **options})
        return plan


STRATEGIES: Registry[Strategy] = Registry("strategy", Strategy, group="longtake.strategies", error=PlanError, lines={
    "clip": Strategy(
        SlidingWindow, "One clip", "one clip, whose frames are all denoised together",
        dict(single_window=True, overlap=0), "--seconds 4", statistics=dict(overlap=0),
        advice=Advice(
            "one short video",
            "one window; memory grows with its length",
            "all; it is the only strategy of text-to-video checkpoints",
        ),
    ),
    "relay": Strategy(
        SlidingWindow, "Relay", "clips; each starts with the last frames of the one before (LTX-Video)",
        dict(handoff="pixels", overlap=1), "--overlap 9 --handoff latents",
        cases=cases.windows, statistics=dict(overlap=5, handoff="pixels"),
        advice=Advice(
            "minutes of video with models that take a first frame",
            "one overlap of frames per clip that are encoded again; colours can drift through the VAE",
            "LTX-Video, diffusion forcing",
        ),
    ),
    "sliding": Strategy(
        SlidingWindow, "Sliding window", "windows that overlap by clean context frames (SkyReels-V2)",
        dict(), "--window 49 --overlap 17 --context-noise 0.02",
        cases=cases.windows, statistics=dict(overlap=5, context_noise=0.02),
        advice=Advice(
            "any length with smooth motion across windows",
            "the overlap: 17 of 97 frames are denoised again as context in every window",
            "diffusion forcing (SkyReels-V2, pocket), LTX-Video",
        ),
    ),
    "soft": Strategy(
        SlidingWindow, "Soft overlap", "windows whose overlap is generated again from half its noise and cross-faded",
        dict(strength=0.5), "--strength 0.6", cases=cases.soft, statistics=dict(overlap=5),
        advice=Advice(
            "hiding seams: the overlap adapts to what follows",
            "the overlap twice, and a delay of one overlap before frames can be shown",
            "those that allow an own sigma for each frame",
        ),
    ),
    "looping": Strategy(
        Looping, "Looping tiles", "tiles that start with copies of the last latents, cross-faded (LTX looping sampler)",
        dict(), "--tile 80 --overlap 24 --adain 0.2",
        cases=cases.looping, statistics=dict(strength=1.0),  # copies at half their noise lose some of the variance
        advice=Advice(
            "long LTX videos in the manner of the ComfyUI looping sampler, with AdaIN against oversaturation",
            "about 4 of every 15 latent frames, denoised twice",
            "LTX-Video, diffusion forcing",
        ),
    ),
    "clip-conditioned": Strategy(
        SlidingWindow, "Clip conditioning", "clips with the last frames concatenated by channel (Wan image-to-video, SVI)",
        dict(handoff="pixels-uint8", overlap=1, concat_conditioning=True), "--overlap 5 --handoff latents",
        conditioning="concat", cases=cases.concat, statistics=dict(overlap=5),
        advice=Advice(
            "endless clips with a LoRA that was trained on its own errors (SVI)",
            "one window per clip; with `--handoff latents` a clip is decoded while the next is denoised",
            "Wan image-to-video, SVI, pocket-i2v",
        ),
    ),
    "async": Strategy(
        SlidingWindow, "Async windows", "a staircase of sigmas inside each window (SkyReels-V2 ar_step)",
        dict(ar_step=5), "--ar-step 5 --causal-block-size 5", same_options_as="sliding",
        cases=cases.windows, statistics=dict(overlap=5, handoff="pixels"),
        advice=Advice(
            "motion that stays consistent inside a window: early blocks are cleaner than late ones",
            "more steps per window: steps + (blocks - 1) * ar_step",
            "diffusion forcing",
        ),
    ),
    "continuous": Strategy(
        DiffusionForcing, "Continuous", "one staircase without end under a sliding view (diffusion forcing)",
        dict(ar_step=0, min_lag=2), "--ar-step 3 --sink-frames 1",
        cases=cases.staircases, statistics=dict(ar_step=3),
        advice=Advice(
            "streams without end in which nothing is encoded again",
            "about twice the work of `sliding` per frame",
            "diffusion forcing",
        ),
    ),
    "rolling": Strategy(
        DiffusionForcing, "Rolling forcing", "the staircase fills the view, one step per block (rolling forcing)",
        dict(ar_step=0, grow_view=True, context_frames=3), "--context-frames 5", cases=cases.staircases,
        advice=Advice(
            "low latency: each step completes one block",
            "one step over the whole view per block; a new prompt acts only behind the blocks in view",
            "diffusion forcing; best when trained for it",
        ),
    ),
    "blocks": Strategy(
        DiffusionForcing, "Block by block", "autoregressive, block by block (Self-Forcing, LongLive)",
        dict(ar_step="all", grow_view=True), "--causal-block-size 3 --sink-frames 3",
        cases=cases.staircases, statistics=dict(steps=32),
        advice=Advice(
            "interactive video: prompts act at the next block",
            "least with a causal model, whose keys and values are stored",
            "block-causal (pocket-causal), diffusion forcing",
        ),
    ),
})  # fmt: skip


def register_strategy(name: str, strategy: Strategy) -> None:
    """Add a strategy of your own for this process. Raise PlanError if the name is taken, or its planner is no plan."""
    if isinstance(strategy, Strategy) and not isinstance(strategy.planner, str):
        strategy.planner_class()
    STRATEGIES.register(name, strategy)


def make_plan(name: str, **options: Any) -> Plan:
    """Return the plan of a strategy with options (see `longtake plan`). Raise PlanError, which says what exists."""
    return STRATEGIES[name].plan(**options)


def check_options(name: str, options: Options) -> None:
    """Raise PlanError unless there is a strategy of that name with these options, spelled as flags."""
    flag = lambda option: f"--{option.replace('_', '-')}"
    own = STRATEGIES[name].options()
    for option in options:
        if option not in own:
            fits = [other for other, strategy in STRATEGIES.items() if option in strategy.options()]
            raise PlanError(
                f"strategy {name} has no {flag(option)} (it belongs to {', '.join(fits)}): it has "
                f"{', '.join(map(flag, own))}"
            )


def default_options_for(name: str, own: str, options: Options, sampling: Options) -> dict[str, Any]:
    """Return the options that a model has for a strategy.

    own: the model's own strategy, which takes `options`; so does one with the same options, in whose windows as many context
    frames are. Any other strategy takes `sampling`, the options of its sigma schedule.
    """
    same = name == own or own == STRATEGIES[name].same_options_as or name == STRATEGIES[own].same_options_as
    return dict(options if same else sampling)


def merge_options(defaults: Options, requested: Options) -> dict[str, Any]:
    """Return the defaults with the requested options over them. A listed schedule gives way to a requested rule.

    Raise PlanError if both a list and a rule are requested.
    """
    rule = [name for name in SCHEDULE_OPTIONS if name != "sigmas" and name in requested]
    if rule and requested.get("sigmas"):
        raise PlanError(
            f"--sigmas lists the sigma of every step, so --{rule[0].replace('_', '-')} has no effect: give one of them"
        )
    return {name: value for name, value in defaults.items() if not (rule and name == "sigmas")} | dict(requested)
