"""Tiles as published, in numbers; and what is given at a frame, in the windows that make it."""

from itertools import islice, pairwise

import pytest
import torch

from longtake.core.errors import PlanError
from longtake.planning.keyframes import KeyframedPlan, KeyframeSpan
from longtake.planning.limits import Limits
from longtake.planning.strategies.registry import make_plan
from longtake.planning.window import check

LIMITS = Limits(61)


@pytest.mark.parametrize(("tile", "overlap", "first", "new", "count"), [(120, 32, 15, 11, 17), (80, 24, 10, 7, 26)])
def test_a_minute_in_published_tiles(tile, overlap, first, new, count):
    """181 latents: 15 and then 11 a tile, or 10 and then 7; every later tile sees its tail and a reference besides."""
    loop = make_plan("looping", steps=8, tile=tile, overlap=overlap, reference=1.0)
    windows = list(loop.windows(1441, 8, LIMITS))
    shared = overlap // 8
    assert len(windows) == count and len(windows[0].frames) == first and "keyframe" not in windows[0].role
    shown: list[int] = []
    for before, window in pairwise(windows):
        shown = [f for f, role in zip(window.frames, window.role) if role != "keyframe"]
        made = [f for f, role in zip(before.frames, before.role) if role != "keyframe"]
        assert shown[0] == made[-1] + 1 - shared and window.role.count("keyframe") == shared + 1
        assert len(shown) - shared in (new, 181 - 1 - made[-1])
        assert window.positions == (*range(len(shown)), *range(shared), -1)
        assert window.blend[:shared].tolist() == pytest.approx([i / shared for i in range(shared)])
        assert window.revisable == shared and (window.sigmas[0, : len(shown)] == 1).all()
    assert shown[-1] == 180


def test_copies_lead_at_their_strength_and_fall_with_the_rest():
    window = list(
        make_plan("looping", sigmas="1,0.8,0.4", tile=40, overlap=16, strength=0.5, reference=0.9).windows(
            90, 8, LIMITS
        )
    )[1]
    guides = window.sigmas[:, [role == "keyframe" for role in window.role]]
    assert guides.T.tolist() == [[0.5, 0.5, 0.4, 0.0]] * 2 + [pytest.approx([0.1, 0.1, 0.1, 0.0])]
    sources = list(window.sources.values())
    assert [(s.kind, s.latent) for s in sources] == [("copy", 3), ("copy", 4), ("anchor", 0)]
    held = list(make_plan("looping", steps=3, tile=40, overlap=16, strength=1.0).windows(90, 8, LIMITS))[1]
    assert not held.sigmas[:, [role == "keyframe" for role in held.role]].any()


def test_loops_are_endless_and_never_look_far():
    for window in islice(make_plan("looping", steps=2).windows(None, 8, LIMITS), 300):
        check(window, LIMITS)
        assert max(window.positions) == 14 and window.sigmas.shape == (3, 15 if not window.sources else 19)


@pytest.mark.parametrize(("overlap", "draws"), [(16, [0, 0, 0]), (24, [0, 1, 2])])
def test_a_frame_in_more_than_two_tiles_is_made_from_other_noise_in_each(overlap, draws):
    tiles = make_plan("looping", steps=2, tile=40, overlap=overlap).windows(None, 8, LIMITS)
    assert [window.noise_draw for window in islice(tiles, 3)] == draws


def test_a_start_is_held_and_lasts():
    first, *_ = make_plan("looping", steps=2, reference=0.8, image_cond_noise_scale=0.15).windows(
        300, 8, LIMITS, given_latents=2
    )
    assert first.role[:3] == ("context", "context", "generate") and first.role[-1] == "keyframe"
    assert first.image_cond_noise_scale == 0.15 and not first.sigmas[:, :2].any()


@pytest.mark.parametrize(
    ("name", "options"),
    [("clip", {}), ("relay", dict(window=65)), ("sliding", dict(window=65, overlap=9)), ("looping", dict(tile=40))],
)
@pytest.mark.parametrize("frames", [113, 120, 121])
@pytest.mark.parametrize("causal", [True, False])
def test_an_end_stands_where_a_picture_at_the_last_frame_does(name, options, frames, causal):
    strategy, limits = make_plan(name, steps=2, **options), Limits(61, end="at", causal_positions=causal)
    *_, window = strategy.windows(frames, 8, limits, end_latents=1)
    *_, other = KeyframedPlan(strategy, (KeyframeSpan(frames - 1, 1),)).windows(frames, 8, limits)
    assert window.positions == other.positions and window.role == other.role


@pytest.mark.parametrize("reference", [0.0, 1.0])
def test_an_end_stands_behind_the_last_tile_whatever_guides_lead_it(reference):
    *_, window = make_plan("looping", steps=2, tile=40, overlap=16, reference=reference).windows(
        90, 8, LIMITS, end_latents=1
    )
    shown = len(window.frames) - window.role.count("keyframe")
    assert (window.sources[window.frames[-1]].kind, window.positions[-1]) == ("end_frame", shown)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(tile=100), "--tile 100 is not whole latent frames of 8: use 96"),
        (dict(tile=80, overlap=3), "--overlap 3 .* use 8"),
        (dict(tile=800), "use at most 488"),
        (dict(tile=40, overlap=40), "show nothing new"),
        (dict(strength=0.0), "--strength"),
        (dict(adain=1.5), "--adain"),
        (dict(adain_per="day"), "one of shot, scene"),
        (dict(sigmas="0.5,0.9"), "must fall"),
        (dict(steps=0), "--steps"),
    ],
)
def test_what_cannot_be_is_said(options, words):
    with pytest.raises(PlanError, match=words):
        list(make_plan("looping", **options).windows(1441, 8, LIMITS))
    with pytest.raises(PlanError, match="leaves no room"):
        list(make_plan("looping", tile=40).windows(1441, 8, LIMITS, given_latents=5))


# ---------------------------------------------------------------- what is given
def keyframed_windows(name: str, places: list[KeyframeSpan], frames: int = 300, **options):
    return list(KeyframedPlan(make_plan(name, steps=2, **options), tuple(places)).windows(frames, 8, LIMITS))


def guides(window) -> list[float]:
    return [p for p, role in zip(window.positions, window.role) if role == "keyframe"]


@pytest.mark.parametrize("name", ["relay", "sliding"])
def test_a_keyframe_conditions_the_window_that_generates_it(name):
    """In clips of 65 frames that share 9: frame 100 is in the second, which begins at frame 56."""
    windows = keyframed_windows(name, [KeyframeSpan(100, 1)], window=65, overlap=9)
    assert [len(guides(w)) for w in windows] == [0, 1, 0, 0, 0, 0][: len(windows)]
    assert guides(windows[1]) == [6.375]  # latents behind the first in view, which holds frame 49


def test_a_clip_leads_with_two_guides_and_stands_in_place():
    """Frames 16 to 40 of one clip: guides at 16 and 17, latents 4 and 5 held (or begun at half their noise)."""
    for strength, role in ((1.0, "context"), (0.5, "generate")):
        (window,) = keyframed_windows("clip", [KeyframeSpan(16, 4, strength)], frames=65)
        assert guides(window) == [1 + 15 / 8, 1 + 16 / 8]
        assert window.role[4:6] == (role, role) and set(window.role[:4]) == {"generate"}
        assert window.sigmas[0, 4:6].tolist() == [1 - strength] * 2
        assert {f: (s.kind, s.latent) for f, s in window.sources.items()} == {
            4: ("keyframe", 2), 5: ("keyframe", 3), 9: ("keyframe", 0), 10: ("keyframe", 1),
        }  # fmt: skip


def test_the_first_frame_is_in_place():
    (window,) = keyframed_windows("clip", [KeyframeSpan(0, 2), KeyframeSpan(64, 1, 0.75)], frames=65)
    assert window.role[:2] == ("context", "context") and guides(window) == [1 + 63 / 8]
    assert window.sigmas[0, -1] == 0.25 and torch.equal(window.sigmas[0, :3], torch.tensor([0.0, 0, 1]).double())


def test_a_keyframe_inside_a_clip_is_refused_for_models_without_it():
    for limits in (Limits(61, conditioning="concat"), Limits(61, per_frame_sigma=False), Limits(61, causal=True)):
        with pytest.raises(PlanError, match="at the first and the last frame"):
            list(KeyframedPlan(make_plan("clip", steps=2), (KeyframeSpan(8, 1),)).windows(65, 8, limits))
    with pytest.raises(PlanError, match="from 0 on"):
        KeyframeSpan(-8, 1)
