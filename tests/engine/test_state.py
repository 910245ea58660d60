"""States of the engine's objects are joined and divided without loss."""

import torch

from longtake.engine.clips.shot import AdainReference, Shot
from longtake.engine.state import merged, prefixed, present, restore, within
from longtake.planning.window import Adain, Window


class Part:
    """A part with one tensor and one number."""

    def __init__(self, number: int):
        self.number = number

    def state(self):
        return {"value": torch.tensor(self.number)}, {"number": self.number}

    def load(self, tensors, facts):
        assert int(tensors["value"]) == facts["number"] and len(tensors) == 1
        self.number = facts["number"]


def test_every_part_gets_its_own_share_back():
    tensors, facts = merged(one=Part(1), one_more=Part(2))
    assert sorted(tensors) == ["one.value", "one_more.value"] and facts == {
        "one": {"number": 1},
        "one_more": {"number": 2},
    }
    first, second = Part(0), Part(0)
    restore(tensors, facts, one=first, one_more=second)
    assert (first.number, second.number) == (1, 2)


def test_names_nest():
    tensors = prefixed("a", prefixed("b", {"c.d": torch.zeros(1)}))
    assert list(tensors) == ["a.b.c.d"] and list(within("b", within("a", tensors))) == ["c.d"]
    assert list(present(x=None, y=torch.zeros(1))) == ["y"]


def test_a_shot_comes_back_with_its_anchors_and_statistics():
    shot = Shot()
    shot.remember(0, {1: torch.ones(1)})
    assert not shot.anchors, "only latent 0 is an anchor"
    shot.remember(0, {0: torch.ones(1)})
    shot.remember(0, {0: torch.zeros(1)})
    shot.remember(1, {0: torch.full((1,), 2.0)})
    again = Shot()
    again.load(*shot.state())
    assert {stage: float(anchor) for stage, anchor in again.anchors.items()} == {0: 1.0, 1: 2.0}
    assert again.first_frame is None and again.adain.statistics is None
    assert again.next("anchor") is again and not again.next("new").anchors


def test_adain_measures_the_first_window_and_normalises_the_next_ones():
    view = Window([0, 1], torch.tensor([[1.0, 1.0], [0.0, 0.0]]), adain=Adain(1.0))
    torch.manual_seed(0)
    first, second = torch.randn(1, 2, 2, 8, 8), 3 + 2 * torch.randn(1, 2, 2, 8, 8)
    reference = AdainReference()
    assert reference.applied(first, view, "a") is first
    got = reference.applied(second, view, "b")
    assert torch.allclose(got.mean((2, 3, 4)), first.mean((2, 3, 4)), atol=1e-4)
    assert torch.allclose(got.std((2, 3, 4)), first.std((2, 3, 4)), atol=1e-4)
    again = AdainReference()
    again.load(*reference.state())
    assert torch.equal(again.applied(second, view, "b"), got)


def test_adain_per_scene_is_measured_again_for_another_prompt():
    view = Window([0], torch.tensor([[1.0], [0.0]]), adain=Adain(1.0, per="scene"))
    reference, x = AdainReference(), torch.randn(1, 2, 1, 4, 4)
    reference.applied(x, view, "a")
    other = x + 5
    assert reference.applied(other, view, "b") is other and reference.prompt == "b"
