"""Windows on the output frames, and rates that are measured."""

from itertools import pairwise

import pytest

from longtake.core.errors import PlanError
from longtake.models.locate import builtin
from longtake.pipelines.estimate import spec_of
from longtake.planning.script import Scene, Script
from longtake.planning.strategies.registry import STRATEGIES
from longtake.studio.costs.rates import Rates
from longtake.studio.costs.windows import planned_spans


@pytest.fixture(scope="module")
def spec():
    return spec_of(str(builtin()["pocket"]))


@pytest.mark.parametrize("strategy", [name for name, one in STRATEGIES.items() if one.conditioning == "inpaint"])
def test_the_windows_of_a_strategy_cover_the_video_in_order(spec, strategy):
    script = Script.of([Scene("a", 4), Scene("b", 4)], 24)
    try:
        found = planned_spans(spec, strategy, {"steps": 4}, script)
    except PlanError as error:
        assert strategy in ("clip", "blocks"), (
            error
        )  # one window cannot show eight seconds, and blocks need a causal model
        return
    assert found[0].first == 0 and found[-1].end == 192
    assert all(one.first <= before.end for before, one in pairwise(found)), found
    assert all(one.first < one.end and one.steps > 0 for one in found)


def test_a_cut_begins_a_window_at_its_frame(spec):
    script = Script.of([Scene("a", 3), Scene("b", 3, cut=True)], 24)
    assert 72 in [one.first for one in planned_spans(spec, "sliding", {"steps": 4, "overlap": 17}, script)]


def test_an_endless_video_is_planned_a_minute_ahead(spec):
    script = Script.of("a", 24, endless=True)
    ends = [planned_spans(spec, "sliding", {"steps": 4, "overlap": 17}, script, made)[-1].end for made in (0, 24 * 600)]
    assert ends == [60 * 24, 660 * 24]


def test_rates_are_measured_and_kept(tmp_path):
    clock = iter([10.0, 14.0, 20.0, 21.0])
    rates = Rates(tmp_path / "rates.json", lambda id: "pocket", lambda: next(clock))
    rates.on_event("a", {"event": "window_started", "steps": 10, "latents": 5})
    rates.on_event("a", {"event": "state", "state": "completed"})
    assert rates.get("pocket") == pytest.approx(4.0 / 50)
    assert Rates(tmp_path / "rates.json", lambda id: None).get("pocket") == pytest.approx(0.08)
    rates.on_event("b", {"event": "window_started", "steps": 10, "latents": 5})
    rates.on_event("b", {"event": "state", "state": "failed"})
    assert rates.get("pocket") == pytest.approx(0.08) and rates.get("other") is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"pocket": "x", "other": -1}'])
def test_a_damaged_file_of_rates_is_no_rate(tmp_path, text):
    (tmp_path / "rates.json").write_text(text)
    assert Rates(tmp_path / "rates.json", lambda id: None).get("pocket") is None
