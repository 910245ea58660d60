"""The video output: streamed decoding in pieces, trimming, the rest of a clip decoded later, and snapshots."""

import pytest
import torch

from longtake.engine.output.video_output import LATENTS_PER_PUSH, ClipDecoder, VideoOutput
from longtake.models.toy.clock import ClockVAE, read_numbers
from longtake.planning.shots import TimelineWindow
from longtake.planning.window import Cut, Window

VIEW = Window([0], torch.tensor([[1.0], [0.0]]))
LATENT_CUT = Cut(1, "latents")


def now(end=None, **place) -> TimelineWindow:
    return TimelineWindow(VIEW, 0, end, **place)


def latents(start: int, stop: int) -> list[torch.Tensor]:
    """Latents of a clock of one frame each, which show start, start + 1, ..."""
    return [torch.full((1, 1, 1, 1), float(n)) for n in range(start, stop)]


def output(**options) -> VideoOutput:
    return VideoOutput(ClockVAE(1), "cpu", 4, **options)


def numbers(events) -> list[int]:
    return [int(n) for event in events for n in read_numbers(event.video)[0]]


def push(out: VideoOutput, start: int, stop: int, place: TimelineWindow, on_decoded=None) -> list[int]:
    out.begin_window(place)
    return numbers(out.push(latents(start, stop), place, stop, on_decoded))


def test_latents_become_frames_in_order_and_the_end_is_trimmed():
    out = output()
    assert push(out, 0, 20, now()) == list(range(20)) and out.clip_open
    assert push(out, 20, 30, now(end=25, ends_clip=True)) == list(range(20, 25))
    assert not out.clip_open and out.shown == 25 and not list(out.finish())


def test_a_decoder_gets_a_few_latents_at_a_time_and_replays_the_newest():
    decoder = ClipDecoder(ClockVAE(1))
    pieces = list(decoder.decode(latents(0, 2 * LATENTS_PER_PUSH + 1)))
    assert [piece.shape[2] for piece in pieces] == [LATENTS_PER_PUSH, LATENTS_PER_PUSH, 1]
    assert [float(latent) for latent in decoder.replay] == [2 * LATENTS_PER_PUSH]
    assert not ClipDecoder(ClockVAE(1)).state()[0]


def test_the_rest_of_a_clip_is_deferred_and_decoded_beside_the_next_one():
    out = output()
    assert push(out, 0, 5, now(ends_clip=True, next_cut=LATENT_CUT)) == [] and len(out.deferred_latents) == 5
    assert out.start_clip(LATENT_CUT, 5) == 4 and out.background is not None
    assert numbers(out.join()) == [0, 1, 2, 3, 4] and out.background is None
    assert push(out, 4, 8, now(ends_clip=True)) == [5, 6, 7]


@pytest.mark.parametrize(
    ("place", "options"),
    [
        (now(ends_clip=True, next_cut=Cut(1, "pixels")), {}),
        (now(ends_clip=True, next_cut=Cut(0, "latents")), {}),
        (now(ends_clip=True), {}),
        (now(ends_clip=True, next_cut=LATENT_CUT), dict(overlapped=False)),
    ],
)
def test_a_clip_whose_frames_are_wanted_is_decoded_at_once(place, options):
    assert push(output(**options), 0, 3, place) == [0, 1, 2]


def test_a_clip_is_not_deferred_while_somebody_waits_for_its_pixels():
    seen = []
    assert push(output(), 0, 3, now(ends_clip=True, next_cut=LATENT_CUT), seen.append) == [0, 1, 2]
    assert len(seen) == 1 and seen[0].shape[2] == 3


def test_a_shot_that_ends_shows_what_was_deferred_withheld_or_kept_back():
    out = output()
    push(out, 0, 5, now(ends_clip=True, next_cut=LATENT_CUT))
    assert numbers(out.finish()) == [0, 1, 2, 3, 4]
    out = output()
    assert push(out, 0, 5, now(ends_clip=True, next_cut=Cut(2, "pixels", "new"))) == [0, 1, 2]
    assert numbers(out.finish()) == [3, 4]
    out = output()
    push(out, 0, 5, now())
    assert numbers(out.finish(latents(5, 7))) == [5, 6] and not out.clip_open


def test_a_restored_output_continues_where_the_saved_one_was():
    out = output()
    push(out, 0, 5, now())
    again = output()
    again.load(*out.state())
    assert push(again, 5, 8, now(ends_clip=True)) == [5, 6, 7] == push(out, 5, 8, now(ends_clip=True))
    out = output()
    push(out, 0, 5, now(ends_clip=True, next_cut=LATENT_CUT))
    again = output(overlapped=False)
    again.load(*out.state())
    assert numbers(again.finish()) == [0, 1, 2, 3, 4]
