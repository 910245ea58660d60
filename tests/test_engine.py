"""The engine: resume at any window, cuts by the script, prompts in time, snapshots that hold everything."""

import itertools
import weakref

import pytest
import torch

from longtake.api import generate
from longtake.engine import Rollout
from longtake.events import Began, Called, Ended, Frames
from longtake.models.clock import clock
from longtake.models.gauss import gauss
from longtake.plan import Limits, PlanError
from longtake.plans import PLANS, plan
from longtake.script import Scene, Script

from .worlds import count, is_chunks, limits_for, script, variants


def copy(state):
    """A snapshot as it comes back from a file."""
    tensors, facts = state
    return {name: t.clone() for name, t in tensors.items()}, facts


RESUMED = [
    (name, variants(name, 1)[-1] | (dict(overlap=3) if is_chunks(name) else {})) for name in PLANS if name != "clip"
]
RESUMED += [("relay", dict(overlap=3, hand="pixels8", keep=keep)) for keep in ("new", "blend")]


@pytest.mark.parametrize(("name", "options"), RESUMED)
@pytest.mark.parametrize("solver", ["euler", "unipc"])
def test_resume_after_any_window_is_exact(name, options, solver):
    model = gauss(view=12, size=8, context=limits_for(name, 12).context)

    def rollout():
        return Rollout(model, script(60), plan(name, steps=6, **options), solver=solver, seeds=(3, 4))

    whole, snapshots = [], []
    run = rollout()
    for event in run.run():
        if isinstance(event, Frames):
            whole.append(event.video)
        if isinstance(event, Ended):
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
    events = list(Rollout(clock(4, view=12), script(100), plan("sliding", steps=3, overlap=9)).run())
    assert isinstance(events[0], Began) and isinstance(events[-1], Ended)
    calls = [(e.index, e.call, e.calls) for e in events if isinstance(e, Called)]
    assert calls == [(w, c, 3) for w in range(calls[-1][0] + 1) for c in (1, 2, 3)]
    assert events[-1].frames == 100


def test_a_cut_of_the_script_opens_a_shot_that_knows_nothing():
    scenes = [Scene("a", 1.5), Scene("b", 1.0, cut=True), Scene("c", 0.8)]
    for name in ("sliding", "relay", "endless"):
        made = count_script(
            clock(4, view=9),
            Script.of(scenes, 24),
            plan(name, steps=4, lag=2) if name == "endless" else plan(name, steps=4, overlap=5),
        )
        assert made == [*range(36), *range(43)], name


def count_script(model, script_, plan_):
    from longtake.models.clock import _read

    return (
        torch.cat([_read(e.video) for e in Rollout(model, script_, plan_).run() if isinstance(e, Frames)], 1)[0]
        .int()
        .tolist()
    )


class Listener:
    """A session that writes down which prompt each frame in view was told."""

    def __init__(self, inner, log):
        self.inner, self.log = inner, log

    def begin(self, window, past, cond):
        self.log.append([cond.texts[i].key for i in cond.scene])
        self.inner.begin(window, past, cond)

    def __call__(self, x, level):
        return self.inner(x, level)

    def finish(self, window, x):
        self.inner.finish(window, x)

    def state(self):
        return self.inner.state()

    def load(self, state):
        self.inner.load(state)


def told(name, **options):
    model, log = clock(4, view=9), []
    inner = model.session
    model.session = lambda: Listener(inner(), log)
    timeline = Script.of([Scene("a", 2.0), Scene("b", 2.0)], 24)
    for _ in Rollout(model, timeline, plan(name, steps=4, **options)).run():
        pass
    return log


def test_windows_follow_the_prompt_of_their_first_new_frame():
    log = told("sliding", overlap=5)
    assert all(len(set(prompts)) == 1 for prompts in log)
    assert [prompts[0] for prompts in log] == ["a", "a", "b", "b"]


def test_streams_follow_a_prompt_per_frame():
    mixed = [prompts for prompts in told("endless", lag=2) if len(set(prompts)) == 2]
    assert mixed
    assert all(prompts == sorted(prompts) for prompts in mixed)


def test_guidance_mixes_branches():
    class Teller:
        """Velocity that depends on the text, so that the mixture can be read off."""

        def begin(self, window, past, cond):
            self.text = cond.texts[0].embedding

        def __call__(self, x, level):
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

    model = gauss(view=4, size=4)
    model.session, model.text = Teller, Words()
    for batched in (True, False):
        rollout = Rollout(model, Script.of("a", 24, 4 / 24), plan("clip", steps=1), guidance=3.0, batched=batched)
        noise = rollout.noise
        video = torch.cat([e.video for e in rollout.run() if isinstance(e, Frames)], 2)
        started = noise([s for s in spots(4)], (3, 4, 4)) - (-1 + 3 * (2 + 1))
        assert torch.allclose(video / 0.15, started, atol=1e-5)


def spots(frames):
    from longtake.noise import Spot

    return [Spot("start", f, 0, f) for f in range(frames)]


def test_generate_yields_uint8_frames():
    parts = list(generate("clock", "anything", seconds=2, steps=2))
    assert all(p.dtype == torch.uint8 and p.shape[1:] == (16, 16, 3) for p in parts)
    assert sum(len(p) for p in parts) == 48


def test_what_cannot_be_planned_is_refused_with_what_can():
    for name, options, message in (
        ("slidng", {}, "did you mean 'sliding'"),
        ("sliding", dict(ovrlap=3), "did you mean 'overlap'"),
        ("sliding", dict(overlap=20), "use 17 or 21"),
        ("sliding", dict(window=98), "use 97 or 101"),
        ("sliding", dict(window=101), "use at most 97"),
        ("sliding", dict(overlap=97), "--overlap 93 or less"),
        ("clip", {}, "ask for 97"),
        ("endless", dict(lag=1, steps=30), "--lag 2 or more"),
        ("relay", dict(overlap=0), "at least one frame"),
        ("sliding", dict(steps=0), "--steps must be at least 1"),
        ("sliding", dict(context=1.5), "--context"),
        ("crossclip", {}, "--plan"),
    ):
        with pytest.raises(PlanError) as error:
            list(Rollout(clock(4, view=25), script(300), plan(name, **options)).run())
        assert message in str(error.value), (name, options, str(error.value))


def test_a_model_of_one_level_refuses_a_staircase():
    model = clock(4)
    model.limits = Limits(view=25, mixed=False)
    with pytest.raises(PlanError, match="without lag"):
        list(Rollout(model, script(50), plan("async", steps=4)).run())
    assert count(model, plan("sliding", steps=4), 150) == list(range(150))


@pytest.mark.parametrize("name", ["sliding", "relay", "endless", "blocks"])
def test_nothing_grows_with_the_length(name):
    """Tensors alive after each window, over an endless run: constant; a planted leak is seen."""
    options = dict(overlap=5) if is_chunks(name) else dict(lag=2) if name == "endless" else {}

    def alive(leak):
        rollout = Rollout(clock(4, view=9), script(None), plan(name, steps=4, **options))
        kept, seen, sizes = [], weakref.WeakSet(), []
        for event in itertools.islice(rollout.run(), 2000):
            if isinstance(event, Frames):
                seen.add(event.video)
                if leak:
                    kept.append(event.video)
            if isinstance(event, Ended):
                tensors, _ = rollout.state()
                sizes.append(sum(t.numel() for t in tensors.values()) + 1000 * len(seen))
        return sizes

    sizes = alive(leak=False)
    assert len(sizes) > 50
    assert max(sizes[len(sizes) // 2 :]) <= max(sizes[: len(sizes) // 2])
    leaking = alive(leak=True)
    assert max(leaking[len(leaking) // 2 :]) > max(leaking[: len(leaking) // 2])


def test_positions_never_run_out():
    """Far beyond latent frame 1024 the clock is still right."""
    rollout = Rollout(clock(1, view=9), script(1500), plan("endless", steps=4, lag=2))
    from longtake.models.clock import _read

    last = None
    for event in rollout.run():
        if isinstance(event, Frames):
            last = int(_read(event.video)[0, -1])
    assert last == 1499
    assert count(clock(4, view=9), plan("sliding", steps=2, overlap=5), 200) == list(range(200))
