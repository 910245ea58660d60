"""Any setting of any strategy either counts exactly or is refused in a sentence; nothing is ever left as noise."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.models.clock import clock
from longtake.plan import PlanError
from longtake.plans import PLANS, plan
from tests.worlds import count, is_chunks, limits_for


@st.composite
def requests(draw):
    """A strategy with options that need not make sense, a stride, a view and a number of frames."""
    name, stride, view = (
        draw(st.sampled_from(sorted(PLANS))),
        draw(st.sampled_from([1, 4, 8])),
        draw(st.integers(2, 14)),
    )
    options = dict(steps=draw(st.integers(1, 6)))
    if name == "looping":
        tiles = st.integers(1, view + 1).map(lambda latents: stride * latents)
        options |= dict(tile=draw(tiles), overlap=draw(tiles), strength=draw(st.sampled_from([0.3, 0.5, 1.0])))
        options |= dict(reference=draw(st.sampled_from([0.0, 0.8])))
        return name, stride, view, options, draw(st.integers(1, 120))
    options["block"] = draw(st.integers(0, 6))
    whole = st.integers(0, view + 1).map(lambda latents: 1 + stride * latents)
    odd = st.integers(0, 1 + stride * view)
    if draw(st.booleans()):
        options["window"] = draw(whole | odd.map(lambda n: n + 1))
    if is_chunks(name):
        options["overlap"] = draw(whole | odd)
        options["lag"] = draw(st.integers(0, 7)) if name in ("sliding", "async", "relay") else 0
        if name in ("sliding", "relay"):
            options["hand"] = draw(st.sampled_from(["tape", "latents", "pixels", "pixels8"]))
            options["keep"] = draw(st.sampled_from(["old", "old", "new", "blend"]))
    if not is_chunks(name) and name != "clip":
        options |= dict(sinks=draw(st.integers(0, 3)), eager=draw(st.booleans()))
        options["past"] = draw(st.none() | st.integers(0, 5))
        if name == "endless":
            options["lag"] = draw(st.integers(0, 7))
    return name, stride, view, options, draw(st.integers(1, 120))


@settings(max_examples=400, deadline=None)
@given(requests())
def test_it_counts_or_is_refused(request):
    name, stride, view, options, frames = request
    model = clock(stride, view=view, context=limits_for(name, view).context)
    try:
        numbers = count(model, plan(name, **options), frames)
    except PlanError as error:
        assert len(str(error)) > 20
        return
    assert numbers == list(range(frames))


@pytest.mark.parametrize("option", ["grid", "hand", "keep", "noise"])
def test_a_choice_that_there_is_not_is_refused(option):
    with pytest.raises(PlanError, match=f"--{option} is one of"):
        plan("sliding", **{option: "wild"})
