"""Step caching: off by default, counted per frame and per branch, exact to resume, and its error is known."""

from dataclasses import replace

import pytest
import torch

from longtake.cli import run
from longtake.engine import Rollout
from longtake.events import Ended, Frames
from longtake.models import cache, load
from longtake.models.cache import CacheError, Rule, StepCache, cached, innermost, known_rule
from longtake.models.wan import WanConfig
from longtake.plan import Window
from longtake.plans import plan
from longtake.reel.manifest import manifest_of
from longtake.script import Script
from tests.checkpoints import random_wan

PLAIN = Rule((1.0, 0.0), first=1, last=1)  # the layers change as much as the embedding does
STAIRS = torch.tensor(
    [[1.0, 1.0, 0.0], [0.8, 1.0, 0.0], [0.6, 0.8, 0.0], [0.4, 0.6, 0.0], [0.2, 0.4, 0.0], [0.0, 0.2, 0.0], [0.0, 0.0, 0.0]]
)  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    return {causal: load(random_wan(folder / str(causal), causal=causal)) for causal in (False, True)}


def video(model, strategy, guidance=1.0, batched=True) -> torch.Tensor:
    run = Rollout(model, Script.of("a red ball", 24, 40 / 24), strategy, guidance=guidance, batched=batched)
    return torch.cat([event.video for event in run.run() if isinstance(event, Frames)], 2)


def kept(model, threshold, rule=PLAIN):
    """The model with caching, and the caches that its sessions will have."""
    caches = []

    def make():
        caches.append(StepCache(rule, threshold))
        return caches[-1]

    return cache.with_cache(model, make), caches


def rows(made: StepCache, window: Window, embedding) -> list[bool]:
    """Which rows of a window are made, if the embedding of a level is embedding(level)."""
    made.begin(window)
    found = []
    for row in range(window.calls):
        moves = (window.levels[row] != window.levels[row + 1]).nonzero()[:, 0].tolist()
        known = made.recall(row, moves, torch.stack([embedding(level) for level in window.levels[row, moves]]))
        found.append(known is None)
        if known is None:
            made.store(moves, torch.zeros(1, len(moves), 1, 1))
    return found


def linear(level):
    return torch.full((4,), 10.0 + float(level))


def test_each_frame_is_counted_alone():
    """First and last steps of both stairs are made; a frame held still says nothing."""
    assert rows(StepCache(PLAIN, 1e9), Window(range(3), STAIRS), linear) == [True, True, False, False, True, True]
    assert rows(StepCache(replace(PLAIN, last=0), 1e9), Window(range(3), STAIRS), linear) == [True, True] + [False] * 4
    assert rows(StepCache(PLAIN, 0.0), Window(range(3), STAIRS), linear) == [True] * 6


def test_changes_add_up_until_a_call_is_made():
    levels = torch.linspace(1, 0, 11)[:, None].expand(-1, 2)
    rule = Rule((1.0, 0.0), first=1, last=0)
    step = 0.1 / 10.5  # about the relative change of each step
    assert rows(StepCache(rule, 2.5 * step), Window(range(2), levels), linear) == [True, False, False] * 3 + [True]


def test_a_frame_that_comes_in_half_made_has_had_its_first_steps():
    levels = torch.tensor([[0.6, 1.0], [0.5, 0.9], [0.4, 0.8], [0.3, 0.7]])
    alone = Window([0], levels[:, :1].clone())
    assert rows(StepCache(replace(PLAIN, first=2), 1e9), alone, linear) == [True, True, False]  # its window begins here
    together = Window([0, 1], levels)
    together.levels[:, 1] = torch.tensor([1.0, 1.0, 1.0, 1.0])
    assert rows(StepCache(replace(PLAIN, first=2), 1e9), together, linear) == [True, False, False]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", ["sliding", "async"])
def test_a_threshold_that_allows_nothing_changes_nothing(models, causal, name):
    strategy = plan(name, steps=4, window=33, overlap=5, **(dict(lag=1) if name == "async" else {}))
    model, caches = kept(models[causal], 1e-9, Rule((1.0, 1.0)))
    assert torch.equal(video(model, strategy), video(models[causal], strategy))
    assert caches[0].skipped == 0


def test_answers_from_the_cache_are_what_a_call_would_give(models):
    """If layers see no level, what they add does not change while x stands still; so a skipped call is exact."""
    net = innermost(models[False].session()).net
    x, text = torch.randn(1, 4, 3, 4, 4), torch.randn(1, 5, 10)
    added = []
    want = net(x, torch.tensor([0.9, 0.5, 0.0]), text, added=added, out=[0, 1])
    got = net.short(x[:, :, :2], torch.tensor([0.9, 0.5]), added[0])
    assert torch.allclose(want, got, atol=1e-5)


@pytest.mark.parametrize("batched", [True, False])
def test_branches_have_their_own_count(models, batched):
    strategy = plan("sliding", steps=8, window=33, overlap=5)
    exact = video(models[False], strategy, 3.0)
    model, caches = kept(models[False], 1e9)
    near = video(model, strategy, 3.0, batched)
    calls = {(made.made, made.skipped) for made in caches if made.made}
    assert calls == {(4, 12)} and len([made for made in caches if made.made]) == (1 if batched else 2)
    assert not torch.equal(exact, near) and (exact - near).abs().mean() < 0.5 * exact.abs().mean()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("name", "options"), [("async", dict(window=33, overlap=5, lag=2)), ("endless", dict(lag=2))])
def test_resume_is_exact(models, causal, name, options):
    strategy = plan(name, steps=8, **options)
    model, _ = kept(models[causal], 0.5)

    def rollout():
        return Rollout(model, Script.of("a red ball", 24, 50 / 24), strategy)

    run, parts, snapshot = rollout(), [], None
    for event in run.run():
        if isinstance(event, Frames):
            parts.append(event.video)
        if isinstance(event, Ended) and event.index == (1 if name == "endless" else 0):
            tensors, facts = run.state()
            snapshot = event.frames, {key: tensor.clone() for key, tensor in tensors.items()}, facts
    frames, tensors, facts = snapshot
    again = rollout()
    again.load(tensors, facts)
    rest = torch.cat([event.video for event in again.run() if isinstance(event, Frames)], 2)
    assert torch.equal(rest, torch.cat(parts, 2)[:, :, frames:])


def test_on_the_command_line_it_is_recorded_and_made_again(tmp_path, capsys):
    """A run with step caching makes other frames, and its proof makes the same ones again."""
    folder, rule = random_wan(tmp_path / "m"), tmp_path / "rule.json"
    PLAIN.write(rule)
    asked = ["generate", "a red ball", "--model", str(folder), "--seconds", "0.4", "--steps", "4", "--device", "cpu"]
    fast = ["--cache", "1000", "--cache-rule", str(rule)]
    assert run([*asked, "-o", str(tmp_path / "exact")]) == 0
    assert run([*asked, *fast, "-o", str(tmp_path / "fast")]) == 0
    exact, other = (manifest_of(tmp_path / name) for name in ("exact", "fast"))
    assert other.settings["place"] == {"cache": 1000.0, "rule": PLAIN.facts()} and "place" not in exact.settings
    segments = [sorted((tmp_path / name / "media").glob("*.m4s")) for name in ("exact", "fast")]
    assert [s.read_bytes() for s in segments[0]] != [s.read_bytes() for s in segments[1]]
    rule.unlink()
    assert run(["verify", str(tmp_path / "fast"), "--segment", "0"]) == 0
    assert "made again" in capsys.readouterr().out
    for wrong, words in ((["--cache", "0.2"], "longtake.eval.caching"), (fast, "holds no rule"),
                         (["--cache", "-1"], "0 or more")):  # fmt: skip
        assert run([*asked, *wrong, "-o", str(tmp_path / "none")]) == 2
        assert words in capsys.readouterr().err


def test_rules_are_found_by_the_shape_of_the_network():
    big = WanConfig(num_attention_heads=40)
    pictures = replace(big, image_dim=1280, added_kv_proj_dim=5120)
    assert known_rule(WanConfig(num_attention_heads=12), (544, 960)) is cache.RULES["1.3b"]
    assert known_rule(big, (720, 1280)) is cache.RULES["14b"]
    assert known_rule(pictures, (544, 960)) is cache.RULES["i2v 540p"]
    assert known_rule(pictures, (720, 1280)) is cache.RULES["i2v 720p"]
    change = torch.tensor([0.05], dtype=torch.float64)
    want = (
        -5.21862437e4 * 0.05**4 + 9.23041404e3 * 0.05**3 - 5.28275948e2 * 0.05**2 + 1.36987616e1 * 0.05 - 4.99875664e-2
    )
    assert cache.RULES["1.3b"].expected(change).item() == pytest.approx(max(want, 0.0))


def test_a_rule_is_written_and_read_again(tmp_path):
    PLAIN.write(tmp_path / "rule.json")
    assert Rule.read(tmp_path / "rule.json") == PLAIN
    (tmp_path / "other.json").write_text('{"first": 3}')
    for name in ("other.json", "none.json"):
        with pytest.raises(CacheError, match="calibrate again"):
            Rule.read(tmp_path / name)


def test_what_cannot_be_cached_is_refused(models):
    assert cached(models[False], 0.0) is models[False]
    for model, threshold, words in (
        (models[False], 0.1, "longtake.eval.caching"),
        (models[False], -1.0, "0 or more"),
        (load("clock"), 0.1, "no step caching"),
    ):
        with pytest.raises(CacheError, match=words):
            cached(model, threshold)
    assert innermost(cached(models[False], 0.1, PLAIN).session()).cache.threshold == 0.1
