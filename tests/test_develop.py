"""Decoding beside denoising: the same frames bit for bit, from any snapshot; errors come out; leaving stops the thread."""

import threading
import time
from dataclasses import replace

import pytest
import torch

from longtake.develop import Developing
from longtake.engine import Rollout
from longtake.events import Began, Called, Ended, Frames
from longtake.models.clock import clock
from longtake.models.gauss import gauss
from longtake.plans import plan
from longtake.script import Scene, Script
from tests.models.test_svi import PROMPTS, opened, picture, two  # noqa: F401
from tests.worlds import count, script

CHAINS = [
    ("relay", dict(hand="latents", overlap=1)),
    ("relay", dict(hand="latents", overlap=5)),
    ("crossclip", dict(hand="latents", overlap=5, anchor=True)),
]


def world(name, make=clock, **changes):
    return make(view=25 if make is gauss else 9, context="beside" if name == "crossclip" else "in place", **changes)


class Slow:
    """A decoder that notes the thread in which it works, and takes its time."""

    def __init__(self, inner, threads, pause=0.0):
        self.inner, self.threads, self.pause = inner, threads, pause

    def push(self, latents):
        self.threads.append(threading.current_thread())
        time.sleep(self.pause)
        return self.inner.push(latents)

    def flush(self):
        return self.inner.flush()


def slowed(model, threads, pause=0.0):
    codec = model.codec
    names = ("stride", "scale", "channels", "reach", "encode")
    watched = type("Watched", (), {name: getattr(codec, name) for name in names})()
    watched.decoder = lambda: Slow(codec.decoder(), threads, pause)
    return replace(model, codec=watched)


def events(model, name, options, frames=150, **changes):
    return list(Rollout(model, script(frames), plan(name, steps=3, **options), **changes).run())


def video(made):
    parts, at = [e for e in made if isinstance(e, Frames)], 0
    for part in parts:
        assert part.first == at
        at += part.video.shape[2]
    return torch.cat([part.video for part in parts], 2)


@pytest.mark.parametrize(("name", "options"), CHAINS)
def test_a_clock_counts_on_while_it_is_decoded(name, options):
    assert count(world(name), plan(name, steps=3, **options), 150) == [*range(150)]


@pytest.mark.parametrize(("name", "options"), CHAINS)
def test_the_same_frames_bit_for_bit_in_threads_of_their_own(name, options):
    threads, model = [], world(name, gauss, size=8)
    beside = video(events(slowed(model, threads), name, options, seeds=(3,)))
    assert torch.equal(beside, video(events(model, name, options, seeds=(3,), overlapped=False)))
    assert len({t for t in threads if t is not threading.main_thread()}) >= 3
    assert threads[-1] is threading.main_thread(), "the last take has nothing to be decoded beside"


def test_frames_of_a_take_come_while_the_next_one_is_made():
    made = events(slowed(world("relay"), [], 0.005), "relay", CHAINS[0][1])
    first = next(i for i, e in enumerate(made) if isinstance(e, Frames))
    assert [e.index for e in made[:first] if isinstance(e, Began)] == [0, 1]
    ended = [e.frames for e in made if isinstance(e, Ended)]
    assert ended[0] == 0 and ended == sorted(ended) and ended[-1] == 150


@pytest.mark.parametrize(("name", "options"), CHAINS)
def test_snapshots_stay_exact(name, options):
    model = world(name, gauss, size=8)
    run = Rollout(model, script(150), plan(name, steps=3, **options))
    whole, snapshots = [], []
    for event in run.run():
        if isinstance(event, Frames):
            whole.append(event.video)
        if isinstance(event, Ended):
            tensors, facts = run.state()
            snapshots.append((event.frames, {key: t.clone() for key, t in tensors.items()}, facts))
    unseen = 1 if name == "crossclip" else 0  # the picture that a first clip makes is wanted at once
    assert sum("owed" in tensors for _, tensors, _ in snapshots) == len(snapshots) - 1 - unseen
    for frames, tensors, facts in snapshots:
        again = Rollout(model, script(150), plan(name, steps=3, **options), overlapped=frames % 2 == 0)
        again.load(tensors, facts)
        rest = [e for e in again.run() if isinstance(e, Frames)]
        assert [e.first for e in rest][:1] in ([], [frames])
        assert torch.equal(
            torch.cat([torch.cat(whole, 2)[:, :, :frames], *(e.video for e in rest)], 2), video_of(whole)
        )


def video_of(parts):
    return torch.cat(parts, 2)


def test_a_new_shot_waits_for_the_frames_before_it():
    told = Script.of([Scene("a", 3.0), Scene("b", 2.0, cut=True)], 24)
    shown = [
        torch.cat([e.video for e in run.run() if isinstance(e, Frames)], 2)
        for run in (Rollout(world("relay"), told, plan("relay", steps=3, **CHAINS[1][1]), overlapped=o) for o in (1, 0))
    ]
    assert shown[0].shape[2] == 120 and torch.equal(*shown)


def test_clips_of_2_0_pro_are_decoded_beside_each_other(two):  # noqa: F811
    model, chain = opened("svi-2.0-pro", two)
    told = Script(tuple(Scene(prompt) for prompt in PROMPTS), (0, 13, 21), 29)
    threads, shown = [], []
    for overlapped in (True, False):
        watched = slowed(model, threads)
        run = Rollout(watched, told, chain, start=picture(), overlapped=overlapped)
        shown.append(video([e for e in run.run() if isinstance(e, Frames)]))
    assert torch.equal(*shown) and len(set(threads)) == 3


def test_parts_that_take_turns_are_never_at_work_at_once():
    threads = []
    events(slowed(replace(world("relay"), turns=True), threads), "relay", CHAINS[0][1])
    assert set(threads) == {threading.main_thread()}


def test_what_fails_in_the_thread_is_raised_where_frames_are_taken():
    class Broken(Slow):
        def push(self, latents):
            if threading.current_thread() is not threading.main_thread():
                raise MemoryError("no room for frames")
            return super().push(latents)

    model = slowed(world("relay"), [])
    model.codec.decoder = lambda: Broken(clock(4).codec.decoder(), [])
    with pytest.raises(MemoryError, match="no room"):
        events(model, "relay", CHAINS[0][1])


def test_leaving_stops_the_thread_after_the_piece_in_hand():
    threads = []
    run = Rollout(slowed(world("relay"), threads, 0.05), script(150), plan("relay", steps=3, **CHAINS[0][1])).run()
    for event in run:
        if isinstance(event, Called) and event.index == 1:
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

    developing = Developing(pieces)
    made = list(developing.rest())
    assert [int(piece[0]) for piece in made] == [0, 1, 2, 3, 4] and developing.over
    assert {int(piece[1]) for piece in made} == {torch.get_num_threads()}
    assert list(developing.ready()) == list(developing.rest()) == []
