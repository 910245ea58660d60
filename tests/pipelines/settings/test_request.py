"""Requests: what a user asks for is the same whether it comes from flags, from a call or from a pipeline."""

import inspect

import pytest

import longtake
from longtake.cli.flags.video import video_order
from longtake.core.errors import PlanError, SettingsError
from longtake.core.options import SamplingOptions, declared
from longtake.models.toy.clock import clock
from longtake.pipelines.settings.request import Inputs, Length, Request
from longtake.pipelines.settings.run_settings import RunSettings


class Flags:
    """Stands in for the parsed flags of a command line."""

    def __init__(self, **given):
        vars(self).update(given)


def test_flags_and_calls_add_up_to_the_same_request():
    flags = Flags(num_inference_steps=4, overlap=5, strategy="relay", seconds=2.0, size="32x16")
    order = video_order("generate", "a ball", flags)
    called = Request.of(
        "a ball", strategy="relay", steps=4, overlap=5, seconds=2.0, height=16, width=32, load=order.load
    )
    assert list(order.requests) == [called] and order.command.model == "pocket"


def test_settings_survive_their_record():
    settings = RunSettings.of(clock(), "a", seconds=2, seed=3, steps=4, guidance_scale=1.0)
    again = RunSettings.from_facts(settings.facts())
    assert again == settings and again.sampling.num_inference_steps == 4
    with pytest.raises(SettingsError, match="use the version that started it"):
        RunSettings.from_facts(settings.facts() | {"colour": "red"})


@pytest.mark.parametrize(
    "damage",
    [
        dict(model=5), dict(strategy=5), dict(strategy="nope"), dict(strategy_options=dict(overlap="a")), dict(inputs=5),
        dict(strategy_options=dict(nope=1)), dict(load=dict(fp8="yes")), dict(loras=[]), dict(sampling={}), dict(sampling=5),
        dict(sampling=dict(fps=24.0, solver="nope")), dict(sampling=dict(fps=24.0, solver="euler", guidance_scale=[1])),
        dict(script=[]), dict(script=dict(scenes=[], starts=[], frames=5)),
        dict(script=dict(scenes=[dict(prompt="a")], starts=[0], frames="x")),
        dict(script=dict(scenes=[dict(prompt="a")], starts=[0, 5], frames=9)),
    ],
)  # fmt: skip
def test_a_record_with_a_value_that_no_run_has_is_refused(damage):
    settings = RunSettings.of(clock(), "a", seconds=2, steps=4)
    with pytest.raises(SettingsError, match="use the version that started it"):
        RunSettings.from_facts(settings.facts() | damage)


def test_a_length_is_one_of_three():
    assert Length(num_frames=48).in_seconds(24, 10.0) == 2.0 and Length().in_seconds(24, 10.0) == 10.0
    assert Length(endless=True).in_seconds(24, 10.0) is None
    with pytest.raises(SettingsError, match="--seconds and --num-frames contradict"):
        Length(seconds=1.0, num_frames=3)


@pytest.mark.parametrize(("name", "hint"), [
    ("num_inference_step", "did you mean 'num_inference_steps'?"), ("cfg", "use 'guidance_scale'"),
    ("overlap_history", "use 'overlap'"), ("end_image", "use 'last_image'"),
])  # fmt: skip
def test_an_unknown_keyword_gets_the_name_that_was_probably_meant(name, hint):
    with pytest.raises(SettingsError, match=f"there is no option '{name}'") as caught:
        Request.of("a red ball", **{name: 5})
    assert hint in str(caught.value)


def test_an_image_and_a_video_cannot_both_come_first():
    with pytest.raises(PlanError, match="not both"):
        Inputs(image="a.png", video="b.mp4")


@pytest.mark.parametrize(
    "call",
    [
        longtake.generate,
        longtake.generate_video,
        longtake.SkyReelsV2Pipeline.stream,
        longtake.LTXVideoPipeline.stream,
    ],
)
def test_calls_name_every_sampling_option_in_their_signature_and_docstring(call):
    names = [field.name for field in declared(SamplingOptions)]
    assert set(names) <= set(inspect.signature(call).parameters)
    assert all(f"{name}: " in (call.__doc__ or "") for name in names)


def test_every_public_name_exists():
    assert all(hasattr(longtake, name) for name in longtake.__all__)


def test_a_scale_without_a_control_signal_is_refused():
    with pytest.raises(SettingsError, match="give --control too"):
        RunSettings.of(clock(), "a", seconds=2, control_scale=3.0)
