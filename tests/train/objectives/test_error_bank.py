"""The error bank: errors by sigma, bounded, with three ways of replacement, spilled to disk, exact through a checkpoint."""

import pytest
import torch

from longtake.train.objectives.error_bank import ErrorBank, VelocityError, from_all_ranks
from longtake.train.run.checkpoint import CheckpointError

SHAPE = (2, 3, 4, 4)


def entry(sigma, seed=0, shape=SHAPE):
    made = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16().float()
    return VelocityError(made, torch.full((shape[1],), float(sigma)))


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_centres_are_the_sigmas_of_inference():
    """Published: timesteps 1000, 995.9, 991.7, ..., 241.9, 172.4, 92.6; a training sigma goes to the nearest."""
    bank = ErrorBank(50, 5.0)
    known = torch.tensor([1000, 995.9, 991.7, 241.9, 172.4, 92.6], dtype=torch.float64)
    assert torch.allclose(1000 * bank.centres[[0, 1, 2, -3, -2, -1]], known, atol=0.06)
    u = 1 - torch.arange(1000, dtype=torch.float64) / 1000
    counts = torch.tensor([bank.bucket(float(s)) for s in 5 * u / (1 + 4 * u)]).bincount(minlength=50)
    assert counts[0] == 11 and counts[-1] == 29 and set(counts[1:-1].tolist()) == {20}


def test_both_errors_follow_from_the_velocity_error():
    r = entry(0.25)
    assert torch.equal(r.video, -0.25 * r.velocity) and torch.equal(r.noise, 0.75 * r.velocity)


def test_a_full_bucket_replaces_its_oldest_entry():
    bank = ErrorBank(4, 1.0, capacity=2, replacement="fifo")
    for seed in range(5):
        bank.push(entry(0.5, seed), rng())
    kept = [bank.slots.get(slot).velocity for slot in bank.buckets[bank.bucket(0.5)]]
    assert (
        len(bank) == 2 and torch.equal(kept[0], entry(0.5, 3).velocity) and torch.equal(kept[1], entry(0.5, 4).velocity)
    )


def test_a_full_bucket_replaces_the_nearest_entry():
    bank = ErrorBank(4, 1.0, capacity=3, replacement="nearest")
    for seed in range(3):
        bank.push(entry(0.5, seed), rng())
    near = VelocityError(entry(0.5, 1).velocity + 0.01, entry(0.5).sigma)
    bank.push(near, rng())
    kept = [bank.slots.get(slot).velocity for slot in bank.buckets[bank.bucket(0.5)]]
    assert [any(torch.equal(k, entry(0.5, seed).velocity) for k in kept) for seed in range(3)] == [True, False, True]


def test_random_replacement_is_uniform():
    generator, gone = rng(3), torch.zeros(3)
    for _ in range(300):
        bank = ErrorBank(4, 1.0, capacity=3, replacement="random")
        for seed in range(4):
            bank.push(entry(0.5, seed, (1, 1, 1, 1)), generator)
        kept = [float(bank.slots.get(slot).velocity) for slot in bank.buckets[bank.bucket(0.5)]]
        gone += torch.tensor([float(entry(0.5, seed, (1, 1, 1, 1)).velocity) not in kept for seed in range(3)])
    assert gone.sum() == 300 and (gone - 100).abs().max() < 35  # 4 sigma of a binomial


def test_draws_come_from_the_bucket_or_from_all():
    bank = ErrorBank(10, 1.0)
    for i, sigma in enumerate((0.2, 0.9)):
        bank.push(entry(sigma, i), rng())
    assert bank.draw(rng(), 0.5) is None
    assert torch.equal(bank.draw(rng(), 0.21).velocity, entry(0.2, 0).velocity)
    generator, firsts = rng(1), 0
    for _ in range(400):
        firsts += bool(torch.equal(bank.draw(generator).velocity, entry(0.2, 0).velocity))
    assert 150 < firsts < 250


def test_entries_beyond_the_memory_limit_go_to_disk(tmp_path):
    size = 2 * 2 * 3 * 4 * 4
    bank = ErrorBank(4, 1.0, capacity=100, ram_gib=5 * size / (1 << 30), folder=tmp_path)
    for seed in range(60):
        bank.push(entry(0.5, seed), rng())
    assert len(bank.slots.in_memory) == 5 and bank.slots.file.stat().st_size >= 55 * size
    for slot in (0, 4, 5, 33, 59):
        assert torch.equal(bank.slots.get(slot).velocity, entry(0.5, slot).velocity)


def test_a_saved_and_loaded_bank_continues_equally(tmp_path):
    def filled(folder, count):
        bank = ErrorBank(6, 2.0, capacity=4, replacement="nearest", ram_gib=2e-7, folder=folder)
        generator = rng(5)
        for seed in range(count):
            bank.push(entry(float(torch.rand((), generator=generator)), seed), generator)
        return bank, generator

    one, generator = filled(tmp_path / "one", 20)
    (tmp_path / "step").mkdir()
    one.save(tmp_path / "step")
    two = ErrorBank(6, 2.0, capacity=4, replacement="nearest", ram_gib=2e-7, folder=tmp_path / "two")
    two.load(tmp_path / "step")
    other = torch.Generator()
    other.set_state(generator.get_state())
    for seed in range(20, 30):
        one.push(entry(0.3, seed), generator)
        two.push(entry(0.3, seed), other)
    assert one.buckets == two.buckets
    for bucket in one.buckets:
        for slot in bucket:
            assert torch.equal(one.slots.get(slot).velocity, two.slots.get(slot).velocity)
    (tmp_path / "step" / "errors-0.bin").write_bytes(b"truncated")
    with pytest.raises(CheckpointError, match="cannot be read"):
        two.load(tmp_path / "step")


def test_ranks_share_their_entries():
    mine, theirs = entry(0.5, 1), entry(0.7, 2)
    other = {id(mine.velocity): theirs.velocity, id(mine.sigma): theirs.sigma}
    both = from_all_ranks([mine], lambda tensor: [tensor, other[id(tensor)]])
    assert [float(e.sigma[0]) for e in both] == [0.5, pytest.approx(0.7)]
    assert torch.equal(both[1].velocity, theirs.velocity)


def test_wrong_arguments_are_refused():
    bank = ErrorBank(4, 1.0)
    bank.push(entry(0.5), rng())
    with pytest.raises(ValueError, match="videos of one length"):
        bank.push(entry(0.5, shape=(2, 5, 4, 4)), rng())
    with pytest.raises(ValueError, match="it is one of nearest, random, fifo"):
        ErrorBank(replacement="worst")
