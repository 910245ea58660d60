"""Requests of jobs: the keyword arguments of a call, as JSON, checked by the same classes."""

import json
from pathlib import Path

import pytest

from longtake.core.errors import InputError, PlanError, ScriptError, SettingsError
from longtake.core.options import SamplingOptions
from longtake.pipelines.settings.request import Length
from longtake.runs.jobs.request import JobRequest


def test_a_request_sorts_keywords_as_a_call_does(tmp_path):
    made = JobRequest.of(
        prompt="a red ball", seconds=4, size="64x32", steps=3, strategy="sliding", window=17, fp8=True,
        loras=[("a.safetensors", 0.5)], addnoise_condition=20, strength=0.5,
    ).with_inputs({"image": tmp_path / "IMAGE.PNG"})  # fmt: skip
    request = made.request(tmp_path)
    assert request.length == Length(seconds=4)
    assert request.sampling == SamplingOptions(height=32, width=64, num_inference_steps=3)
    assert request.strategy_options["window"] == 17 and request.strategy_options["context_noise"] == 0.02
    assert request.load.fp8 and request.loras == [("a.safetensors", 0.5)]
    assert request.inputs.image == tmp_path / "image.png"


def test_a_request_is_the_same_after_json():
    scenes = ["a storm", ("calm", 5), {"prompt": "rain", "cut": True, "lora": {"a.safetensors": 0.5}}]
    for made in (JobRequest.of(prompt="x", seed=3, endless=True), JobRequest.of(scenes=scenes, loras=[("b", 1.0)])):
        again = JobRequest.from_facts(json.loads(json.dumps(made.facts())))
        assert json.dumps(again.facts()) == json.dumps(made.facts())
        assert again.request(Path()).script == made.request(Path()).script


@pytest.mark.parametrize(
    ("keywords", "error", "says"),
    [
        (dict(prompt="x", sekonds=3), SettingsError, "did you mean 'seconds'"),
        (dict(prompt="x", seconds="three"), SettingsError, "--seconds must be a number"),
        (dict(prompt="x", seconds=1, num_frames=3), SettingsError, "contradict"),
        (dict(prompt="x", scenes=["y"]), ScriptError, "not both"),
        (dict(), ScriptError, "give a prompt"),
        (dict(prompt=3), ScriptError, "must be text"),
        (dict(prompt="x", strategy="slidng"), PlanError, "sliding"),
        (dict(prompt="x", strategy="clip", tile=3), PlanError, "has no --tile"),
        (dict(prompt="x", size="large"), SettingsError, "WIDTHxHEIGHT"),
        (dict(prompt="x", image="/etc/passwd"), SettingsError, "is a file"),
        (dict(prompt="x", device="cuda"), SettingsError, "no option 'device'"),
        (dict(prompt="x", window=object()), InputError, "JSON"),
    ],
)
def test_what_no_model_could_use_is_refused(keywords, error, says):
    with pytest.raises(error, match=says):
        JobRequest.of(**keywords)


def test_the_prompt_of_a_job_is_never_read_as_a_file(tmp_path, monkeypatch):
    (tmp_path / "secret.txt").write_text("a secret")
    monkeypatch.chdir(tmp_path)
    assert JobRequest.of(prompt="secret.txt").request(tmp_path).script == "secret.txt"


def test_merging_replaces_what_says_the_same_in_another_way():
    own = JobRequest.of(prompt="a", seconds=4, size="64x64", steps=3, seed=5, strategy="sliding", overlap=9)
    assert own.merged({"scenes": ["b", "c"]}).text == "b\nc"
    assert own.merged({"num_frames": 25}).options["num_frames"] == 25
    assert own.merged({"size": "32x32"}).options["height"] == 32
    assert own.merged({"num_inference_steps": 2}).options == {**own.options, "num_inference_steps": 2}
    other = own.merged({"strategy": "looping"})
    assert "overlap" not in other.options and other.seed == 5
