"""One resolution of a clip: context that no velocity can move, sources of clean latents, snapshots, encoded inputs."""

import pytest
import torch

from longtake.core.errors import PlanError
from longtake.core.noise import CounterNoise
from longtake.core.solvers import SOLVERS
from longtake.engine.clips.keyframe_latents import KeyframeLatents
from longtake.engine.clips.noise_sampler import NoiseSampler
from longtake.engine.clips.resolution import Resolution
from longtake.engine.clips.stage import Stage
from longtake.models.interfaces import Conditioning, ContextFrames
from longtake.models.toy.clock import clock
from longtake.planning.window import LatentSource, Window

SAMPLER = NoiseSampler(CounterNoise((3,)), (2, 4, 4), "cpu", clip=1, first=10, temporal_compression=4)
COND = Conditioning((), ())


class Broken:
    """A session whose velocity is non-finite on every frame that was clean before the window, and 1 elsewhere."""

    def begin(self, window, context, cond):
        self.known = [f in context.latents for f in window.frames]

    def __call__(self, x, sigma):
        v = torch.ones_like(x)
        v[:, :, self.known] = torch.nan
        return v

    def finish(self, window, x): ...

    def state(self):
        return {"memory": torch.ones(1)}

    def load(self, state):
        self.memory = state["memory"]


def latent(value: float) -> torch.Tensor:
    return torch.full((1, 2, 4, 4), float(value))


def run(stage: Stage, window: Window, solver="euler", anchor=None):
    """The final latents of a window, and x after every step."""
    steps = list(stage.run(window, COND, ContextFrames({}, anchor=anchor), SOLVERS[solver]))
    return stage.finish(window, *steps[-1], ends_clip=True), [x for x, _ in steps]


@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_a_non_finite_velocity_on_context_leaves_the_context_and_the_rest_alone(solver):
    stage = Stage(Broken(), SAMPLER)
    stage.latents.put({0: latent(5)})
    table = torch.tensor([[0.0, 1.0, 1.0], [0.0, 0.6, 0.6], [0.0, 0.0, 0.0]], dtype=torch.float64)
    final, steps = run(stage, Window([0, 1, 2], table), solver)
    assert len(steps) == 2 and torch.equal(final[0], latent(5)) and list(final) == [0, 1, 2]
    assert all(torch.isfinite(value).all() for value in final.values())


def test_sources_are_put_before_the_model_is_conditioned():
    stage = Stage(Broken(), SAMPLER, KeyframeLatents([[latent(7)]], [latent(8)]))
    stage.latents.put({0: latent(5)})
    sources = {
        1: LatentSource("keyframe"), 2: LatentSource("end_frame"), 3: LatentSource("copy", 0), 4: LatentSource("anchor"),
    }  # fmt: skip
    window = Window(range(5), torch.zeros(2, 5, dtype=torch.float64), sources=sources)
    final, _ = run(stage, window, anchor=latent(9))
    assert [float(value.mean()) for value in final.values()] == [5, 7, 8, 5, 9]


def test_a_clip_without_an_anchor_takes_its_own_first_latent_for_it():
    stage = Stage(Broken(), SAMPLER)
    stage.latents.put({0: latent(5)})
    window = Window([0, 1], torch.zeros(2, 2, dtype=torch.float64), sources={1: LatentSource("anchor")})
    final, _ = run(stage, window)
    assert torch.equal(final[1], latent(5))


def test_upsampled_latents_are_renoised_and_the_old_version_is_blended_in():
    stage = Stage(Broken(), SAMPLER, upsample=lambda lower: lower.repeat_interleave(2, -1).repeat_interleave(2, -2))
    stage.latents.put({0: latent(5)})
    window = Window([0], torch.tensor([[0.5], [0.0]], dtype=torch.float64), blend=torch.tensor([0.25]))
    lower = torch.full((1, 2, 1, 2, 2), 3.0)
    steps = list(stage.run(window, COND, ContextFrames({}), lambda x, v, *rest: (torch.full_like(x, 1.0), None), lower))
    final = stage.finish(window, *steps[-1], ends_clip=True)
    assert torch.allclose(final[0], latent(0.75 * 5 + 0.25 * 1))


def test_noise_is_keyed_by_the_place_in_the_video_and_context_noise_by_the_step():
    window = Window([0, 1], torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
    noise = SAMPLER.draw(window, "start", [1])
    elsewhere = NoiseSampler(CounterNoise((3,)), (2, 4, 4), "cpu", clip=5, first=11, temporal_compression=4)
    assert torch.equal(noise, elsewhere.draw(window, "start", [0])), "output frame 11 either way"
    assert torch.equal(noise, SAMPLER.draw(window, "start", [1], step=3))
    assert not torch.equal(SAMPLER.draw(window, "context", [1]), SAMPLER.draw(window, "context", [1], step=3))
    sigmas = torch.tensor([0.5, 0.5])
    first, again = (SAMPLER.step_noise(window, sigmas, redone) for redone in ((), (1,)))
    assert torch.equal(first[:, :, 0], again[:, :, 0]) and not torch.equal(first[:, :, 1], again[:, :, 1])


def test_a_restored_stage_has_the_latents_and_the_memory_of_its_session():
    stage = Stage(Broken(), SAMPLER)
    stage.latents.put({3: latent(5)})
    tensors, facts = stage.state()
    again = Stage(Broken(), SAMPLER)
    again.load(tensors, facts)
    assert torch.equal(again.latents.frames[3].value, latent(5)) and float(again.session.memory) == 1


def test_input_frames_must_fill_whole_latents():
    model = clock(4)
    resolution = Resolution(model, CounterNoise((0,)), model.session)
    assert len(resolution.encode(torch.zeros(1, 3, 5, 16, 16))) == 2
    with pytest.raises(PlanError, match="3 input frames do not fill whole latent frames of 4: give 1 or 5 frames"):
        resolution.encode(torch.zeros(1, 3, 3, 16, 16))
