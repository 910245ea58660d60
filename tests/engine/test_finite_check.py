"""NaN and infinity: named by window, step and frame where they arise, and by row or tensor where they enter."""

from dataclasses import replace

import pytest
import torch

from longtake.core.errors import NonFiniteError, PlanError
from longtake.core.finite import first_non_finite, is_finite
from longtake.engine.build import build_rollout
from longtake.engine.control import ControlSignal
from longtake.engine.events import Frames, StepDone
from longtake.engine.finite_check import FiniteCheck
from longtake.engine.inputs import RolloutInputs
from longtake.models import load
from longtake.models.model import NetworkFeatures
from longtake.planning.keyframes import Keyframe
from longtake.planning.script import Script
from longtake.planning.strategies.registry import make_plan

BAD = [float("nan"), float("inf"), -float("inf")]


class Spoiled:
    """A session that returns a bad velocity for one column, or a slice of them, at call number `call` (from 0)."""

    def __init__(self, session, call, value, column=-1):
        self.session, self.call, self.value, self.column, self.calls = session, call, value, column, 0

    def __getattr__(self, name):
        return getattr(self.session, name)

    def __call__(self, x, sigma):
        velocity = self.session(x, sigma).clone()
        if self.calls == self.call:
            velocity[:, 0, self.column] = self.value
        self.calls += 1
        return velocity


def spoiled(call, value=float("nan"), name="sliding", seconds=3.0, inputs=None, model=None, **options):
    """A rollout of a clock whose model fails at one call."""
    model = model or load("clock")
    if call is not None:
        session, made = model.session, []
        one = lambda: made[0] if made else made.append(Spoiled(session(), call, value)) or made[0]
        model = replace(model, session=one)
    plan = make_plan(name, **{"steps": 4, "window": 33, "overlap": 9, **options})
    return build_rollout(model, Script.of("a", 24, seconds), plan, inputs)


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("call", [0, 3, 6, 9])
def test_the_first_bad_step_is_named(call, value):
    events = []
    with pytest.raises(NonFiniteError) as error:
        for event in spoiled(call, value).run():
            events.append(event)
    assert f"window {call // 4} (from 0), step {call % 4 + 1} of 4: the latents of output frames" in str(error.value)
    assert "likely causes: damaged weights" in str(error.value) and "LoRA" not in str(error.value)
    assert sum(isinstance(event, StepDone) for event in events) == 4 * (call // 4 + 1)  # read once per window
    assert sum(event.video.shape[2] for event in events if isinstance(event, Frames)) == (0, 33, 57)[call // 4]


def test_the_frames_of_the_bad_column_are_named():
    with pytest.raises(NonFiniteError, match="output frames 29 to 32 are NaN"):
        list(spoiled(0, seconds=33 / 24).run())


def test_every_likely_cause_is_named():
    model = replace(load("clock"), features=NetworkFeatures(dtype=torch.float16))
    with pytest.raises(NonFiniteError, match=r"float16 overflows .use --dtype bf16.*damaged weights"):
        list(spoiled(2, model=model).run())


@pytest.mark.parametrize("name", ["clip", "relay", "async", "rolling", "blocks"])
def test_every_strategy_stops(name):
    options = {"steps": 2} if name == "clip" else {"steps": 4}
    plan = make_plan(name, **options)
    model, made = load("clock"), []
    session = model.session

    def one():
        made.append(Spoiled(session(), 1, float("nan"), slice(None)))
        return made[-1]

    with pytest.raises(NonFiniteError, match=r"step [12] of"):
        list(build_rollout(replace(model, session=one), Script.of("a", 24, 2.0), plan).run())


def test_a_decoder_that_overflows_is_named_with_its_frame():
    model = load("clock")

    class Decoder:
        def __init__(self, inner):
            self.inner, self.flush = inner, inner.flush

        def push(self, latents):
            video = self.inner.push(latents).clone()
            video[:, 1, -2, 3] = float("inf")
            return video

    class VAE:
        def __init__(self, inner):
            self.inner = inner

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def decoder(self):
            return Decoder(self.inner.decoder())

    with pytest.raises(NonFiniteError, match="decoded output frame 27 to NaN or infinity"):
        list(spoiled(None, model=replace(model, vae=VAE(model.vae))).run())


def test_a_check_costs_no_wait_per_step():
    """What is noted stays on the device of the latents: on the meta device nothing can be read at all."""
    check, x = FiniteCheck(3), torch.empty(1, 4, 5, 2, 2, device="meta")
    for _ in range(3):
        check.note(x)
    assert check.sums.device.type == "meta" and check.sums.shape == (3, 5)
    assert check.first_bad() is None


def test_context_that_is_bad_from_the_start_counts_for_the_first_step():
    check, x = FiniteCheck(2), torch.zeros(2, 3, 4, 2, 2)
    check.note(x)
    assert check.first_bad() is None
    x[1, 2, 3, 0, 1] = float("inf")
    check.note(x)
    assert check.first_bad() == (2, [3])


# ---------------------------------------------------------------- where numbers enter
def frames(count=1):
    return torch.zeros(1, 3, count, 16, 16)


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("given", ["start", "anchor", "end", "keyframe"])
def test_bad_pixels_are_refused_by_name(given, value):
    bad = frames()
    bad[0, 1, 0, 2, 3] = value
    some = {"start": frames(), given: bad} if given != "keyframe" else {"keyframes": [Keyframe(8, bad)]}
    words = {"start": "the first frames", "anchor": "anchor", "end": "last image", "keyframe": "keyframe at frame 8"}
    with pytest.raises(PlanError, match=f"{words[given]}.* hold NaN or infinity"):
        spoiled(None, inputs=RolloutInputs(**some))


@pytest.mark.parametrize("value", BAD)
def test_a_bad_row_of_a_control_signal_is_named(value):
    rows = torch.zeros(7, 2)
    rows[4, 1] = value
    with pytest.raises(PlanError, match=r"row 4 .from 0. of the control signal"):
        ControlSignal(rows)


def test_a_prompt_that_is_encoded_to_nan_is_named():
    model = load("clock")

    class Text:
        unknown, cut_off = model.text_encoder.unknown, model.text_encoder.cut_off

        def encode(self, prompts):
            return torch.full((len(prompts), 1, 1), float("nan"))

    with pytest.raises(NonFiniteError, match=r"the prompt 'a' is encoded to NaN .* bf16"):
        list(spoiled(None, model=replace(model, text_encoder=Text())).run())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2])
@pytest.mark.parametrize("value", BAD)
def test_one_bad_number_is_found_in_any_dtype(dtype, value):
    good = torch.randn(7, 33)
    bad = good.clone()
    bad[3, 4] = value
    assert is_finite(good.to(dtype)) and not is_finite(bad.to(dtype))
    assert first_non_finite([("a", good.to(dtype)), ("b", bad.to(dtype))]) == "b"


def test_finite_numbers_whose_sum_overflows_are_finite():
    assert is_finite(torch.full((1000,), 60000.0, dtype=torch.float16))
    assert is_finite(torch.full((4,), 3e38)) and is_finite(torch.arange(5)) and is_finite(torch.empty(0))
    assert is_finite(torch.empty(3, device="meta"))
