"""Edits of a script: they take effect behind what has begun, and never change it; shots start from the anchor."""

from dataclasses import replace

import pytest
import torch

from longtake import generate
from longtake.core.errors import ScriptError
from longtake.engine.build import build_rollout
from longtake.engine.clips import clip as engine
from longtake.engine.events import Frames, WindowDone, WindowStarted
from longtake.engine.inputs import RolloutInputs
from longtake.engine.rollout import Rollout
from longtake.models import load
from longtake.models.interfaces import ContextFrames
from longtake.models.toy.clock import clock, draw_numbers, read_numbers
from longtake.models.toy.gaussian import gauss
from longtake.models.toy.null_text_encoder import NullTextEncoder
from longtake.planning.limits import Limits
from longtake.planning.scene_changes import SceneChanged
from longtake.planning.script import Scene, Script
from longtake.planning.script_edits import Edit, TooLate, edited, resolved
from longtake.planning.strategies.registry import make_plan
from longtake.pocket import Clip, Facts, render
from longtake.pocket import Scene as PocketScene

FPS = 24
PLANS = [
    ("sliding", dict(overlap=5)),
    ("relay", dict(overlap=5)),
    ("relay", dict(overlap=5, handoff="pixels-uint8", overlap_source="new")),
    ("looping", dict(overlap=8)),
    ("clip-conditioned", dict(overlap=5, overlap_source="new")),
    ("async", dict(overlap=5, ar_step=2)),
    ("continuous", dict(ar_step=2)),
    ("rolling", dict()),
    ("blocks", dict()),
]
SCRIPT = Script.of([Scene("a", 2.0), Scene("b", 2.0), Scene("c", 2.0)], FPS)


def rows(script: Script) -> list[tuple[int, str]]:
    return [(start, scene.prompt) for start, scene in zip(script.starts, script.scenes)]


def change(edit: Edit, earliest: int = 0, script: Script = SCRIPT) -> Script:
    return edited(script, resolved(script, edit, earliest, FPS), FPS)


# ---------------------------------------------------------------- the script
def test_add_comes_last_and_makes_the_video_longer():
    after = change(Edit("add", "d", frames=24), earliest=100)
    assert rows(after) == [*rows(SCRIPT), (144, "d")] and after.frames == 168


def test_add_to_an_endless_video_comes_after_the_last_scene_or_now():
    endless = Script.of([Scene("a", 1.0), Scene("b", 1.0)], FPS, endless=True)
    after = change(Edit("add", "c", frames=24), 10, endless)
    assert rows(after) == [(0, "a"), (24, "b"), (48, "c")] and after.frames is None
    assert rows(change(Edit("add", "d"), 10, after))[-1] == (72, "d")
    assert rows(change(Edit("add", "d"), 500, after))[-1] == (500, "d")


def test_add_to_an_endless_video_comes_when_a_scene_that_was_changed_would_have_ended():
    endless = Script.of([Scene("a", 1.0), Scene("b", 2.0)], FPS, endless=True)
    replaced = change(Edit("replace", "x", at=48), 10, endless)
    assert rows(change(Edit("add", "c", frames=24), 50, replaced))[-1] == (72, "c")
    inserted = change(Edit("insert", "y", at=48, frames=24), 10, endless)
    assert rows(change(Edit("add", "c", frames=24), 50, inserted))[-1] == (96, "c")
    late = change(Edit("replace", "x", at=500), 500, endless)  # b has gone on for longer than it said
    assert rows(change(Edit("add", "c", frames=24), 510, late))[-1] == (620, "c")


def test_insert_moves_what_comes_after_and_the_interrupted_scene_goes_on():
    after = change(Edit("insert", "x", at=60, frames=24))
    assert rows(after) == [(0, "a"), (48, "b"), (60, "x"), (84, "b"), (120, "c")] and after.frames == 168
    assert rows(change(Edit("insert", "x", at=48, frames=24))) == [(0, "a"), (48, "x"), (72, "b"), (120, "c")]


def test_replace_changes_no_times():
    assert rows(change(Edit("replace", "x", at=48))) == [(0, "a"), (48, "x"), (96, "c")]
    after = change(Edit("replace", "x", at=60))
    assert rows(after) == [(0, "a"), (48, "b"), (60, "x"), (96, "c")] and after.frames == 144
    assert change(Edit("replace", "x", cut="anchor"), 30).scenes[1] == Scene("x", 0.75, "anchor")


def test_an_edit_of_what_has_begun_is_refused_with_the_earliest_time():
    with pytest.raises(TooLate, match=r"earliest time that can still change is 2\.50 s") as caught:
        change(Edit("replace", "x", at=48), earliest=60)
    assert caught.value.earliest == 60
    with pytest.raises(ScriptError, match=r"ends at 6\.00 s"):
        change(Edit("insert", "x", at=150), earliest=60)
    for bad in (dict(op="delete"), dict(prompt=5), dict(at=-1), dict(frames=0), dict(cut="soft")):
        with pytest.raises(ScriptError):
            Edit(**{"op": "add", "prompt": "p", **bad})


def test_an_edit_is_json():
    edit = Edit("insert", "x", at=3, cut="resample")
    assert Edit.from_facts({**edit.facts(), "id": "other"}) == edit


# ---------------------------------------------------------------- while it is generated
def rollout(name: str, options: dict, script: Script, temporal_compression: int = 4) -> Rollout:
    beside = "concat" if name == "clip-conditioned" else "inpaint"
    return build_rollout(
        clock(temporal_compression, max_latent_frames=9, conditioning=beside),
        script,
        make_plan(name, steps=4, **options),
    )


def made(run: Rollout, edits: dict[int, Edit] | None = None) -> tuple[list[int], list[SceneChanged], list[Edit]]:
    """What the clock shows, the switches, and the edits as they were taken before these windows."""
    parts, switches, taken, at = [], [], [], 0
    for edit in [] if not edits or 0 not in edits else [edits[0]]:
        taken.append(run.timeline.edit(edit))
    for event in run.run():
        if isinstance(event, Frames):
            assert event.first == at
            at += event.video.shape[2]
            parts.append(event.video)
        if isinstance(event, SceneChanged):
            switches.append(event)
        if isinstance(event, WindowDone) and edits and event.index + 1 in edits:
            taken.append(run.timeline.edit(edits[event.index + 1]))
    return read_numbers(torch.cat(parts, 2))[0].int().tolist(), switches, taken


@pytest.mark.parametrize(("name", "options"), PLANS)
def test_every_strategy_follows_edits_without_a_gap(name, options):
    """A new prompt from now on, more video at the end, and a cut: the clock counts on, then from 0 again."""
    edits = {1: Edit("replace", "x"), 2: Edit("add", "d", frames=30, cut=True)}
    counted, switches, taken = made(rollout(name, options, SCRIPT), edits)
    assert counted == [*range(144), *range(30)]
    assert taken[0].at is not None and 0 < taken[0].at <= 48 and taken[1].at == 144
    assert [s.prompt for s in switches] == ["x", "b", "c", "d"] and switches[0].frame == taken[0].at
    assert [s.transition for s in switches] == ["keep", "keep", "keep", "cut"]


@pytest.mark.parametrize(("name", "options"), PLANS)
def test_a_cut_now_begins_with_the_next_window_that_can_be_cut(name, options):
    counted, _, (taken,) = made(rollout(name, options, SCRIPT), {2: Edit("replace", "x", cut=True)})
    assert counted == [*range(taken.at), *range(144 - taken.at)]


@pytest.mark.parametrize(("name", "options"), PLANS)
def test_edits_repeated_by_window_give_the_same_video_from_any_snapshot(name, options):
    edits = {1: Edit("replace", "x"), 2: Edit("insert", "y", frames=20, cut="anchor")}
    run = rollout(name, options, SCRIPT)
    whole, _, taken = made(run, edits)
    changes = {window: [edit] for window, edit in zip(edits, taken)}
    again = rollout(name, options, SCRIPT)
    snapshots, shown = [], []
    again.timeline.follow(changes)
    for event in again.run():
        if isinstance(event, Frames):
            shown += read_numbers(event.video)[0].int().tolist()
        if isinstance(event, WindowDone) and event.index < 4:
            tensors, facts = again.state()
            snapshots.append((event.frames, {k: t.clone() for k, t in tensors.items()}, facts))
    assert shown == whole
    for frames, tensors, facts in snapshots:
        third = rollout(name, options, SCRIPT)
        third.timeline.follow(changes)
        third.load(tensors, facts)
        assert made(_From(third, frames))[0] == whole[frames:]
        assert third.timeline.script == run.timeline.script


class _From:
    """A rollout whose frames are counted from `first` on."""

    def __init__(self, rollout: Rollout, first: int):
        self.rollout, self.first = rollout, first

    def run(self):
        for event in self.rollout.run():
            yield Frames(event.first - self.first, event.video) if isinstance(event, Frames) else event


ANCHORS = [
    *PLANS,
    ("relay", dict(handoff="latents", overlap=5)),
    ("clip-conditioned", dict(handoff="latents", overlap=5, anchor=True)),
]


@pytest.mark.parametrize(("name", "options"), ANCHORS)
@pytest.mark.parametrize("cut", ["anchor", "resample"])
def test_a_shot_of_one_frame_shows_the_anchor(name, options, cut):
    """In a script, and in an edit of one: there is nothing to make, and the video goes on behind it."""
    scenes = [Scene("a", 2.0), Scene("b", 1 / 24, cut), Scene("c", 1.0, True), Scene("d", 1 / 24, cut)]
    counted, switches, _ = made(rollout(name, options, Script.of(scenes, FPS)))
    shown = 0 if cut == "anchor" else counted[48]
    assert counted == [*range(48), shown, *range(24), counted[-1]] and [s.transition for s in switches] == [
        cut,
        "cut",
        cut,
    ]
    edits = {1: Edit("replace", "x", at=143, cut=cut), 2: Edit("add", "y", frames=1, cut=cut)}
    counted, _, taken = made(rollout(name, options, SCRIPT), edits)
    assert len(counted) == 145 and counted[:143] == list(range(143)) and [edit.at for edit in taken] == [143, 144]
    assert cut == "resample" or counted[143:] == [0, 0]


def test_an_edit_before_the_first_window_may_end_a_shot_at_its_input_image():
    model = clock(4, max_latent_frames=9)
    run = build_rollout(
        model,
        SCRIPT,
        make_plan("sliding", steps=4, overlap=5),
        inputs=RolloutInputs(start=draw_numbers(torch.tensor([[0.0]]))),
    )
    counted, _, _ = made(run, {0: Edit("insert", "x", at=1, frames=20, cut=True)})
    assert counted == [0, *range(20), *range(20, 163)]


@pytest.mark.parametrize(("name", "options"), PLANS)
@pytest.mark.parametrize("frames", [1, 3])
def test_an_edit_behind_the_last_window_lengthens_the_video_or_is_refused(name, options, frames):
    run, counted, taken = rollout(name, options, Script.of("a", FPS, 146 / FPS)), [], 0
    for event in run.run():
        if isinstance(event, Frames):
            counted += read_numbers(event.video)[0].int().tolist()
        if isinstance(event, WindowDone) and run.timeline.queue.at(run.timeline.index)[0] is None and not taken:
            try:
                taken = run.timeline.edit(Edit("add", "x", frames=frames)).frames
            except TooLate as error:
                assert error.earliest is None
    assert counted == list(range(146 + taken)) and run.timeline.script.frames == len(counted)


def test_an_edit_that_the_strategy_cannot_generate_is_refused():
    run = build_rollout(clock(4, max_latent_frames=9), Script.of("a", FPS, 1.0), make_plan("clip", steps=4))
    for event in run.run():
        if isinstance(event, WindowDone):
            with pytest.raises(ScriptError, match="cannot be generated: one clip makes at most 33 frames here, not 48"):
                run.timeline.edit(Edit("add", "x", frames=48, cut=True))
            assert run.timeline.edit(Edit("add", "x", frames=33, cut=True)).at == 24
            break
    none = clock(4, max_latent_frames=9, conditioning="none")
    run = build_rollout(none, Script.of("a", FPS, 1.0), make_plan("clip", steps=4))
    with pytest.raises(ScriptError, match="cannot be generated: This text-to-video checkpoint"):
        run.timeline.edit(Edit("add", "x", frames=24, cut="anchor"))


def test_an_edit_late_in_a_long_video_costs_no_more_than_an_early_one():
    """Neither windows of shots that are over nor prompts that were compared are gone through again."""
    made, read, sliding = [], [], make_plan("sliding", steps=4, overlap=5)

    class Counted:
        def __getattr__(self, name):
            return getattr(sliding, name)

        def windows(self, *args):
            for window in sliding.windows(*args):
                made.append(window)
                yield window

    class Numbers(NullTextEncoder):
        def encode(self, prompts):
            read.extend(prompts)
            return torch.tensor([[[1.0, float(prompt[1:])]] for prompt in prompts])

    scenes = [Scene(f"p{i}", 5.0, cut=i % 2 == 0) for i in range(60)]
    script = replace(Script.of(scenes, FPS), abrupt=1.9)
    run = build_rollout(replace(clock(4, max_latent_frames=9), text_encoder=Numbers()), script, Counted())
    for event in run.run():
        if isinstance(event, WindowDone) and event.index in (2, 200):
            made.clear(), read.clear()
            run.timeline.edit(Edit("replace", f"p{event.index + 100}"))
            assert len(made) < 40 and len(read) <= 8
        if isinstance(event, WindowDone) and event.index == 200:
            break
    assert event.index == 200


def test_what_has_begun_cannot_be_edited():
    run = rollout("sliding", dict(overlap=5), SCRIPT)
    events = run.run()
    for event in events:
        if isinstance(event, WindowDone):
            break
    assert run.timeline.next_editable_frame == 33
    with pytest.raises(TooLate, match=r"1\.38 s"):
        run.timeline.edit(Edit("replace", "x", at=32))
    assert run.timeline.edit(Edit("replace", "x", at=33)).at == 33
    for _ in events:
        pass
    with pytest.raises(TooLate, match="the last clip has begun"):
        run.timeline.edit(Edit("add", "z"))
    assert run.timeline.edit(Edit("add", "z", cut=True)).at == 144
    assert sum(isinstance(event, WindowStarted) for event in run.run()) > 0


# ---------------------------------------------------------------- anchors
class Words:
    """Prompts as directions in a plane: their distance is known."""

    def encode(self, prompts):
        angle = torch.tensor([{"a": 0.0, "b": 0.1, "c": 1.5}[p[0]] for p in prompts])
        return torch.stack([angle.cos(), angle.sin()], -1)[:, None]

    def unknown(self, prompt):
        return ()

    def cut_off(self, prompt):
        return ""


@pytest.mark.parametrize(("name", "options"), [PLANS[0], PLANS[4], PLANS[6]])
def test_an_abrupt_prompt_is_resampled_from_the_anchor(name, options):
    """b is near a, c is far from b: the video goes on at b, and begins again with the anchor at c."""
    model = gauss(max_latent_frames=9, size=8, conditioning="concat" if name == "clip-conditioned" else "inpaint")
    model = replace(model, text_encoder=Words())
    script = Script(SCRIPT.scenes, SCRIPT.starts, SCRIPT.frames, abrupt=0.3)
    run = build_rollout(model, script, make_plan(name, steps=6, **options))
    frames, switches = {}, []
    for event in run.run():
        if isinstance(event, Frames):
            frames |= {event.first + i: event.video[:, :, i] for i in range(event.video.shape[2])}
        if isinstance(event, SceneChanged):
            switches.append(event)
    assert [(s.prompt, s.transition) for s in switches] == [("b", "keep"), ("c", "resample")]
    assert switches[0].distance == pytest.approx(1 - torch.tensor(0.1).cos().item(), abs=1e-6)
    assert switches[1].distance == pytest.approx(1 - torch.tensor(1.4).cos().item(), abs=1e-6)
    assert sorted(frames) == list(range(144)) and switches[1].frame == 96
    like = torch.corrcoef(torch.stack([frames[0].flatten(), frames[96].flatten(), frames[95].flatten()]))
    assert 0.6 < like[0, 1] < 1 - 1e-3, "lightly re-sampled: like the anchor, and not it"
    assert like[0, 2] < 0.5


def test_a_resampled_anchor_follows_its_prompt(monkeypatch):
    """A model with channel concatenation is not conditioned on the frame that it re-samples."""
    model, picture = load("pocket-i2v"), render(Clip((PocketScene(Facts("red", "circle", "still", "sea")),), 3), 0, 1)
    image = (255 * picture.frames[0]).round().byte().movedim(0, 2)

    def opening(prompt):
        scenes = [Scene("a red circle rests by the sea", 1 / 24), Scene(prompt, 1 / 24, "resample")]
        return torch.cat(list(generate(scenes, model, image=image, steps=8)))[1].float()

    def apart():
        """How much another prompt counts, from the same noise."""
        return (opening("a white star spins at night") - opening("a red circle rests by the sea")).abs().mean()

    without_context = apart()
    monkeypatch.setattr(engine, "ContextFrames", lambda *known, no_context: ContextFrames(*known))
    assert without_context > 1.2 * apart()


@pytest.mark.parametrize(("name", "options"), [PLANS[0], PLANS[4], PLANS[6]])
def test_a_cut_to_the_anchor_shows_it_again(name, options):
    scenes = [Scene("a", 2.0), Scene("c", 2.0, "anchor"), Scene("a", 2.0, True)]
    beside = "concat" if name == "clip-conditioned" else "inpaint"
    run = build_rollout(
        clock(4, max_latent_frames=9, conditioning=beside), Script.of(scenes, FPS), make_plan(name, steps=4, **options)
    )
    counted, switches, _ = made(run)
    assert counted == [*range(48), *range(48), *range(48)]
    assert [s.transition for s in switches] == ["anchor", "cut"]


def test_nothing_is_resampled_unless_asked():
    assert Script.of([Scene("a"), Scene("b")], FPS).abrupt is None
    assert Limits(max_latent_frames=9).conditioning == "inpaint"
