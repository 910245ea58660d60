"""Several processes train as one: the same losses with any sharding, and exactly the same after a resume."""

import json
import os
import re
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from longtake.core.errors import ConfigError
from longtake.train.loop import train
from longtake.train.loop_config import LoopConfig
from longtake.train.run import checkpoint
from longtake.train.run.distributed import step_generator
from longtake.train.run.optimisers import share_out
from tests.train.toys import TWO, Line, Prompted, Uneven, Weighted, curve, in_two, quiet, sharded_rank

pytestmark = pytest.mark.long

B = 2  # videos of a batch of error recycling
ONE = TWO.with_changes(accumulate=2)  # one process that draws the batches of both


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of all runs of two processes."""
    folder = tmp_path_factory.mktemp("ranks")
    in_two(sharded_rank, folder)
    return folder


def last(folder, part="ema"):
    return checkpoint.read(checkpoint.newest_checkpoint(folder), part)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_every_way_of_sharding_gives_the_same_losses(runs, kind, tmp_path):
    train(Weighted(), ONE.with_changes(optimiser=kind), tmp_path, quiet)
    alone = curve(tmp_path)
    assert len(alone) == 10 and alone[-1] < 0.8 * alone[0]
    for shard in ("none", "zero2", "zero3"):
        assert curve(runs / f"{kind}-{shard}") == pytest.approx(alone, rel=1e-5), shard
        finished = load_file(runs / f"{kind}-{shard}" / "finished.safetensors")
        for name, tensor in last(runs / f"{kind}-{shard}").items():
            torch.testing.assert_close(tensor, last(tmp_path)[name], rtol=1e-4, atol=1e-5)
            assert torch.equal(tensor, finished[name]), name


@pytest.mark.parametrize("shard", ["none", "zero3"])
def test_a_resumed_run_of_two_processes_equals_an_uninterrupted_one(runs, shard):
    assert curve(runs / f"stopped-{shard}") == curve(runs / f"adamw-{shard}")
    for part in ("model", "ema", "optimiser"):
        whole, parts = last(runs / f"adamw-{shard}", part), last(runs / f"stopped-{shard}", part)
        assert whole.keys() == parts.keys() and all(torch.equal(whole[name], parts[name]) for name in whole), part


def test_a_checkpoint_resumes_with_another_sharding(runs, tmp_path):
    whole = curve(runs / "adamw-none")
    assert curve(runs / "copy-none") == pytest.approx(whole, rel=1e-5)  # started without sharding, ended with zero2
    train(Weighted(seed=9), ONE, runs / "copy-zero3", quiet)  # started with zero3, ended in one process
    assert curve(runs / "copy-zero3") == pytest.approx(whole, rel=1e-5)


def test_other_batches_are_refused(runs):
    with pytest.raises(ConfigError, match="2 batches a step, and 1 processes x accumulate 1 make 1"):
        train(Weighted(), TWO, runs / "adamw-zero3", quiet)


def test_a_sharded_checkpoint_is_safetensors_and_json_and_can_be_merged_into_one_file(runs):
    folder = checkpoint.newest_checkpoint(runs / "adamw-zero3")
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert len(files) == 7 and all(name.endswith(".safetensors") or name == "state.json" for name in files)
    shards = checkpoint.read(folder, "ema")
    assert checkpoint.whole_file(folder, "ema").is_file()
    whole = checkpoint.read(folder, "ema")
    assert all(torch.equal(shards[name], whole[name]) for name in shards) and whole.keys() == shards.keys()


def test_a_network_whose_layers_are_called_outside_of_its_forward_pass_is_sharded_too(runs, tmp_path):
    train(Prompted(), ONE.with_changes(steps=4), tmp_path, quiet)
    for shard in ("zero2", "zero3"):
        assert curve(runs / f"prompted-{shard}") == pytest.approx(curve(tmp_path), rel=1e-5), shard


def test_batches_with_different_calls_are_sharded_as_a_whole(runs, tmp_path):
    train(Uneven(), ONE.with_changes(steps=4), tmp_path, quiet)
    assert curve(runs / "uneven") == pytest.approx(curve(tmp_path), rel=1e-5)
    assert not (runs / "refused" / "log.jsonl").exists()  # zero3


def test_bad_batches_are_named_by_every_rank(runs):
    lines = [json.loads(line) for line in (runs / "bad" / "log.jsonl").read_text().splitlines()]
    (words,) = [line["skipped"] for line in lines if "skipped" in line]
    assert re.fullmatch(r"batch 1 of 2, loss nan \(\d items\); batch 2 of 2, loss nan \(\d items\)", words)
    assert len(curve(runs / "bad")) == 4


def test_bf16_shards_train_and_are_evaluated_in_full(runs):
    assert curve(runs / "bf16") == pytest.approx(curve(runs / "adamw-none"), rel=0.05)
    assert curve(runs / "bf16") != curve(runs / "adamw-none")
    assert all(tensor.dtype == torch.float32 for tensor in last(runs / "bf16").values())
    one, two = (json.loads((runs / f"scores-{number}.json").read_text()) for number in (0, 1))
    assert len(one) == 3 and one[-2] == one[-1] and two == []  # at steps 5 and 10, and when it is finished
    net = Weighted().module
    net.load_state_dict(last(runs / "bf16"))
    assert one[-1] == pytest.approx(net(torch.ones(1, 16)).sum().item(), rel=0.05, abs=0.05)


def test_a_full_disk_on_one_rank_stops_both_and_leaves_the_earlier_checkpoint(runs):
    for number in (0, 1):
        words = (runs / "full" / f"error-{number}").read_text()
        assert "the disk is full" in words and "step-000004, the one before it, is complete" in words
    assert [path.name for path in (runs / "full").glob("step-*")] == ["step-000004"]
    assert last(runs / "full").keys() == last(runs / "adamw-none").keys()


def test_ranks_start_equal_and_average_their_gradients(runs, tmp_path):
    """Two processes with different weights end with the weights of one process that sees both batches."""
    one, two = (torch.load(runs / f"{n}.pt", weights_only=True) for n in (0, 1))
    assert one["losses"] != two["losses"]
    for name, tensor in one["weights"].items():
        assert torch.equal(tensor, two["weights"][name]), name

    class Both(Line):
        def loss(self, step, rng):
            parts = [Line.loss(self, step, step_generator(0, step, number, 2)) for number in (0, 1)]
            return sum(parts) / 2

    both = Both(seed=0)
    train(both, LoopConfig.of(steps=5, lr=0.1, save_every=0), tmp_path / "both", quiet)
    for name, tensor in one["weights"].items():
        assert torch.allclose(tensor, both.module.state_dict()[name], atol=1e-6), name


def test_ranks_share_the_errors_of_the_first_batches_alone(runs):
    one, two = (torch.load(runs / f"sigmas-{n}.pt", weights_only=True) for n in (0, 1))
    assert one[: 4 * B] == two[: 4 * B] and len(set(one[: 4 * B])) == 4 * B
    assert len(one) == len(two) == 5 * B and not set(one[4 * B :]) & set(two)


def test_work_is_shared_out_evenly():
    assert share_out([5, 1, 1, 1, 1, 1], 2) == [0, 1, 1, 1, 1, 1]
    assert sorted(share_out([1] * 6, 3)) == [0, 0, 1, 1, 2, 2]


def test_torchrun_starts_the_command_line_and_both_ranks_end_well(tmp_path):
    config = tmp_path / "text.toml"
    config.write_text("[loop]\nsteps = 2\nlog_every = 1\nsave_every = 0\n[text_encoder]\nbatch = 8\n")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "longtake", "train", "text_encoder", str(config), "-o", str(tmp_path / "run")]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("step 2/2") == 1  # rank 0 alone reports
    assert len(curve(tmp_path / "run")) == 2
