"""Decoding beside denoising: the same frames bit for bit, from any snapshot; errors are raised; leaving stops the thread."""

import threading
import time
from dataclasses import replace

import pytest
import torch

from longtake.engine.build import build_rollout
from longtake.engine.events import Frames, StepDone, WindowDone, WindowStarted
from longtake.engine.inputs import RolloutInputs
from longtake.engine.output.async_decode import AsyncDecode
from longtake.models.model import NetworkFeatures
from longtake.models.toy.clock import clock
from longtake.models.toy.gaussian import gauss
from longtake.planning.script import Scene, Script
from longtake.planning.strategies.registry import make_plan
from longtake.testing.toys import clock_numbers, one_scene
from tests.models.wan.test_svi import PROMPTS, opened, picture, two  # noqa: F401
from tests.rollouts import recorded

CHAINS = [
    ("relay", dict(handoff="latents", overlap=1)),
    ("relay", dict(handoff="latents", overlap=5)),
    ("clip-conditioned", dict(handoff="latents", overlap=5, anchor=True)),
]


def world(name, make=clock, **changes):
    return make(
        max_latent_frames=25 if make is gauss else 9,
        conditioning="concat" if name == "clip-conditioned" else "inpaint",
        **changes,
    )


class Slow:
    """A slow decoder that notes the thread in which it works."""

    def __init__(self, inner, threads, pause=0.0):
        self.inner, self.threads, self.pause = inner, threads, pause

    def push(self, latents):
        self.threads.append(threading.current_thread())
        time.sleep(self.pause)
        return self.inner.push(latents)

    def flush(self):
        return self.inner.flush()


def slowed(model, threads, pause=0.0):
    vae = model.vae
    names = ("temporal_compression", "spatial_compression", "channels", "replay_latents", "encode")
    watched = type("Watched", (), {name: getattr(vae, name) for name in names})()
    watched.decoder = lambda: Slow(vae.decoder(), threads, pause)
    return replace(model, vae=watched)


def events(model, name, options, frames=150, **changes):
    return list(build_rollout(model, one_scene(frames), make_plan(name, steps=3, **options), **changes).run())


def video(made):
    parts, at = [e for e in made if isinstance(e, Frames)], 0
    for part in parts:
        assert part.first == at
        at += part.video.shape[2]
    return torch.cat([part.video for part in parts], 2)


@pytest.mark.parametrize(("name", "options"), CHAINS)
def test_a_clock_counts_on_while_it_is_decoded(name, options):
    assert clock_numbers(world(name), make_plan(name, steps=3, **options), 150) == [*range(150)]


@pytest.mark.parametrize(("name", "options"), CHAINS)
def test_the_same_frames_bit_for_bit_in_threads_of_their_own(name, options):
    threads, model = [], world(name, gauss, size=8)
    beside = video(events(slowed(model, threads), name, options, seeds=(3,)))
    assert torch.equal(beside, video(events(model, name, options, seeds=(3,), overlapped=False)))
    assert len({t for t in threads if t is not threading.main_thread()}) >= 3
    assert threads[-1] is threading.main_thread(), "the last take has nothing to be decoded beside"


def test_frames_of_a_clip_are_shown_while_the_next_one_is_generated():
    made = events(slowed(world("relay"), [], 0.005), "relay", CHAINS[0][1])
    first = next(i for i, e in enumerate(made) if isinstance(e, Frames))
    assert [e.index for e in made[:first] if isinstance(e, WindowStarted)] == [0, 1]
    ended = [e.frames for e in made if isinstance(e, WindowDone)]
    assert ended[0] == 0 and ended == sorted(ended) and ended[-1] == 150


@pytest.mark.parametrize(("name", "options"), CHAINS)
def test_snapshots_stay_exact(name, options):
    model = world(name, gauss, size=8)
    whole, snapshots = recorded(build_rollout(model, one_scene(150), make_plan(name, steps=3, **options)))
    unseen = 1 if name == "clip-conditioned" else 0  # the first frame that the first clip generates is needed at once
    assert sum("output.deferred" in tensors for _, tensors, _ in snapshots) == len(snapshots) - 1 - unseen
    for frames, tensors, facts in snapshots:
        again = build_rollout(model, one_scene(150), make_plan(name, steps=3, **options), overlapped=frames % 2 == 0)
        again.load(tensors, facts)
        rest = [e for e in again.run() if isinstance(e, Frames)]
        assert [e.first for e in rest][:1] in ([], [frames])
        assert torch.equal(torch.cat([whole[:, :, :frames], *(e.video for e in rest)], 2), whole)


def video_of(parts):
    return torch.cat(parts, 2)


def test_a_new_shot_waits_for_the_frames_before_it():
    script = Script.of([Scene("a", 3.0), Scene("b", 2.0, cut=True)], 24)
    shown = [
        torch.cat([e.video for e in run.run() if isinstance(e, Frames)], 2)
        for run in (
            build_rollout(world("relay"), script, make_plan("relay", steps=3, **CHAINS[1][1]), overlapped=o)
            for o in (1, 0)
        )
    ]
    assert shown[0].shape[2] == 120 and torch.equal(*shown)


def test_svi_2_0_pro_decodes_a_clip_while_it_generates_the_next(two):  # noqa: F811
    model, chain = opened("svi-2.0-pro", two)
    script = Script(tuple(Scene(prompt) for prompt in PROMPTS), (0, 13, 21), 29)
    threads, shown = [], []
    for overlapped in (True, False):
        watched = slowed(model, threads)
        run = build_rollout(watched, script, chain, inputs=RolloutInputs(start=picture()), overlapped=overlapped)
        shown.append(video([e for e in run.run() if isinstance(e, Frames)]))
    assert torch.equal(*shown) and len(set(threads)) == 3


def test_a_model_with_one_part_on_the_device_decodes_in_the_main_thread():
    threads = []
    events(
        slowed(replace(world("relay"), features=NetworkFeatures(one_part_on_device=True)), threads),
        "relay",
        CHAINS[0][1],
    )
    assert set(threads) == {threading.main_thread()}


def test_an_error_in_the_thread_is_raised_where_frames_are_fetched():
    class Broken(Slow):
        def push(self, latents):
            if threading.current_thread() is not threading.main_thread():
                raise MemoryError("no room for frames")
            return super().push(latents)

    model = slowed(world("relay"), [])
    model.vae.decoder = lambda: Broken(clock(4).vae.decoder(), [])
    with pytest.raises(MemoryError, match="no room"):
        events(model, "relay", CHAINS[0][1])


def test_leaving_stops_the_thread_after_the_piece_in_hand():
    threads = []
    run = build_rollout(
        slowed(world("relay"), threads, 0.05), one_scene(150), make_plan("relay", steps=3, **CHAINS[0][1])
    ).run()
    for event in run:
        if isinstance(event, StepDone) and event.index == 1:
            break
    run.close()
    for thread in {t for t in threads if t is not threading.main_thread()}:
        thread.join(1.0)
        assert not thread.is_alive()
    assert len(threads) <= 1


def test_pieces_come_in_order_with_the_threads_of_the_caller():
    def pieces():
        for n in range(5):
            yield torch.tensor([n, torch.get_num_threads()])

    developing = AsyncDecode(pieces)
    made = list(developing.rest())
    assert [int(piece[0]) for piece in made] == [0, 1, 2, 3, 4] and developing.over
    assert {int(piece[1]) for piece in made} == {torch.get_num_threads()}
    assert list(developing.ready()) == list(developing.rest()) == []
