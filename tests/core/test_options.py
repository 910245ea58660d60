"""Options: a field is declared once, and found by its name or its short name."""

from dataclasses import replace
from typing import Literal

import pytest

from longtake.core.errors import PlanError, SettingsError
from longtake.core.guidance_settings import Guidance
from longtake.core.options import GROUPS, SamplingOptions, changed, check_names, check_value, declared, split
from longtake.core.sigmas import SigmaSchedule
from longtake.models.runtime.load_options import LoadOptions, LoadOptionsError
from longtake.pipelines.settings.request import Request


def test_keywords_are_sorted_by_the_class_that_declares_them():
    (sampling,), rest = split({"steps": 4, "guidance_scale": 2.0, "overlap": 5, "fps": None}, SamplingOptions)
    assert sampling == SamplingOptions(num_inference_steps=4, guidance_scale=2.0) and rest == {"overlap": 5}


def test_an_option_under_both_of_its_names_is_refused():
    with pytest.raises(SettingsError, match="steps is short for num_inference_steps"):
        split({"steps": 4, "num_inference_steps": 5}, SamplingOptions)


def test_only_changed_options_are_recorded():
    assert changed(SamplingOptions()) == {}
    assert changed(SamplingOptions(seed=3, negative_prompt="blur")) == {"negative_prompt": "blur", "seed": 3}


def test_every_option_says_what_it_does_in_a_sentence_and_belongs_to_a_group():
    for field in declared(SamplingOptions):
        assert field.metadata["help"].endswith(".") and field.metadata["group"] in GROUPS, field.name


def test_the_schedule_of_a_strategy_is_four_of_the_options():
    options = SamplingOptions(seed=1).with_schedule(SigmaSchedule(steps=7, shift=3.0))
    assert options.schedule() == dict(steps=7, shift=3.0, sigma_spacing="linear", sigmas="")
    assert replace(options, **dict.fromkeys(("num_inference_steps", "shift", "sigma_spacing", "sigmas"))).seed == 1


def test_a_missing_side_is_that_of_the_model():
    assert SamplingOptions(height=32).size((16, 24)) == (32, 24) and not SamplingOptions().sized


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(SettingsError, match="did you mean 'shift'"):
        check_names(["shft"], ["shift", "seed"], "the pipeline")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", "3"), ("seed", 1.5), ("seed", True), ("num_inference_steps", 2.5), ("guidance_scale", "3"),
        ("height", 16.0), ("fps", "24"), ("negative_prompt", ["a"]), ("sigmas", 0.5), ("control_scale", None),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused_by_the_name_of_its_flag(name, value):
    with pytest.raises(SettingsError, match=f"--{name.replace('_', '-')} must be"):
        SamplingOptions(**{name: value})


def test_a_whole_number_is_a_number_and_another_type_takes_its_objects():
    check_value("fps", 24, "float | None")
    check_value("overlap", None, int | None)
    check_value("mode", "frozen", Literal["frozen", "resampled"])
    assert SamplingOptions(guidance_scale=Guidance((3.0,))).guidance_scale == Guidance((3.0,))
    with pytest.raises(ValueError, match="scale is a tuple"):
        Guidance(scale=[3.0])  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [dict(fp8="yes"), dict(compile=1), dict(step_cache="x"), dict(device=5)])
def test_loading_options_of_another_type_are_refused(options):
    with pytest.raises(LoadOptionsError, match="must be"):
        LoadOptions(**options)


@pytest.mark.parametrize(
    "keywords",
    [dict(num_frames=5.5), dict(seconds="1"), dict(endless="yes"), dict(video=5), dict(control=5), dict(loras=["x"])],
)
def test_requests_of_another_type_are_refused(keywords):
    with pytest.raises(SettingsError, match=r"must be|is a list"):
        Request.of("a ball", **keywords)


def test_the_number_of_steps_has_an_end():
    for options in (dict(steps=0), dict(steps=10**8), dict(sigmas="1,nan,0.2"), dict(sigmas="nan")):
        with pytest.raises(PlanError, match="must"):
            SigmaSchedule(**options)
