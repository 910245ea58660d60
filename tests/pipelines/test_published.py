"""--published stands for named options, which a run records instead of it."""

import json
from dataclasses import replace

import pytest
import torch

import longtake
from longtake.cli import run
from longtake.core.options import SamplingOptions, changed
from longtake.core.process.notices import InputWarning
from longtake.models.ltx.checkpoint import open_folder
from longtake.models.ltx.presets import LTX, PUBLISHED
from longtake.models.wan.presets import PRESETS
from longtake.pipelines.settings.resolve import resolve_sampling
from longtake.pipelines.settings.run_settings import RunSettings
from tests.checkpoints import random_ltx

NAMES = {"sample_posterior", "decode_context_noise", "soft_on_schedule"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    opened = open_folder(random_ltx(tmp_path_factory.mktemp("published") / "m"))
    return replace(opened, defaults=replace(opened.defaults, published=PUBLISHED))


def test_each_family_says_what_its_published_code_does(model):
    assert set(PUBLISHED) == NAMES and LTX
    for preset in PRESETS.values():
        forcing = preset.kind == "df"
        assert preset.published == ({"solver": "unipc-skyreels"} if forcing else {})


def test_it_is_resolved_to_its_options_and_an_option_takes_precedence(model):
    resolved = resolve_sampling(model, SamplingOptions(published=True))
    assert resolved.published is None and all(getattr(resolved, name) for name in NAMES)
    assert not NAMES & changed(resolve_sampling(model, SamplingOptions())).keys()
    one = resolve_sampling(model, SamplingOptions(published=True, decode_context_noise=False))
    assert one.sample_posterior and not one.decode_context_noise
    sky = replace(model, defaults=replace(model.defaults, published={"solver": "unipc-skyreels"}))
    assert resolve_sampling(sky, SamplingOptions(published=True)).solver == "unipc-skyreels"
    assert resolve_sampling(sky, SamplingOptions(published=True, solver="euler")).solver == "euler"
    assert resolve_sampling(sky, SamplingOptions()).solver == "euler"


def test_a_run_records_the_options(model):
    picture = torch.randint(0, 256, (16, 16, 3), dtype=torch.uint8)
    few = dict(num_frames=17, steps=2, guidance=1.0, image=picture, strategy="relay", window=17, overlap=1)
    settings = RunSettings.of(model, "a", published=True, **few)
    facts = settings.facts()["sampling"]
    assert "published" not in facts and all(facts[name] is True for name in NAMES)
    assert RunSettings.from_facts(settings.facts()) == settings
    plain, published, named = (
        torch.cat(list(longtake.generate("a", model, **few, **options)))
        for options in ({}, dict(published=True), dict.fromkeys(NAMES, True))
    )
    assert torch.equal(published, named) and not torch.equal(plain, published)


def test_on_the_command_line_it_says_where_it_changes_nothing(tmp_path, capsys):
    out = tmp_path / "out"
    command = [
        "generate",
        "a red circle moves left",
        "--num-frames",
        "5",
        "--steps",
        "1",
        "--threads",
        "1",
        "--published",
    ]
    with pytest.warns(InputWarning, match="published code"):
        list(longtake.generate("a red circle moves left", num_frames=5, steps=1, published=True))
    assert run([*command, "-o", str(out)]) == 0
    assert "published" not in json.loads((out / "run.json").read_text())["settings"]["sampling"]
    said = capsys.readouterr()
    assert "--published changes nothing" in " ".join((said.out + said.err).split())
