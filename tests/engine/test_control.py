"""Control signals: every frame gets its own row, under every strategy; guidance has two scales, as published."""

from dataclasses import replace

import pytest
import torch

from longtake.core.errors import PlanError
from longtake.engine.build import build_rollout
from longtake.engine.control import ControlSignal
from longtake.engine.events import Frames
from longtake.engine.guidance import TextAndControlGuidance
from longtake.engine.inputs import RolloutInputs
from longtake.models.interfaces import Conditioning, ContextFrames, PromptEmbedding
from longtake.models.model import NetworkFeatures
from longtake.models.toy.clock import ClockSession, clock
from longtake.planning.script import Script
from longtake.planning.strategies.registry import make_plan

LENGTH = 120
TRACK = ControlSignal(torch.stack([torch.arange(LENGTH), -torch.arange(LENGTH)], 1).float())
PLANS = [
    ("sliding", dict(overlap=5)),
    ("relay", dict(overlap=5)),
    ("relay", dict(overlap=5, handoff="pixels-uint8", overlap_source="new")),
    ("clip-conditioned", dict(overlap=1)),
    ("continuous", dict(ar_step=2)),
    ("blocks", dict()),
]


class Listening(ClockSession):
    """A clock that is set by the control signal: it shows the number that it gets, and fails if that is not the time."""

    def begin(self, window, past, cond):
        super().begin(window, past, cond)
        signal = cond.control[..., 0]
        now = torch.stack([self._numbers(f) for f in window.frames]) + (self.base[0, :, 0] if self.base.ndim else 0)
        assert signal.shape == (len(window.frames), self.temporal_compression) and torch.equal(
            cond.control[..., 1], -signal
        )
        assert torch.equal(signal, now.clamp(max=LENGTH - 1)), (signal, now)


@pytest.mark.parametrize(("name", "options"), PLANS)
def test_every_latent_gets_the_control_rows_of_its_frames(name, options):
    model = clock(4, max_latent_frames=9, conditioning="concat" if name == "clip-conditioned" else "inpaint")
    model = replace(model, session=lambda: Listening(4), features=NetworkFeatures(control_width=2))
    run = build_rollout(
        model, Script.of("a", 24, LENGTH / 24), make_plan(name, steps=4, **options), inputs=RolloutInputs(control=TRACK)
    )
    assert sum(e.video.shape[2] for e in run.run() if isinstance(e, Frames)) == LENGTH


def test_rows_are_picked_by_output_frame():
    got = TRACK.of_latents([0, 1, 2], 10, 4)[..., 0]
    assert got.tolist() == [[10] * 4, [11, 12, 13, 14], [15, 16, 17, 18]]
    assert TRACK.rows([-3, 0, 500])[:, 0].tolist() == [0, 0, LENGTH - 1]
    assert replace(TRACK, after="silence").rows([119, 120])[:, 0].tolist() == [119, 0]


class Linear:
    """A session whose velocity shows what it was conditioned on."""

    def begin(self, window, past, cond):
        self.value = cond.texts[0].embedding.sum() + (0 if cond.control is None else 100 * cond.control.sum())

    def __call__(self, x, sigma):
        return torch.full_like(x, float(self.value))

    def finish(self, window, x):
        self.done = True

    def state(self):
        return {"value": self.value}

    def load(self, state):
        self.value = state["value"]


@pytest.mark.parametrize(("text", "track", "branches"), [(2.0, 5.0, 3), (1.0, 5.0, 3), (3.0, 1.0, 2), (1.0, 1.0, 1)])
def test_text_and_control_guidance_is_the_published_formula(text, track, branches):
    embeddings = [
        PromptEmbedding(name, torch.tensor([[[value]]])) for name, value in (("prompt", 7.0), ("negative", 3.0))
    ]
    guided = TextAndControlGuidance(Linear, text, track, embeddings[1])
    guided.begin(None, ContextFrames({}), Conditioning((embeddings[0],), (0,), control=torch.ones(1, 1, 1)))
    c, d, u = 107.0, 103.0, 3.0
    x = torch.zeros(1, 1, 1, 1, 1)
    assert float(guided(x, torch.ones(1))) == pytest.approx(u + text * (c - d) + track * (d - u))
    assert len(guided.sessions) == branches
    again = TextAndControlGuidance(Linear, text, track, embeddings[1])
    again.load(guided.state())
    assert torch.equal(again(x, torch.ones(1)), guided(x, torch.ones(1)))


def test_values_that_are_no_control_signal_are_refused():
    for values in (torch.zeros(3), torch.zeros(0, 2)):
        with pytest.raises(PlanError, match="a row per frame"):
            ControlSignal(values)
    with pytest.raises(PlanError, match="'hold' or 'silence'"):
        replace(TRACK, after="loop")
    for model, takes in (
        (clock(4), "takes no control signal"),
        (replace(clock(4), features=NetworkFeatures(control_width=1)), "expects 1"),
    ):
        with pytest.raises(PlanError, match=f"2 numbers per frame, but clock {takes}"):
            build_rollout(model, Script.of("a", 24, 1.0), make_plan("relay"), inputs=RolloutInputs(control=TRACK))
