"""Errors are drawn with the configured probabilities, and added to the parts of a sample that they belong to."""

import math
from dataclasses import replace

import pytest
import torch

from longtake.train.objectives.error_bank import ErrorBank, VelocityError
from longtake.train.objectives.error_injection import (
    ErrorShares,
    InjectedErrors,
    draw_errors,
    published_sigmas,
    sigma_weight,
    with_errors,
)
from longtake.train.objectives.error_recycling_config import (
    PRESETS,
    ErrorRecyclingConfig,
)
from tests.train.recipes.recycled import B, C, F, H, rng, sample


def test_errors_are_added_to_their_parts():
    made, e = sample(2, dtype=torch.float64), torch.ones(C, F, H, H, dtype=torch.float64)
    got = with_errors(made, [InjectedErrors(video=e, noise=2 * e, context=3 * e[:, :2], clean=False), InjectedErrors()])
    assert torch.equal(got.video[0] - made.video[0], (made.video[0] + e) - made.video[0])
    assert torch.allclose(got.noise[0], made.noise[0] + 2) and torch.allclose(
        got.concat[0, 4:, :2], made.concat[0, 4:, :2] + 3
    )
    for name in ("video", "noise", "concat"):
        assert torch.equal(getattr(got, name)[1], getattr(made, name)[1]), "the other video is clean"
    behind = with_errors(
        replace(made, concat=None, clean_context=made.video),
        [InjectedErrors(context=e[:, :2], clean=False), InjectedErrors()],
    )
    assert torch.equal(behind.clean_context[0, :, :2], made.video[0, :, :2] + 1) and torch.equal(
        behind.video, made.video
    )
    assert torch.equal(behind.clean_context[0, :, 2:], made.video[0, :, 2:]) and torch.equal(
        behind.clean_context[1], made.video[1]
    )
    sigma = torch.tensor([[0.0, 0.02, 0.5, 0.5, 0.5, 0.5]] * B, dtype=torch.float64)
    held = with_errors(
        replace(made, concat=None, sigma=sigma), [InjectedErrors(context=e[:, :3], clean=False), InjectedErrors()]
    )
    assert (held.video - made.video).abs().amax((1, 3, 4))[0].bool().tolist() == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]


def test_sigmas_and_weights_are_the_published_ones():
    u = 1 - torch.arange(1000, dtype=torch.float64) / 1000
    grid = 5 * u / (1 + 4 * u)
    drawn = published_sigmas(rng(), 20000, 5.0).double()
    assert torch.isin((drawn * 1e6).round(), (grid.float().double() * 1e6).round()).all()
    assert float((drawn > 0.5).double().mean()) == pytest.approx(0.834, abs=0.015)
    assert float((drawn > 0.9).double().mean()) == pytest.approx(0.358, abs=0.015)
    assert float(drawn.median()) == pytest.approx(0.833, abs=0.01)
    known = {1.0: 0.0, 0.9: 0.631, 0.5: 2.076, 0.1: 0.638, 0.005: 0.032}
    for sigma, weight in known.items():
        assert float(sigma_weight(torch.tensor(sigma, dtype=torch.float64), 5.0)) == pytest.approx(weight, abs=0.012)
    assert float(sigma_weight(grid, 5.0).mean()) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_probability_is_as_configured(preset):
    """Counted over many draws; 4 standard deviations."""
    config, bank, generator, count = ErrorRecyclingConfig(preset=preset).errors, ErrorBank(4, 5.0), rng(11), 4000
    sigma = torch.full((F,), 0.7)
    bank.push(VelocityError(torch.randn(C, F, H, H), sigma), generator)
    tally, starts = {"video": 0, "noise": 0, "context": 0, "clean": 0}, []
    for _ in range(count):
        chosen = draw_errors(config, bank, sigma, generator)
        for name in tally:
            tally[name] += chosen.clean if name == "clean" else getattr(chosen, name) is not None
        starts += [] if chosen.context is None else [chosen.context.shape[1]]
    clean = PRESETS[preset]["clean_prob"]
    wanted = {name: PRESETS[preset][f"{name}_prob"] * (1 - clean) for name in ("video", "noise", "context")}
    wanted["clean"] = clean
    for name, share in wanted.items():
        assert abs(tally[name] / count - share) <= 4 * math.sqrt(share * (1 - share) / count) + 1e-9, (name, tally)
    assert set(starts) <= {3}


def test_an_empty_bank_adds_no_error_and_jitter_scales():
    config, sigma = ErrorShares(1.0, 0.01, 0.9, 0.0, jitter=0.3), torch.full((F,), 0.7)
    assert draw_errors(config, ErrorBank(4, 5.0), sigma, rng()).video is None
    bank = ErrorBank(4, 5.0)
    bank.push(VelocityError(torch.ones(C, F, H, H), sigma), rng())
    generator = rng(2)
    scales = [float(draw_errors(config, bank, sigma, generator).video.mean()) / -0.7 for _ in range(500)]
    assert 0.7 <= min(scales) < 0.73 and 1.27 < max(scales) <= 1.3


def test_context_errors_begin_anywhere_in_a_stored_error():
    config, bank, generator = ErrorShares(0.9, 0.01, 1.0, 0.0), ErrorBank(4, 5.0), rng(3)
    ramp = torch.arange(F, dtype=torch.float32)[None, :, None, None].expand(C, F, H, H)
    bank.push(VelocityError(ramp, torch.ones(F)), generator)
    first = [
        -float(draw_errors(config, bank, torch.full((F,), 0.2), generator).context[0, 0, 0, 0]) for _ in range(400)
    ]
    counts = torch.tensor(first).long().bincount(minlength=4)
    assert counts.tolist() == counts[:4].tolist() and (counts - 100).abs().max() < 36
