"""How far apart the blocks of a stream start, where nobody says."""

from itertools import islice

import pytest

from longtake.core.errors import PlanError
from longtake.planning.limits import Limits
from longtake.planning.strategies.registry import make_plan

LONG = 8  # windows that are compared


def begun(limits, **options):
    """Frames and levels of the first windows of an endless stream of 12 steps."""
    windows = make_plan("continuous", steps=12, **options).windows(None, 4, limits)
    return [(window.frames, window.sigmas.tolist()) for window in islice(windows, LONG)]


def test_the_usual_lag_is_two_calls_where_the_view_has_room():
    assert (
        begun(Limits(max_latent_frames=25))
        == begun(Limits(max_latent_frames=25), ar_step=2)
        != begun(Limits(max_latent_frames=25), ar_step=3)
    )


def test_and_more_where_blocks_would_not_fit():
    limits = Limits(max_latent_frames=20, block=5)
    assert begun(limits) == begun(limits, ar_step=3)
    with pytest.raises(PlanError, match="use --ar-step 3 or more"):
        begun(limits, ar_step=2)


@pytest.mark.parametrize("steps", [1, 7, 30, 50, 60])
@pytest.mark.parametrize("block", [1, 4, 5, 20])
def test_any_number_of_steps_fits(steps, block):
    windows = make_plan("continuous", steps=steps).windows(None, 4, Limits(max_latent_frames=20, block=block))
    assert all(len(window.frames) <= 20 for window in islice(windows, 100))
