"""The replay memory: errors by level, bounded, replaced as asked, spilled to disk and back, exact through a checkpoint."""

import pytest
import torch

from longtake.train.checkpoint import CheckpointError
from longtake.train.memory import Memory, Residual, shared

SHAPE = (2, 3, 4, 4)


def entry(level, seed=0, shape=SHAPE):
    made = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16().float()
    return Residual(made, torch.full((shape[1],), float(level)))


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_centres_are_the_levels_of_inference():
    """Published: timesteps 1000, 995.9, 991.7, ..., 241.9, 172.4, 92.6; a training level goes to the nearest."""
    memory = Memory(50, 5.0)
    known = torch.tensor([1000, 995.9, 991.7, 241.9, 172.4, 92.6], dtype=torch.float64)
    assert torch.allclose(1000 * memory.centres[[0, 1, 2, -3, -2, -1]], known, atol=0.06)
    u = 1 - torch.arange(1000, dtype=torch.float64) / 1000
    counts = torch.tensor([memory.bucket(float(s)) for s in 5 * u / (1 + 4 * u)]).bincount(minlength=50)
    assert counts[0] == 11 and counts[-1] == 29 and set(counts[1:-1].tolist()) == {20}


def test_both_errors_are_one_residual():
    r = entry(0.25)
    assert torch.equal(r.video, -0.25 * r.velocity) and torch.equal(r.noise, 0.75 * r.velocity)


def test_a_bucket_is_bounded_and_the_oldest_goes():
    memory = Memory(4, 1.0, capacity=2, full="fifo")
    for seed in range(5):
        memory.push(entry(0.5, seed), rng())
    kept = [memory.slots.get(slot).velocity for slot in memory.buckets[memory.bucket(0.5)]]
    assert (
        len(memory) == 2
        and torch.equal(kept[0], entry(0.5, 3).velocity)
        and torch.equal(kept[1], entry(0.5, 4).velocity)
    )


def test_the_nearest_goes():
    memory = Memory(4, 1.0, capacity=3, full="nearest")
    for seed in range(3):
        memory.push(entry(0.5, seed), rng())
    near = Residual(entry(0.5, 1).velocity + 0.01, entry(0.5).level)
    memory.push(near, rng())
    kept = [memory.slots.get(slot).velocity for slot in memory.buckets[memory.bucket(0.5)]]
    assert [any(torch.equal(k, entry(0.5, seed).velocity) for k in kept) for seed in range(3)] == [True, False, True]


def test_random_replaces_all_alike():
    chance, gone = rng(3), torch.zeros(3)
    for _ in range(300):
        memory = Memory(4, 1.0, capacity=3, full="random")
        for seed in range(4):
            memory.push(entry(0.5, seed, (1, 1, 1, 1)), chance)
        kept = [float(memory.slots.get(slot).velocity) for slot in memory.buckets[memory.bucket(0.5)]]
        gone += torch.tensor([float(entry(0.5, seed, (1, 1, 1, 1)).velocity) not in kept for seed in range(3)])
    assert gone.sum() == 300 and (gone - 100).abs().max() < 35  # 4 sigma of a binomial


def test_draws_come_from_the_bucket_or_from_all():
    memory = Memory(10, 1.0)
    for i, level in enumerate((0.2, 0.9)):
        memory.push(entry(level, i), rng())
    assert memory.draw(rng(), 0.5) is None
    assert torch.equal(memory.draw(rng(), 0.21).velocity, entry(0.2, 0).velocity)
    chance, firsts = rng(1), 0
    for _ in range(400):
        firsts += bool(torch.equal(memory.draw(chance).velocity, entry(0.2, 0).velocity))
    assert 150 < firsts < 250


def test_what_does_not_fit_in_memory_lies_on_the_disk(tmp_path):
    size = 2 * 2 * 3 * 4 * 4
    memory = Memory(4, 1.0, capacity=100, ram=5 * size / (1 << 30), folder=tmp_path)
    for seed in range(60):
        memory.push(entry(0.5, seed), rng())
    assert len(memory.slots.near) == 5 and memory.slots.file.stat().st_size >= 55 * size
    for slot in (0, 4, 5, 33, 59):
        assert torch.equal(memory.slots.get(slot).velocity, entry(0.5, slot).velocity)


def test_saved_and_loaded_it_goes_on_the_same(tmp_path):
    def filled(folder, count):
        memory = Memory(6, 2.0, capacity=4, full="nearest", ram=2e-7, folder=folder)
        chance = rng(5)
        for seed in range(count):
            memory.push(entry(float(torch.rand((), generator=chance)), seed), chance)
        return memory, chance

    one, chance = filled(tmp_path / "one", 20)
    (tmp_path / "step").mkdir()
    one.save(tmp_path / "step")
    two = Memory(6, 2.0, capacity=4, full="nearest", ram=2e-7, folder=tmp_path / "two")
    two.load(tmp_path / "step")
    other = torch.Generator()
    other.set_state(chance.get_state())
    for seed in range(20, 30):
        one.push(entry(0.3, seed), chance)
        two.push(entry(0.3, seed), other)
    assert one.buckets == two.buckets
    for bucket in one.buckets:
        for slot in bucket:
            assert torch.equal(one.slots.get(slot).velocity, two.slots.get(slot).velocity)
    (tmp_path / "step" / "memory-0.bin").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="cannot be read"):
        two.load(tmp_path / "step")


def test_ranks_share_what_they_found():
    mine, theirs = entry(0.5, 1), entry(0.7, 2)
    other = {id(mine.velocity): theirs.velocity, id(mine.level): theirs.level}
    both = shared([mine], lambda tensor: [tensor, other[id(tensor)]])
    assert [float(e.level[0]) for e in both] == [0.5, pytest.approx(0.7)]
    assert torch.equal(both[1].velocity, theirs.velocity)


def test_what_is_wrong_is_said():
    memory = Memory(4, 1.0)
    memory.push(entry(0.5), rng())
    with pytest.raises(ValueError, match="videos of one length"):
        memory.push(entry(0.5, shape=(2, 5, 4, 4)), rng())
    with pytest.raises(ValueError, match="replaces its nearest, random, fifo"):
        Memory(full="worst")
