"""Error recycling: every identity, every probability, gradients in the LoRA alone, and a resume that changes nothing."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from longtake.models import load
from longtake.noise import mix, ramp
from longtake.train.config import ConfigError, read_table
from longtake.train.loop import Settings, train
from longtake.train.memory import Memory, Residual
from longtake.train.recipes.recycle import (
    PRESETS,
    Chosen,
    RecycleConfig,
    RecycleRecipe,
    choose,
    corrupted,
    level_weight,
    maker,
    published_levels,
)
from longtake.train.sample import Sample, remade

from .toys import curve, in_two, join, quiet

B, C, F, H = 2, 3, 6, 2
TABLE = dict(rank=2, alpha=2.0, targets=("mix",), capacity=4, buckets=8)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def sample(seed=0, beside=True, dtype=torch.float32):
    chance = rng(seed)
    video, noise = (torch.randn(B, C, F, H, H, generator=chance, dtype=dtype) for _ in range(2))
    told = torch.randn(B, 4 + C, F, H, H, generator=chance, dtype=dtype) if beside else None
    level = torch.rand(B, 1, generator=chance).expand(B, F).to(dtype)
    return Sample(video, noise, level, torch.ones(B, F, H, H), [[(0, "")]] * B, beside=told)


class Net(nn.Module):
    """Any network: a mixture of the channels that it sees."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(2 * C + 4, C)
        self.frozen = nn.Linear(C, C)

    def forward(self, x, level):
        y = self.frozen(self.mix(x.movedim(1, -1)).tanh()).movedim(-1, 1)
        return y * (1 + level[:, None, :, None, None])


class Inner:
    """Any recipe: draws samples, and gives velocities of them."""

    def __init__(self, seed=0):
        torch.manual_seed(seed)
        self.module, self.video, self.seen = Net(), self, []

    def draw(self, step, chance):
        return sample(int(torch.randint(1 << 30, (), generator=chance)))

    def velocity(self, told):
        self.seen.append(told)
        return self.module(torch.cat([mix(told.video, told.noise, told.level), told.beside], 1), told.level)

    def check(self, step, out):
        return {"score": 1.0}


def recipe(out, **table) -> RecycleRecipe:
    return maker({"any": lambda settings, folder: Inner()})({"recipe": "any", **TABLE, **table}, out)


# ---------------------------------------------------------------- identities
def test_one_step_in_both_directions_gives_the_two_errors():
    """From x_t, one step to the clean end and one to the noisy end, by the network's velocity and by the true one."""
    made = sample(1, dtype=torch.float64)
    s, guess = made.level[:, None, :, None, None], torch.randn(B, C, F, H, H, dtype=torch.float64)
    e_vid, e_noi = (torch.randn(B, C, F, H, H, dtype=torch.float64) for _ in range(2))
    noisy = made.noise + e_noi
    x_t = (1 - s) * (made.video + e_vid) + s * noisy
    v_rcy = noisy - made.video
    n_hat, n_true = x_t + (1 - s) * guess, x_t + (1 - s) * v_rcy
    x_hat, x_true = x_t - s * guess, x_t - s * v_rcy
    for i in range(B):
        found = Residual((guess - v_rcy)[i], made.level[i])
        assert torch.allclose(found.noise, (n_hat - n_true)[i], atol=1e-12)
        assert torch.allclose(found.video, (x_hat - x_true)[i], atol=1e-12)
    assert torch.allclose(x_true, made.video + (1 - s) * e_vid, atol=1e-12), "what an injected error leaves behind"
    assert torch.allclose(n_true, noisy + (1 - s) * e_vid, atol=1e-12)


def test_the_loss_is_that_of_the_clean_video_and_the_corrupted_noise(tmp_path):
    made = recipe(tmp_path, video=1.0, noise=1.0, told=1.0, clean=0.0, buckets=1)
    for step in range(6):
        made.loss(step, rng(step))
    before = [list(bucket) for bucket in made.memory.buckets]
    made.inner.seen.clear()
    loss = made.loss(7, rng(7))
    clean, (seen,) = made.inner.draw(7, rng(7)), made.inner.seen
    assert any(before) and not torch.equal(seen.noise, clean.noise)
    error = made.inner.velocity(seen) - (seen.noise - clean.video)
    weight = level_weight(seen.level, 5.0)
    assert loss.total.item() == pytest.approx((error.pow(2).mean(1).mean((2, 3)) * weight).sum().item(), rel=1e-5)
    assert torch.equal(seen.beside[:, :4], clean.beside[:, :4]), "the mask is left alone"
    assert torch.equal(seen.beside[:, 4:, 3:], clean.beside[:, 4:, 3:]) and not torch.equal(seen.beside, clean.beside)


def calls_of_rounds(calls):
    """The first call of every round of three: pure noise stands there in place of the video."""
    return [replace(call, noise=call.video) for call in calls[::3]]


def test_rounds_tell_the_network_of_what_it_made_of_the_same_frames(tmp_path):
    made = recipe(tmp_path, video=0.0, noise=0.0, told=1.0, clean=0.0, rounds=2, calls=3, frames=2)
    for step in range(8):  # of which some draw two rounds for a video and some one
        made.inner.seen.clear()
        made.loss(step, rng(step))
        clean, (*calls, seen) = made.inner.draw(step, rng(step)), made.inner.seen
        assert len(calls) in (3, 6) and all(call.frames == 3 for call in calls)
        assert torch.equal(calls[0].beside, clean.beside[:, :, :3]), "the first round is told the truth"
        levels = ramp(3, 5.0).float().expand(B, -1)
        told = [remade(made.inner.velocity, each, levels) for each in calls_of_rounds(calls)]
        for i in range(B):
            got = seen.beside[i, 4:, :2] - clean.beside[i, 4:, :2]
            left = [(each[i] - clean.video[i, :, :3])[:, :2] for each in told]
            assert any(torch.allclose(got, error, atol=1e-5) for error in left)
        if len(calls) == 6:
            again = clean.beside[:, 4:, :2] + (told[0] - clean.video[:, :, :3])[:, :, :2]
            assert torch.allclose(calls[3].beside[:, 4:, :2], again, atol=1e-5), "the second what the first made"
        assert torch.equal(seen.beside[:, 4:, 2:], clean.beside[:, 4:, 2:]) and torch.equal(seen.video, clean.video)


class Behind(Inner):
    """A recipe whose network is told of clean frames before the noisy ones."""

    def draw(self, step, chance):
        made = sample(int(torch.randint(1 << 30, (), generator=chance)), beside=False)
        return replace(made, before=made.video, told=[[(0, "a ball")]] * B)

    def velocity(self, told):
        self.seen.append(told)
        words = torch.full_like(told.video[:, :1], float(told.told[0][0][1] != "")).expand(-1, 4, -1, -1, -1)
        return self.module(torch.cat([mix(told.video, told.noise, told.level), words, told.before], 1), told.level)


def test_rounds_before_x_make_what_came_out_of_the_round_before_again(tmp_path):
    table = dict(video=0.0, noise=0.0, told=1.0, clean=0.0, rounds=2, calls=1, guidance=3.0, depth=0.6)
    made, most = maker({"any": lambda settings, folder: Behind()})({"recipe": "any", **TABLE, **table}, tmp_path), 0
    for step in range(8):
        made.inner.seen.clear()
        made.loss(step, rng(step))
        clean, (*calls, seen) = made.inner.draw(step, rng(step)), made.inner.seen
        found, most = [clean.video], max(most, len(calls))
        for told, untold in zip(calls[::2], calls[1::2]):  # x has been noised by then: both hold it
            assert torch.allclose(told.before, found[-1], atol=1e-5) and float(told.level.min()) == pytest.approx(0.6)
            assert told.told[0][0][1] == "a ball" and untold.told[0][0][1] == ""
            with torch.no_grad():
                v, u = made.inner.velocity(told), made.inner.velocity(untold)
            found.append(told.video - 0.6 * (u + 3 * (v - u)))
        for i in range(B):
            assert any(torch.allclose(seen.before[i], one[i], atol=1e-4) for one in found[1:]), "all frames are wrong"
        assert torch.equal(seen.video, clean.video) and torch.equal(seen.noise, clean.noise)
    assert most == 4, "some videos take two rounds"


def test_rounds_make_as_many_frames_as_are_told(tmp_path):
    made = recipe(tmp_path, video=0.0, noise=0.0, told=1.0, clean=0.0, rounds=1, calls=1, frames=4)
    made.loss(0, rng())
    clean, (call, seen) = made.inner.draw(0, rng()), made.inner.seen
    differs = (seen.beside != clean.beside).flatten(3).any(3).any(1)
    assert call.frames == 4 and differs.tolist() == [[True] * 4 + [False] * (F - 4)] * B


def test_ranks_that_draw_how_many_rounds_make_do_not_gather_layer_by_layer(tmp_path):
    for rounds, uniform in ((0, True), (1, True), (2, False)):
        made = recipe(tmp_path, rounds=rounds)
        made.inner.uniform = True
        assert made.uniform is uniform


def test_the_sprite_may_weigh_more(tmp_path):
    plain, heavy = (recipe(tmp_path, preset="none", update=0.0, sprite=weight) for weight in (0.0, 3.0))
    half = torch.zeros(B, F, H, H)
    half[..., 0] = 1
    losses = []
    for made in (plain, heavy):
        draw = made.inner.draw
        made.inner.draw = lambda step, chance, draw=draw: replace(draw(step, chance), sprite=half)
        losses.append(made.loss(0, rng()).total)
    drawn = heavy.inner.draw(0, rng())
    seen = heavy.inner.seen[0]
    error = (heavy.inner.velocity(seen) - (seen.noise - drawn.video)).pow(2).mean(1) * (1 + 3 * half) / 2.5
    wanted = (error.mean((2, 3)) * level_weight(seen.level, 5.0)).sum()
    assert torch.allclose(losses[1], wanted, rtol=1e-5) and not torch.allclose(losses[0], losses[1], rtol=1e-3)


def test_frames_up_to_the_floor_of_the_recipe_are_history(tmp_path):
    drawn = Inner().draw(0, rng())
    floor = float(drawn.level.mean())
    made = recipe(tmp_path, levels="recipe", video=0.0, noise=0.0, told=0.0, clean=1.0, settings={"floor": floor})
    error = (made.inner.velocity(drawn) - (drawn.noise - drawn.video)).pow(2).mean((1, 3, 4))
    learned = drawn.level > floor
    loss = made.loss(0, rng())
    assert torch.allclose(loss.total / loss.weight, error[learned].mean())


def test_repeats_make_rounds_of_each_video_once(tmp_path):
    table = dict(video=0.0, noise=0.0, told=1.0, clean=0.0, rounds=1, calls=2, frames=1)
    made = recipe(tmp_path, **table, repeats=2)
    made.loss(0, rng())
    clean, (*calls, seen) = made.inner.draw(0, rng()), made.inner.seen
    assert [len(call.level) for call in calls] == [1, 1] and len(seen.level) == B
    assert torch.equal(seen.video, clean.video[[0, 0]]) and torch.equal(seen.noise, clean.noise)
    assert torch.equal(seen.beside[0], seen.beside[1]) and not torch.equal(seen.beside[0], clean.beside[0])
    assert not torch.equal(seen.level[0], seen.level[1])
    with pytest.raises(ConfigError, match="repeats are for rounds"):
        recipe(tmp_path, repeats=2)


def test_frames_that_are_handed_over_go_through_the_codec(tmp_path):
    made = recipe(tmp_path)
    latents = torch.randn(1, 16, 1, 8, 8, generator=rng())
    assert made.hand(latents) is latents
    made.codec = load("pocket").codec
    decoder = made.codec.decoder()
    frames = torch.cat([decoder.push(latents), decoder.flush()], 2)
    bytes8 = ((frames.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
    assert torch.allclose(made.hand(latents), made.codec.encode(bytes8)) and not torch.allclose(frames, bytes8)


def test_a_sample_is_cut_as_a_whole():
    whole = replace(sample(3), told=[[(0, "a"), (4, "b")]] * B, track=torch.randn(B, F, 2))
    short = whole.cut(3)
    assert short.frames == 3 and short.told == [[(0, "a")]] * B
    assert torch.equal(short.beside, whole.beside[:, :, :3]) and torch.equal(short.track, whole.track[:, :3])
    assert torch.equal(short.level, whole.level[:, :3]) and short.known is None


def test_errors_go_where_they_belong():
    made, e = sample(2, dtype=torch.float64), torch.ones(C, F, H, H, dtype=torch.float64)
    got = corrupted(made, [Chosen(video=e, noise=2 * e, told=3 * e[:, :2], clean=False), Chosen()])
    assert torch.equal(got.video[0] - made.video[0], (made.video[0] + e) - made.video[0])
    assert torch.allclose(got.noise[0], made.noise[0] + 2) and torch.allclose(
        got.beside[0, 4:, :2], made.beside[0, 4:, :2] + 3
    )
    for name in ("video", "noise", "beside"):
        assert torch.equal(getattr(got, name)[1], getattr(made, name)[1]), "the other video is clean"
    behind = corrupted(replace(made, beside=None, before=made.video), [Chosen(told=e[:, :2], clean=False), Chosen()])
    assert torch.equal(behind.before[0, :, :2], made.video[0, :, :2] + 1) and torch.equal(behind.video, made.video)
    assert torch.equal(behind.before[0, :, 2:], made.video[0, :, 2:]) and torch.equal(behind.before[1], made.video[1])
    level = torch.tensor([[0.0, 0.02, 0.5, 0.5, 0.5, 0.5]] * B, dtype=torch.float64)
    held = corrupted(replace(made, beside=None, level=level), [Chosen(told=e[:, :3], clean=False), Chosen()])
    assert (held.video - made.video).abs().amax((1, 3, 4))[0].bool().tolist() == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]


def test_levels_and_weights_are_the_published_ones():
    u = 1 - torch.arange(1000, dtype=torch.float64) / 1000
    grid = 5 * u / (1 + 4 * u)
    drawn = published_levels(rng(), 20000, 5.0).double()
    assert torch.isin((drawn * 1e6).round(), (grid.float().double() * 1e6).round()).all()
    assert float((drawn > 0.5).double().mean()) == pytest.approx(0.834, abs=0.015)
    assert float((drawn > 0.9).double().mean()) == pytest.approx(0.358, abs=0.015)
    assert float(drawn.median()) == pytest.approx(0.833, abs=0.01)
    known = {1.0: 0.0, 0.9: 0.631, 0.5: 2.076, 0.1: 0.638, 0.005: 0.032}
    for level, weight in known.items():
        assert float(level_weight(torch.tensor(level, dtype=torch.float64), 5.0)) == pytest.approx(weight, abs=0.012)
    assert float(level_weight(grid, 5.0).mean()) == pytest.approx(1.0, abs=1e-9)


# ---------------------------------------------------------------- chance
@pytest.mark.parametrize("preset", PRESETS)
def test_every_probability_is_met(preset):
    """Counted over many draws; 4 standard deviations."""
    config, memory, chance, count = RecycleConfig(preset=preset), Memory(4, 5.0), rng(11), 4000
    level = torch.full((F,), 0.7)
    memory.push(Residual(torch.randn(C, F, H, H), level), chance)
    tally, starts = {"video": 0, "noise": 0, "told": 0, "clean": 0}, []
    for _ in range(count):
        chosen = choose(config, memory, level, chance)
        for name in tally:
            tally[name] += chosen.clean if name == "clean" else getattr(chosen, name) is not None
        starts += [] if chosen.told is None else [chosen.told.shape[1]]
    wanted = {name: PRESETS[preset][name] * (1 - PRESETS[preset]["clean"]) for name in ("video", "noise", "told")}
    wanted["clean"] = PRESETS[preset]["clean"]
    for name, share in wanted.items():
        assert abs(tally[name] / count - share) <= 4 * math.sqrt(share * (1 - share) / count) + 1e-9, (name, tally)
    assert set(starts) <= {3}


def test_an_empty_memory_corrupts_nothing_and_jitter_scales():
    config, level = RecycleConfig(preset="svi-film", clean=0.0, video=1.0, jitter=0.3), torch.full((F,), 0.7)
    assert choose(config, Memory(4, 5.0), level, rng()).video is None
    memory = Memory(4, 5.0)
    memory.push(Residual(torch.ones(C, F, H, H), level), rng())
    chance = rng(2)
    scales = [float(choose(config, memory, level, chance).video.mean()) / -0.7 for _ in range(500)]
    assert 0.7 <= min(scales) < 0.73 and 1.27 < max(scales) <= 1.3


def test_windows_of_told_errors_begin_anywhere():
    config, memory, chance = RecycleConfig(preset="svi-shot", clean=0.0, told=1.0), Memory(4, 5.0), rng(3)
    ramp = torch.arange(F, dtype=torch.float32)[None, :, None, None].expand(C, F, H, H)
    memory.push(Residual(ramp, torch.ones(F)), chance)
    first = [-float(choose(config, memory, torch.full((F,), 0.2), chance).told[0, 0, 0, 0]) for _ in range(400)]
    counts = torch.tensor(first).long().bincount(minlength=4)
    assert counts.tolist() == counts[:4].tolist() and (counts - 100).abs().max() < 36


def test_clean_batches_are_seldom_remembered(tmp_path):
    made = recipe(tmp_path, clean=1.0, update=0.25, capacity=1000, warmup=0)
    for step in range(200):
        made.loss(step, rng(step))
    assert abs(len(made.memory) - 100) < 4 * math.sqrt(400 * 0.25 * 0.75)


# ---------------------------------------------------------------- training
def test_gradients_are_in_the_lora_alone(tmp_path):
    made = recipe(tmp_path)
    made.loss(0, rng()).total.backward()
    graded = {name for name, p in made.module.named_parameters() if p.grad is not None}
    assert graded == {"mix.down.default", "mix.up.default"}


def test_the_loss_falls_and_a_resume_changes_nothing(tmp_path):
    settings = Settings(steps=24, lr=2e-2, warmup=2, save=8, log=1)
    table = dict(video=0.8, noise=0.5, told=0.8, clean=0.2, full="random", ram=1e-6)
    whole = recipe(tmp_path / "a", **table)
    train(whole, settings, tmp_path / "a", quiet)
    stopped = recipe(tmp_path / "b", **table)
    inner, calls = stopped.inner.draw, []

    def dies(step, chance):
        calls.append(step)
        if len(calls) > 13:
            raise RuntimeError("killed")
        return inner(step, chance)

    stopped.inner.draw = dies
    with pytest.raises(RuntimeError, match="killed"):
        train(stopped, settings, tmp_path / "b", quiet)
    again = recipe(tmp_path / "b", **table)
    train(again, settings, tmp_path / "b", quiet)
    assert curve(tmp_path / "b") == curve(tmp_path / "a") and len(curve(tmp_path / "a")) == 24
    assert again.batches == whole.batches and again.memory.buckets == whole.memory.buckets
    for a, b in zip(whole.module.state_dict().values(), again.module.state_dict().values()):
        assert torch.equal(a, b)
    assert (tmp_path / "a" / "lora.safetensors").exists()
    losses = [whole.loss(s, rng(s)).total.item() for s in range(20)]
    fresh = recipe(tmp_path / "c", **table)
    fresh.memory = whole.memory
    assert sum(losses) < sum(fresh.loss(s, rng(s)).total.item() for s in range(20))


def errors_of_two(number, world, folder):
    """Three clean batches on each of several processes, two of them shared; writes the levels that are remembered."""
    join(number, world, Path(folder))
    made = recipe(Path(folder) / str(number), clean=1.0, update=1.0, capacity=100, buckets=1, warmup=2)
    for step in range(3):
        made.loss(step, rng(10 * step + number))
    levels = [float(made.memory.slots.get(slot).level[0]) for slot in made.memory.buckets[0]]
    torch.save(levels, f"{folder}/{number}.pt")


def test_two_processes_share_their_errors_in_the_first_batches_alone(tmp_path):
    in_two(errors_of_two, tmp_path)
    one, two = (torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in (0, 1))
    assert one[: 4 * B] == two[: 4 * B] and len(set(one[: 4 * B])) == 4 * B
    assert len(one) == len(two) == 5 * B and not set(one[4 * B :]) & set(two)


def test_videos_of_several_lengths_need_errors_that_are_not_kept(tmp_path):
    class Varying(Inner):
        config = SimpleNamespace(lengths=((0.5, (3,)), (1.0, (3, 6))))

        def draw(self, step, chance):
            return super().draw(step, chance).cut(3 + 3 * (step % 2))

    made = maker({"any": lambda settings, folder: Varying()})
    with pytest.raises(ConfigError, match="one length"):
        made({"recipe": "any", **TABLE}, tmp_path)
    own = made({"recipe": "any", **TABLE, "rounds": 1, "video": 0.0, "noise": 0.0}, tmp_path)
    for step in range(4):
        own.loss(step, rng(step)).total.backward()
    assert not len(own.memory) and own.module.mix.up["default"].grad.any()


def test_what_is_wrong_is_said(tmp_path):
    for table, words in (
        (dict(preset="svi"), "preset is"),
        (dict(video=1.5), "share from 0 to 1"),
        (dict(k=5), "no key"),
    ):
        with pytest.raises(ConfigError, match=words):
            read_table(RecycleConfig, table, "recycle")
    with pytest.raises(ConfigError, match="depth is 0"):
        read_table(RecycleConfig, dict(depth=0.0), "recycle")
    with pytest.raises(ConfigError, match="it is one of any"):
        recipe(tmp_path, recipe="other")
    with pytest.raises(ConfigError, match="makes no video"):
        maker({"codec": lambda settings, out: nn.Module()})({"recipe": "codec"}, tmp_path)
