"""What a plan of LTX-Video costs, before a weight is there: the figures of the reference, and a warning."""

import pytest

from longtake.cli.cost import operations, show, work
from longtake.guidance import Guidance
from longtake.models.ltx_presets import LTX
from longtake.plan import Limits, PlanError
from longtake.plans import plan
from longtake.settings import SettingsError

SMALL, BIG = LTX["ltx-2b-0.9.6-distilled"], LTX["ltx-13b-0.9.8-distilled"]


@pytest.mark.parametrize(
    ("preset", "tokens", "tera"), [(SMALL, 1536, 5.8), (SMALL, 6144, 29.3), (SMALL, 69_504, 1341), (BIG, 6144, 170)]
)
def test_one_call(preset, tokens, tera):
    assert operations(preset, tokens) / 1e12 == pytest.approx(tera, rel=0.03)  # theirs also reads the text


def test_a_minute_in_tiles():
    """1441 frames at 768 x 512 in 17 tiles of up to 7,680 tokens: 660 TFLOP a step."""
    windows = list(plan("looping", steps=8, tile=120, overlap=32, reference=1.0).windows(1441, 8, Limits(61)))
    found = work(windows, SMALL)
    assert len(windows) == 17 and found.tokens == 7680 and found.seconds < 20
    assert found.step / 1e12 == pytest.approx(660, rel=0.05) and found.operations == pytest.approx(8 * found.step)


def test_guidance_costs_what_its_branches_cost():
    windows = list(plan("clip", steps=4, window=25, overlap=0).windows(25, 8, Limits(61)))
    one = work(windows, SMALL).operations
    dev = LTX["ltx-2b-0.9.6-dev"]
    assert work(windows, dev).operations / one == pytest.approx(2 + 9 / 28)
    assert dev.guide != Guidance()


def test_it_is_printed_and_warns_beyond_the_positions(capsys):
    assert show(SMALL, "looping", dict(tile=120, overlap=32, reference=1.0), (512, 768), 1441, None) == 0
    said = capsys.readouterr().out
    assert "17, in 1 takes" in said and "7,680" in said and "warning" not in said and "768 x 512" in said
    assert show(SMALL, "clip", dict(window=1441), None, 1441, None) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "69,504" in said and "60 s, but the positions of LTX-Video end at 20 s" in said
    assert show(BIG, None, {}, None, None, 60.0) == 0
    assert "relay" in capsys.readouterr().out


def test_both_passes_are_counted_where_both_may_run(capsys):
    assert show(LTX["ltx-13b-0.9.8-dev"], None, {}, None, 121, None) == 0
    assert "with the upsampler beside the weights: 27 + 13 calls" in " ".join(capsys.readouterr().out.split())
    assert show(LTX["ltx-2b-0.9.5"], None, {}, None, 121, None) == 0
    assert "two passes" not in capsys.readouterr().out


def test_what_cannot_be_is_said():
    with pytest.raises(SettingsError, match="use 512x768"):
        show(SMALL, None, {}, (500, 768), None, 5.0)
    with pytest.raises(PlanError, match="481"):
        show(SMALL, "clip", {}, None, 1441, None)
