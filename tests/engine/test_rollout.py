"""The engine: resume at any window, cuts by the script, prompts in time, snapshots that hold everything."""

import itertools
import weakref
from dataclasses import replace

import pytest
import torch

from longtake.core.errors import PlanError
from longtake.core.noise import CounterNoise, NoiseKey
from longtake.engine.build import build_rollout
from longtake.engine.events import Frames, StepDone, WindowDone, WindowStarted
from longtake.models.toy.clock import clock
from longtake.models.toy.gaussian import gauss
from longtake.pipelines.generate import generate
from longtake.planning.limits import Limits
from longtake.planning.script import Scene, Script
from longtake.planning.strategies.registry import STRATEGIES, make_plan
from longtake.testing.toys import clock_numbers, one_scene, toy_limits


def copy(state):
    """A snapshot as it comes back from a file."""
    tensors, facts = state
    return {name: t.clone() for name, t in tensors.items()}, facts


RESUMED = [
    (name, STRATEGIES[name].cases(1)[-1] | (dict(overlap=3) if STRATEGIES[name].plan().traits.context_frames else {}))
    for name in STRATEGIES
    if name != "clip"
]
RESUMED += [("relay", dict(overlap=3, handoff="pixels-uint8", overlap_source=keep)) for keep in ("new", "blend")]


@pytest.mark.parametrize(("name", "options"), RESUMED)
@pytest.mark.parametrize("solver", ["euler", "unipc"])
def test_resume_after_any_window_is_exact(name, options, solver):
    model = gauss(max_latent_frames=12, size=8, conditioning=toy_limits(name, 12).conditioning)

    def rollout():
        return build_rollout(model, one_scene(60), make_plan(name, steps=6, **options), solver=solver, seeds=(3, 4))

    whole, snapshots = [], []
    run = rollout()
    for event in run.run():
        if isinstance(event, Frames):
            whole.append(event.video)
        if isinstance(event, WindowDone):
            snapshots.append((event.frames, copy(run.state())))
    video = torch.cat(whole, 2)
    assert len(snapshots) > 3
    for frames, (tensors, facts) in snapshots[:: max(1, len(snapshots) // 5)]:
        again = rollout()
        again.load(tensors, facts)
        rest = [e for e in again.run() if isinstance(e, Frames)]
        if rest:
            assert rest[0].first == frames
            assert torch.equal(torch.cat([e.video for e in rest], 2), video[:, :, frames:])
        else:
            assert frames == video.shape[2]


def test_events_come_in_order():
    events = list(
        build_rollout(clock(4, max_latent_frames=12), one_scene(100), make_plan("sliding", steps=3, overlap=9)).run()
    )
    assert isinstance(events[0], WindowStarted) and isinstance(events[-1], WindowDone)
    calls = [(e.index, e.step, e.steps) for e in events if isinstance(e, StepDone)]
    assert calls == [(w, c, 3) for w in range(calls[-1][0] + 1) for c in (1, 2, 3)]
    assert events[-1].frames == 100


def test_a_cut_of_the_script_starts_a_shot_without_context():
    scenes = [Scene("a", 1.5), Scene("b", 1.0, cut=True), Scene("c", 0.8)]
    for name in ("sliding", "relay", "continuous"):
        made = count_script(
            clock(4, max_latent_frames=9),
            Script.of(scenes, 24),
            make_plan(name, steps=4, ar_step=2) if name == "continuous" else make_plan(name, steps=4, overlap=5),
        )
        assert made == [*range(36), *range(43)], name


def count_script(model, script_, plan_):
    from longtake.models.toy.clock import read_numbers

    return (
        torch.cat(
            [read_numbers(e.video) for e in build_rollout(model, script_, plan_).run() if isinstance(e, Frames)], 1
        )[0]
        .int()
        .tolist()
    )


class Listener:
    """A session that records the prompt of each frame in view."""

    def __init__(self, inner, log):
        self.inner, self.log = inner, log

    def begin(self, window, past, cond):
        self.log.append([cond.texts[i].key for i in cond.scene])
        self.inner.begin(window, past, cond)

    def __call__(self, x, sigma):
        return self.inner(x, sigma)

    def finish(self, window, x):
        self.inner.finish(window, x)

    def state(self):
        return self.inner.state()

    def load(self, state):
        self.inner.load(state)


def prompts_of_windows(name, **options):
    model, log = clock(4, max_latent_frames=9), []
    inner = model.session
    model = replace(model, session=lambda: Listener(inner(), log))
    timeline = Script.of([Scene("a", 2.0), Scene("b", 2.0)], 24)
    for _ in build_rollout(model, timeline, make_plan(name, steps=4, **options)).run():
        pass
    return log


def test_windows_follow_the_prompt_of_their_first_new_frame():
    log = prompts_of_windows("sliding", overlap=5)
    assert all(len(set(prompts)) == 1 for prompts in log)
    assert [prompts[0] for prompts in log] == ["a", "a", "b", "b"]


def test_streams_follow_a_prompt_per_frame():
    mixed = [prompts for prompts in prompts_of_windows("continuous", ar_step=2) if len(set(prompts)) == 2]
    assert mixed
    assert all(prompts == sorted(prompts) for prompts in mixed)


def test_guidance_mixes_branches():
    class TextVelocity:
        """Velocity that depends on the text, so that the mixture can be read off."""

        def begin(self, window, past, cond):
            self.text = cond.texts[0].embedding

        def __call__(self, x, sigma):
            return torch.zeros_like(x) + self.text.flatten(1)[:, :1, None, None, None]

        def finish(self, window, x): ...
        def state(self):
            return {}

        def load(self, state): ...

    class Words:
        def encode(self, prompts):
            return torch.tensor([{"": -1.0, "a": 2.0}[p] for p in prompts])[:, None, None]

        def unknown(self, prompt):
            return ()

        def cut_off(self, prompt):
            return ""

    model = replace(gauss(max_latent_frames=4, size=4), session=TextVelocity, text_encoder=Words())
    for batched in (True, False):
        rollout = build_rollout(
            model, Script.of("a", 24, 4 / 24), make_plan("clip", steps=1), guidance=3.0, batched=batched
        )
        video = torch.cat([e.video for e in rollout.run() if isinstance(e, Frames)], 2)
        started = CounterNoise()(keys(4), (3, 4, 4)) - (-1 + 3 * (2 + 1))
        assert torch.allclose(video / 0.15, started, atol=1e-5)


def keys(frames):
    return [NoiseKey("start", f, 0, f) for f in range(frames)]


def test_generate_yields_uint8_frames():
    parts = list(generate("anything", "clock", seconds=2, steps=2))
    assert all(p.dtype == torch.uint8 and p.shape[1:] == (16, 16, 3) for p in parts)
    assert sum(len(p) for p in parts) == 48


def test_options_that_no_model_can_run_are_refused_with_ones_that_it_can():
    for name, options, message in (
        ("slidng", {}, "did you mean 'sliding'"),
        ("sliding", dict(ovrlap=3), "did you mean 'overlap'"),
        ("sliding", dict(overlap=20), "use 17 or 21"),
        ("sliding", dict(window=98), "use 97 or 101"),
        ("sliding", dict(window=101), "use at most 97"),
        ("sliding", dict(overlap=97), "--overlap 93 or less"),
        ("clip", {}, "ask for 97"),
        ("continuous", dict(ar_step=1, steps=30), "--ar-step 2 or more"),
        ("relay", dict(overlap=0), "at least one frame"),
        ("sliding", dict(steps=0), "--steps must be at least 1"),
        ("sliding", dict(context_noise=1.5), "--context-noise"),
        ("clip-conditioned", {}, "--strategy"),
    ):
        with pytest.raises(PlanError) as error:
            list(build_rollout(clock(4, max_latent_frames=25), one_scene(300), make_plan(name, **options)).run())
        assert message in str(error.value), (name, options, str(error.value))


def test_a_model_with_one_sigma_per_step_refuses_a_staircase():
    model = replace(clock(4), limits=Limits(max_latent_frames=25, per_frame_sigma=False))
    with pytest.raises(PlanError, match="without --ar-step"):
        list(build_rollout(model, one_scene(50), make_plan("async", steps=4)).run())
    assert clock_numbers(model, make_plan("sliding", steps=4), 150) == list(range(150))


@pytest.mark.parametrize("name", ["sliding", "relay", "continuous", "blocks"])
def test_nothing_grows_with_the_length(name):
    """Tensors alive after each window, over an endless run: constant; a planted leak is seen."""
    options = (
        dict(overlap=5)
        if STRATEGIES[name].plan().traits.context_frames
        else dict(ar_step=2)
        if name == "continuous"
        else {}
    )

    def alive(leak):
        rollout = build_rollout(clock(4, max_latent_frames=9), one_scene(None), make_plan(name, steps=4, **options))
        kept, seen, sizes = [], weakref.WeakSet(), []
        for event in itertools.islice(rollout.run(), 2000):
            if isinstance(event, Frames):
                seen.add(event.video)
                if leak:
                    kept.append(event.video)
            if isinstance(event, WindowDone):
                tensors, _ = rollout.state()
                sizes.append(sum(t.numel() for t in tensors.values()) + 1000 * len(seen))
        return sizes

    sizes = alive(leak=False)
    assert len(sizes) > 50
    assert max(sizes[len(sizes) // 2 :]) <= max(sizes[: len(sizes) // 2])
    leaking = alive(leak=True)
    assert max(leaking[len(leaking) // 2 :]) > max(leaking[: len(leaking) // 2])


@pytest.mark.long
def test_positions_never_run_out():
    """Far beyond latent frame 1024 the clock is still right."""
    rollout = build_rollout(clock(1, max_latent_frames=9), one_scene(1500), make_plan("continuous", steps=4, ar_step=2))
    from longtake.models.toy.clock import read_numbers

    last = None
    for event in rollout.run():
        if isinstance(event, Frames):
            last = int(read_numbers(event.video)[0, -1])
    assert last == 1499
    assert clock_numbers(clock(4, max_latent_frames=9), make_plan("sliding", steps=2, overlap=5), 200) == list(
        range(200)
    )


@pytest.mark.parametrize("name", ["sliding", "relay", "continuous", "looping"])
def test_a_rollout_can_be_rewound(name):
    """`load` on a rollout that has gone on gives the same frames again: a window can be generated once more."""
    options = dict(overlap=3) if name in ("sliding", "relay") else {}
    run = build_rollout(gauss(max_latent_frames=12, size=8), one_scene(60), make_plan(name, steps=3, **options))
    saved, first = None, []
    for event in run.run():
        if isinstance(event, Frames) and saved is not None:
            first.append(event.video)
        if isinstance(event, WindowDone) and saved is None and event.frames:
            saved = copy(run.state())
    run.load(*saved)
    again = [event.video for event in run.run() if isinstance(event, Frames)]
    assert torch.equal(torch.cat(again, 2), torch.cat(first, 2))
