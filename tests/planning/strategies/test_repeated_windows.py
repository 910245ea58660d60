"""A plan of days is cheap to go through: windows that differ in their frames alone are made once."""

from __future__ import annotations

from itertools import islice

import pytest
import torch

from longtake.planning.limits import Limits
from longtake.planning.strategies import diffusion_forcing as stream
from longtake.planning.strategies import looping
from longtake.planning.strategies import sliding_window as chunks
from longtake.planning.strategies.registry import make_plan
from longtake.planning.strategies.repeated_windows import RepeatedWindows

PLANS = [
    ("sliding", {}), ("looping", {}), ("looping", dict(tile=40, overlap=24, reference=0.5)), ("relay", {}), ("async", {}), ("blocks", dict(causal_block_size=3)), ("continuous", dict(ar_step=2)),
    ("rolling", dict(steps=7)), ("rolling", dict(steps=10, causal_block_size=4)), ("continuous", dict(ar_step=3, causal_block_size=2, sink_frames=2)),
]  # fmt: skip


def facts(window):
    return (
        window.frames,
        window.positions,
        window.role,
        window.block,
        window.cut,
        window.revisable,
        window.context_noise_mode,
        window.text,
        window.sources,
        window.noise_draw,
    )


@pytest.mark.parametrize("known", [0, 1, 5])
@pytest.mark.parametrize(("name", "options"), PLANS)
def test_a_repeated_window_is_the_one_that_would_be_made_anew(monkeypatch, name, options, known):
    strategy, plain = make_plan(name, **{"steps": 6, **options}), RepeatedWindows.__call__
    kept = []
    monkeypatch.setattr(RepeatedWindows, "__call__", lambda self, *a: kept.append(len(self.made)) or plain(self, *a))
    repeated = list(islice(strategy.windows(None, 4, Limits(25), known), 24))
    assert kept[-1] < len(kept) == 24
    monkeypatch.setattr(RepeatedWindows, "__call__", lambda self, alike, frames, make: make())
    for one, other in zip(repeated, strategy.windows(None, 4, Limits(25), known), strict=False):
        assert facts(one) == facts(other) and torch.equal(one.sigmas, other.sigmas)
        assert (one.blend is None) == (other.blend is None) and (
            one.blend is None or torch.equal(one.blend, other.blend)
        )


@pytest.mark.parametrize(("name", "options"), PLANS[:-1])
def test_a_thousand_windows_make_few_tables(monkeypatch, name, options):
    made = []
    for place in (chunks, stream):
        monkeypatch.setattr(place, "staircase", lambda *a, real=place.staircase: made.append(1) or real(*a))
    monkeypatch.setattr(looping, "with_keyframes", lambda *a, real=looping.with_keyframes: made.append(1) or real(*a))
    assert len(list(islice(make_plan(name, **{"steps": 6, **options}).windows(None, 4, Limits(25)), 1000))) == 1000
    assert 0 < len(made) < 100
