"""Any setting of any strategy either counts exactly or is refused in a sentence; no frame is ever left as noise."""

from types import NoneType
from typing import Literal, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.core.errors import PlanError
from longtake.planning.strategies.options import SCHEDULE_OPTIONS
from longtake.planning.strategies.registry import STRATEGIES, make_plan
from longtake.testing.strategies import StrategyCase, check_request


def values(kind, temporal_compression: int, view: int):
    """Values of an option by its type: choices, switches, shares, and numbers of which many are whole latent frames."""
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    kinds = [one for one in get_args(kind) or (kind,) if one is not NoneType]
    none = st.none() if NoneType in get_args(kind) else st.nothing()
    for words in [one for one in kinds if get_origin(one) is Literal]:
        none |= st.sampled_from(get_args(words))
        kinds.remove(words)
    if kinds == [bool]:
        return st.booleans()
    if kinds == [float]:
        return none | st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.8, 1.0])
    assert kinds == [int], f"no values for options of type {kind}"
    latents = st.integers(0, view + 1)
    whole = latents.map(lambda n: temporal_compression * n) | latents.map(lambda n: 1 + temporal_compression * n)
    return none | st.integers(0, 7) | whole | st.integers(1, 1 + temporal_compression * view)


@st.composite
def requests(draw):
    """A strategy with options that need not make sense, a compression, a view and a number of frames."""
    name = draw(st.sampled_from(sorted(STRATEGIES)))
    temporal_compression, view = draw(st.sampled_from([1, 4, 8])), draw(st.integers(2, 14))
    own = {key: one.type for key, one in STRATEGIES[name].options().items() if key not in SCHEDULE_OPTIONS}
    chosen = draw(st.lists(st.sampled_from(sorted(own)), max_size=4, unique=True))
    options = {key: draw(values(own[key], temporal_compression, view)) for key in chosen}
    options["steps"] = draw(st.integers(1, 6))
    return StrategyCase(name, temporal_compression, options), draw(st.integers(1, 120)), view


@pytest.mark.long
@settings(max_examples=400, deadline=None)
@given(requests())
def test_it_counts_or_is_refused(request):
    check_request(*request)


@pytest.mark.parametrize("option", ["sigma_spacing", "handoff", "overlap_source", "context_noise_mode"])
def test_a_choice_that_does_not_exist_is_refused(option):
    with pytest.raises(PlanError, match=f"--{option.replace('_', '-')} is one of"):
        make_plan("sliding", **{option: "wild"})
