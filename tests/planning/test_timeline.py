"""The timeline: windows in order with the cut that follows them, shots, the edit horizon, changes of scene, snapshots."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from longtake.core.errors import PlanError
from longtake.planning.limits import Limits
from longtake.planning.scene_changes import PromptDistance, scenes_of
from longtake.planning.script import Scene, Script
from longtake.planning.script_edits import Edit
from longtake.planning.shots import RESAMPLE_SIGMA, ShotPlanner, WindowQueue
from longtake.planning.strategies.registry import make_plan
from longtake.planning.timeline import Timeline
from longtake.planning.window import Cut

FPS, LIMITS = 24.0, Limits(max_latent_frames=9)


def planner(*scenes: Scene, strategy="sliding", abrupt=None, distance=None, **options) -> ShotPlanner:
    script = replace(Script.of(list(scenes), FPS), abrupt=abrupt)
    given = {} if distance is None else {"distance": distance}
    return ShotPlanner(script, make_plan(strategy, steps=4, overlap=5, **options), LIMITS, 4, **given)


def windows(timeline: Timeline):
    """All windows, each begun and done, with the output frame at which the edit horizon then is."""
    while (now := timeline.next()) is not None:
        timeline.begin(timeline.next_editable_frame + 8)
        yield now
        timeline.done()


def test_windows_are_numbered_and_know_the_cut_that_follows():
    found = list(windows(Timeline(planner(Scene("a", 3.0), strategy="relay"), FPS)))
    assert [now.index for now in found] == list(range(len(found))) and len(found) > 2
    for now, after in pairwise(found):
        assert now.next_cut == after.window.cut and now.ends_clip == (after.window.cut is not None)
    assert found[-1].ends_clip and found[-1].next_cut is None and found[-1].withheld == 0


@pytest.mark.parametrize(("source", "withheld"), [("old", 0), ("new", 5), ("blend", 5)])
def test_an_overlap_that_comes_anew_is_withheld(source, withheld):
    options = dict(strategy="relay", handoff="pixels", overlap_source=source)
    first = next(windows(Timeline(planner(Scene("a", 3.0), **options), FPS)))
    assert first.withheld == withheld


def test_every_cut_of_the_script_starts_a_shot():
    scenes = [Scene("a", 1.0), Scene("b", 1.0), Scene("c", 1.0, cut=True), Scene("d", 1.0, cut="anchor")]
    found = list(windows(Timeline(planner(*scenes), FPS)))
    starts = [(now.shot_start, now.first, now.end) for now in found if now.index == 0 or now.shot_start]
    assert starts == [(None, 0, 48), ("new", 48, 72), ("anchor", 72, 96)]
    assert all(now.window.cut == Cut(0) for now in found if now.shot_start)


def test_a_resampled_shot_first_denoises_its_anchor_alone():
    found = list(windows(Timeline(planner(Scene("a", 1.0), Scene("b", 1.0, cut="resample")), FPS)))
    (light,) = (now for now in found if now.resamples_anchor)
    assert light.window.frames == (0,) and light.window.sigmas[0].item() == RESAMPLE_SIGMA
    after = found[light.index + 1]
    assert light.shot_start == "resample" and after.shot_start is None and after.window.cut is None


def test_an_abrupt_prompt_starts_a_shot_by_distance():
    far = planner(Scene("a", 1.0), Scene("b", 1.0), abrupt=0.5, distance=lambda a, b: 0.6)
    near = planner(Scene("a", 1.0), Scene("b", 1.0), abrupt=0.5, distance=lambda a, b: 0.4)
    assert [far.shot_start(*far.script.scenes), near.shot_start(*near.script.scenes)] == ["resample", None]


def test_the_horizon_starts_behind_the_given_frames():
    base = planner(Scene("a", 3.0))
    assert Timeline(base, FPS).next_editable_frame == 0
    assert Timeline(replace(base, given_latents=3), FPS).next_editable_frame == 9
    assert Timeline(replace(base, given_latents=3, start_offset=9), FPS).next_editable_frame == 0


def test_the_window_after_the_next_is_refused_before_the_next_begins():
    with pytest.raises(PlanError):
        Timeline(replace(planner(Scene("a", 3.0)), limits=replace(LIMITS, conditioning="concat")), FPS).next()


def test_a_scene_change_is_announced_once_with_its_transition():
    scenes = [Scene("a", 1.0), Scene("b", 1.0), Scene("b", 1.0, cut=True)]
    timeline, said = Timeline(planner(*scenes), FPS), []
    for now in windows(timeline):
        said += timeline.scene_changes(now, [now.first + 24 if now.first == 0 and now.index else now.first])
    assert [(change.prompt, change.transition, change.frame) for change in said] == [
        ("b", "keep", 24),
        ("b", "cut", 48),
    ]


def test_a_restored_timeline_gives_the_same_windows_after_the_same_edits():
    scenes = [Scene("a", 3.0), Scene("b", 3.0)]
    timeline, rest, saved, edit = Timeline(planner(*scenes), FPS), [], None, None
    for now in windows(timeline):
        if saved is not None:
            rest.append(now)
        if now.index == 1:
            timeline.done()
            edit = timeline.edit(Edit("add", "c", frames=48, cut=True))
            saved = timeline.state()
            timeline.index -= 1
    again = Timeline(planner(*scenes), FPS)
    again.follow({1: [edit]})
    again.load(*saved)
    assert again.script == timeline.script and again.pending_edits == {}
    for now, then in zip(windows(again), rest, strict=True):
        assert (now.index, now.window.frames, now.shot_start) == (then.index, then.window.frames, then.shot_start)


def test_a_queue_keeps_two_windows_and_the_newest_shot():
    scenes = [Scene("a", 1.0), Scene("b", 1.0, cut=True)]
    queue = WindowQueue(planner(*scenes))
    first, second = queue.at(0)
    assert queue.at(1)[0] is second and first.first == 0
    while queue.at(1)[0].shot_start is None and queue.at(1)[1] is not None:
        break
    last = max(i for i in range(10) if WindowQueue(planner(*scenes)).at(i)[0] is not None)
    queue.at(last + 1)
    assert queue.at(last + 1) == (None, None) and queue.shot[1] == 24


def test_prompt_distances_are_measured_once():
    read = []

    def embed(prompt):
        read.append(prompt)
        return torch.tensor([[1.0, 0.0]] if prompt == "a" else [[0.0, 2.0]])

    distance = PromptDistance(embed)
    assert distance("a", "b") == distance("a", "b") == pytest.approx(1.0) and read == ["a", "b"]
    assert PromptDistance(lambda prompt: torch.zeros(1, 2))("a", "b") == 0.0


def test_a_window_follows_one_scene_or_one_per_frame():
    script = Script.of([Scene("a", 1.0), Scene("b", 1.0)], FPS)
    now = next(iter(planner(Scene("a", 3.0)).windows()))
    assert scenes_of(now.window, script, [20, 24, 28]) == [(20, script.scenes[0])]
    each = replace(now.window, text="frame")
    assert scenes_of(each, script, [20, 24, 28]) == [(20, script.scenes[0]), (24, script.scenes[1])]
