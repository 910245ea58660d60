"""What a plan of LTX-Video costs, before a weight is there: the figures of the reference, and a warning."""

import pytest

from longtake.cli import run
from longtake.core.errors import PlanError
from longtake.core.guidance_settings import Guidance
from longtake.models.ltx.cost import flops, spec
from longtake.models.ltx.presets import LTX
from longtake.planning.limits import Limits
from longtake.planning.strategies.registry import make_plan

SMALL, BIG = LTX["ltx-2b-0.9.6-distilled"], LTX["ltx-13b-0.9.8-distilled"]


@pytest.mark.parametrize(
    ("preset", "tokens", "tera"), [(SMALL, 1536, 5.8), (SMALL, 6144, 29.3), (SMALL, 69_504, 1341), (BIG, 6144, 170)]
)
def test_one_call(preset, tokens, tera):
    assert flops(preset.config(), tokens) / 1e12 == pytest.approx(tera, rel=0.03)  # theirs also reads the text


def work(windows, preset):
    found = spec(None, preset)
    return found.work(windows, found.format, found.defaults.guidance)


def test_a_minute_in_tiles():
    """1441 frames at 768 x 512 in 17 tiles of up to 7,680 tokens take 660 TFLOP a step."""
    windows = list(make_plan("looping", steps=8, tile=120, overlap=32, reference=1.0).windows(1441, 8, Limits(61)))
    found = work(windows, SMALL)
    assert len(windows) == 17 and found.tokens == 7680 and found.seconds < 20
    assert found.step_flops / 1e12 == pytest.approx(660, rel=0.05)
    assert found.flops == pytest.approx(8 * found.step_flops)


def test_guidance_costs_what_its_branches_cost():
    windows = list(make_plan("clip", steps=4, window=25, overlap=0).windows(25, 8, Limits(61)))
    dev = LTX["ltx-2b-0.9.6-dev"]
    assert work(windows, dev).flops / work(windows, SMALL).flops == pytest.approx(2 + 9 / 28)
    assert dev.guide != Guidance()


def printed(capsys, *arguments):
    assert run(["plan", *arguments]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_the_cost_is_printed_with_a_warning_beyond_the_positions(capsys):
    small = ["--model", SMALL.name, "--num-frames", "1441"]
    said = printed(
        capsys, "looping", *small, "--tile", "120", "--overlap", "32", "--reference", "1", "--size", "768x512"
    )
    assert "17, in 1 clips" in said and "7,680" in said and "warning" not in said and " 768x512 " in said
    for words in ("time at half", "RTX 4090", "weights 18.4 GB: network 3.85 GB", "memory about", "disk about"):
        assert words in said, words
    said = printed(capsys, "clip", *small, "--window", "1441")
    assert "69,504" in said and "60 s, but the positions of this network end at 20 s" in said
    assert "relay" in printed(capsys, "--model", BIG.name, "--seconds", "60")


def test_both_stages_are_counted_where_both_may_run(capsys):
    said = printed(capsys, "--model", "ltx-13b-0.9.8-dev", "--num-frames", "121")
    assert "with the latent upsampler: 27 + 13 calls" in said
    assert "two stages" not in printed(capsys, "--model", "ltx-2b-0.9.5", "--num-frames", "121")


def test_impossible_requests_are_refused(capsys):
    with pytest.raises(PlanError, match="use --size 768x512"):
        spec(None, SMALL, (500, 768))
    assert run(["plan", "clip", "--model", SMALL.name, "--num-frames", "1441"]) == 2
    assert "481" in capsys.readouterr().err
