"""Step caching is off by default, decided per frame and per guidance branch, and exact to resume."""

import os
from dataclasses import replace

import pytest
import torch

from longtake.cli import run
from longtake.engine.build import build_rollout
from longtake.engine.events import Frames
from longtake.models import load
from longtake.models.runtime.calibration import Calibration, StepCacheError
from longtake.models.runtime.step_cache import StepCache, caching_sessions, with_session_cache, with_step_cache
from longtake.models.wan.config import WanConfig
from longtake.models.wan.step_cache import CALIBRATIONS, published_calibration
from longtake.planning.script import Script
from longtake.planning.strategies.registry import make_plan
from longtake.planning.window import Window
from longtake.runs.files.manifest import manifest_of
from tests.checkpoints import random_wan
from tests.rollouts import recorded, resumed

PLAIN = Calibration((1.0, 0.0), first=1, last=1)  # the residual changes as much as the embedding
STAIRS = torch.tensor(
    [[1.0, 1.0, 0.0], [0.8, 1.0, 0.0], [0.6, 0.8, 0.0], [0.4, 0.6, 0.0], [0.2, 0.4, 0.0], [0.0, 0.2, 0.0], [0.0, 0.0, 0.0]]
)  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    return {causal: load(random_wan(folder / str(causal), causal=causal)) for causal in (False, True)}


def video(model, strategy, guidance=1.0, batched=True) -> torch.Tensor:
    run = build_rollout(model, Script.of("a red ball", 24, 40 / 24), strategy, guidance=guidance, batched=batched)
    return torch.cat([event.video for event in run.run() if isinstance(event, Frames)], 2)


def kept(model, threshold, calibration=PLAIN):
    """Return the model with caching, and the list of the caches that its sessions will have."""
    caches = []

    def make():
        caches.append(StepCache(calibration, threshold))
        return caches[-1]

    return with_session_cache(model, make), caches


def rows(cache: StepCache, window: Window, embedding) -> list[bool]:
    """Return for every row of a window whether it is computed, if a sigma has the embedding `embedding(sigma)`."""
    cache.begin(window)
    found = []
    for row in range(window.steps):
        moves = (window.sigmas[row] != window.sigmas[row + 1]).nonzero()[:, 0].tolist()
        embeddings = torch.stack([embedding(sigma) for sigma in window.sigmas[row, moves]])
        found.append(not cache.can_skip(row, moves, embeddings, layout=1))
        if found[-1]:
            cache.store(moves, torch.zeros(1, len(moves), 1, 1))
    return found


def linear(sigma):
    return torch.full((4,), 10.0 + float(sigma))


def test_each_frame_is_judged_alone():
    """The first and last steps of both frames of a staircase are computed; a context frame has no say."""
    assert rows(StepCache(PLAIN, 1e9), Window(range(3), STAIRS), linear) == [True, True, False, False, True, True]
    assert rows(StepCache(replace(PLAIN, last=0), 1e9), Window(range(3), STAIRS), linear) == [True, True] + [False] * 4
    assert rows(StepCache(PLAIN, 0.0), Window(range(3), STAIRS), linear) == [True] * 6


def test_changes_add_up_until_a_call_is_computed():
    sigmas = torch.linspace(1, 0, 11)[:, None].expand(-1, 2)
    calibration = Calibration((1.0, 0.0), first=1, last=0)
    step = 0.1 / 10.5  # the relative change of each step, about
    assert rows(StepCache(calibration, 2.5 * step), Window(range(2), sigmas), linear) == [True, False, False] * 3 + [
        True
    ]


def test_a_frame_that_enters_partly_denoised_has_had_its_first_steps():
    sigmas = torch.tensor([[0.6, 1.0], [0.5, 0.9], [0.4, 0.8], [0.3, 0.7]])
    alone = Window([0], sigmas[:, :1].clone())
    assert rows(StepCache(replace(PLAIN, first=2), 1e9), alone, linear) == [True, True, False]  # its window starts here
    together = Window([0, 1], sigmas)
    together.sigmas[:, 1] = torch.tensor([1.0, 1.0, 1.0, 1.0])
    assert rows(StepCache(replace(PLAIN, first=2), 1e9), together, linear) == [True, False, False]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", ["sliding", "async"])
def test_a_tiny_threshold_changes_no_frame(models, causal, name):
    strategy = make_plan(name, steps=4, window=33, overlap=5, **(dict(ar_step=1) if name == "async" else {}))
    model, caches = kept(models[causal], 1e-9, Calibration((1.0, 1.0)))
    assert torch.equal(video(model, strategy), video(models[causal], strategy))
    assert caches[0].skipped == 0


def test_the_velocity_from_a_stored_residual_equals_the_computed_one(models):
    """The residual of a call at the same x and sigma gives the velocity of that call."""
    net = caching_sessions(models[False].session())[0].net
    x, text = torch.randn(1, 4, 3, 4, 4), torch.randn(1, 5, 10)
    residuals = []
    want = net(x, torch.tensor([0.9, 0.5, 0.0]), text, residuals=residuals, out=[0, 1])
    got = net.forward_cached(x[:, :, :2], torch.tensor([0.9, 0.5]), residuals[0])
    assert torch.allclose(want, got, atol=1e-5)


@pytest.mark.parametrize("batched", [True, False])
def test_guidance_branches_have_caches_of_their_own(models, batched):
    strategy = make_plan("sliding", steps=8, window=33, overlap=5)
    exact = video(models[False], strategy, 3.0)
    model, caches = kept(models[False], 1e9)
    near = video(model, strategy, 3.0, batched)
    calls = {(c.computed, c.skipped) for c in caches if c.computed}
    assert calls == {(4, 12)} and len([c for c in caches if c.computed]) == (1 if batched else 2)
    assert not torch.equal(exact, near) and (exact - near).abs().mean() < 0.5 * exact.abs().mean()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("name", "options"), [("async", dict(window=33, overlap=5, ar_step=2)), ("continuous", dict(ar_step=2))]
)
def test_resume_is_exact(models, causal, name, options):
    strategy = make_plan(name, steps=8, **options)
    model, _ = kept(models[causal], 0.5)

    def rollout():
        return build_rollout(model, Script.of("a red ball", 24, 50 / 24), strategy)

    whole, snapshots = recorded(rollout())
    snapshot = snapshots[1 if name == "continuous" else 0]
    assert torch.equal(resumed(rollout(), snapshot), whole[:, :, snapshot.frames :])


@pytest.mark.long
def test_the_command_line_records_step_caching_and_verify_repeats_it(tmp_path, capsys):
    """A run with step caching has other frames, and `verify` regenerates the same ones."""
    folder, calibration = random_wan(tmp_path / "m"), tmp_path / "rule.json"
    PLAIN.write(calibration)
    asked = ["generate", "a red ball", "--model", str(folder), "--seconds", "0.4", "--steps", "4", "--device", "cpu"]
    fast = ["--step-cache", "1000", "--step-cache-calibration", str(calibration)]
    assert run([*asked, "-o", str(tmp_path / "exact")]) == 0
    assert run([*asked, *fast, "-o", str(tmp_path / "fast")]) == 0
    exact, other = (manifest_of(tmp_path / name) for name in ("exact", "fast"))
    assert (
        other.settings["load"] == {"step_cache": 1000.0, "step_cache_calibration": PLAIN.facts()}
        and "load" not in exact.settings
    )
    segments = [sorted((tmp_path / name / "media").glob("*.m4s")) for name in ("exact", "fast")]
    assert [s.read_bytes() for s in segments[0]] != [s.read_bytes() for s in segments[1]]
    calibration.unlink()
    assert run(["verify", str(tmp_path / "fast"), "--segment", "0"]) == 0
    assert "generated again" in capsys.readouterr().out
    for wrong, words in ((["--step-cache", "0.2"], "longtake.eval.step_cache"), (fast, "not a step caching calibration"),
                         (["--step-cache", "-1"], "0 or more")):  # fmt: skip
        assert run([*asked, *wrong, "-o", str(tmp_path / "none")]) == 2
        assert words in capsys.readouterr().err


def test_published_calibrations_are_found_by_the_shape_of_the_network():
    big = WanConfig(num_attention_heads=40)
    pictures = replace(big, image_dim=1280, added_kv_proj_dim=5120)
    assert published_calibration(WanConfig(num_attention_heads=12), (544, 960)) is CALIBRATIONS["1.3b"]
    assert published_calibration(big, (720, 1280)) is CALIBRATIONS["14b"]
    assert published_calibration(pictures, (544, 960)) is CALIBRATIONS["i2v 540p"]
    assert published_calibration(pictures, (720, 1280)) is CALIBRATIONS["i2v 720p"]
    change = torch.tensor([0.05], dtype=torch.float64)
    want = (
        -5.21862437e4 * 0.05**4 + 9.23041404e3 * 0.05**3 - 5.28275948e2 * 0.05**2 + 1.36987616e1 * 0.05 - 4.99875664e-2
    )
    assert CALIBRATIONS["1.3b"].expected(change).item() == pytest.approx(max(want, 0.0))


def test_a_calibration_is_written_and_read_again(tmp_path):
    PLAIN.write(tmp_path / "rule.json")
    assert Calibration.read(tmp_path / "rule.json") == PLAIN
    (tmp_path / "other.json").write_text('{"first": 3}')
    (tmp_path / "deep.json").write_text("[" * 100000)
    os.mkfifo(tmp_path / "pipe.json")
    for name in ("other.json", "none.json", "deep.json", "pipe.json"):
        with pytest.raises(StepCacheError, match="calibrate again"):
            Calibration.read(tmp_path / name)


def test_a_model_without_blocks_or_calibration_is_refused(models):
    assert with_step_cache(models[False], 0.0) is models[False]
    for model, threshold, words in (
        (models[False], 0.1, "longtake.eval.step_cache"),
        (models[False], -1.0, "0 or more"),
        (load("clock"), 0.1, "clock has no transformer blocks"),
    ):
        with pytest.raises(StepCacheError, match=words):
            with_step_cache(model, threshold)
    assert caching_sessions(with_step_cache(models[False], 0.1, PLAIN).session())[0].cache.threshold == 0.1
