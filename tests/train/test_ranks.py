"""Several processes train as one: the same losses, however weights and batches are laid out, and exactly so after a stop."""

import json
import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from longtake.train import checkpoint
from longtake.train.config import ConfigError
from longtake.train.loop import train
from longtake.train.optim import share_out

from .toys import TWO, Prompted, Uneven, Weighted, curve, in_two, quiet, sharded_rank

ONE = replace(TWO, accumulate=2)  # one process that draws the batches of both


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of all runs of two processes."""
    folder = tmp_path_factory.mktemp("ranks")
    in_two(sharded_rank, folder)
    return folder


def last(folder, part="ema"):
    return checkpoint.read(checkpoint.newest_checkpoint(folder), part)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_every_layout_gives_the_same_losses(runs, kind, tmp_path):
    train(Weighted(), replace(ONE, optimiser=kind), tmp_path, quiet)
    alone = curve(tmp_path)
    assert len(alone) == 10 and alone[-1] < 0.8 * alone[0]
    for shard in ("none", "zero2", "zero3"):
        assert curve(runs / f"{kind}-{shard}") == pytest.approx(alone, rel=1e-5), shard
        finished = load_file(runs / f"{kind}-{shard}" / "finished.safetensors")
        for name, tensor in last(runs / f"{kind}-{shard}").items():
            torch.testing.assert_close(tensor, last(tmp_path)[name], rtol=1e-4, atol=1e-5)
            assert torch.equal(tensor, finished[name]), name


@pytest.mark.parametrize("shard", ["none", "zero3"])
def test_a_stopped_run_of_two_processes_repeats_the_whole_one(runs, shard):
    assert curve(runs / f"stopped-{shard}") == curve(runs / f"adamw-{shard}")
    for part in ("model", "ema", "optimiser"):
        whole, parts = last(runs / f"adamw-{shard}", part), last(runs / f"stopped-{shard}", part)
        assert whole.keys() == parts.keys() and all(torch.equal(whole[name], parts[name]) for name in whole), part


def test_a_checkpoint_of_one_layout_goes_on_in_another(runs, tmp_path):
    whole = curve(runs / "adamw-none")
    assert curve(runs / "copy-none") == pytest.approx(whole, rel=1e-5)  # begun plain, ended with zero2
    train(Weighted(seed=9), ONE, runs / "copy-zero3", quiet)  # begun with zero3, ended in one process
    assert curve(runs / "copy-zero3") == pytest.approx(whole, rel=1e-5)


def test_other_batches_are_refused(runs):
    with pytest.raises(ConfigError, match="2 batches a step, and 1 processes x accumulate 1 make 1"):
        train(Weighted(), TWO, runs / "adamw-zero3", quiet)


def test_a_sharded_checkpoint_is_safetensors_and_json_and_may_become_one_file(runs):
    folder = checkpoint.newest_checkpoint(runs / "adamw-zero3")
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert len(files) == 7 and all(name.endswith(".safetensors") or name == "state.json" for name in files)
    shards = checkpoint.read(folder, "ema")
    assert checkpoint.whole_file(folder, "ema").is_file()
    whole = checkpoint.read(folder, "ema")
    assert all(torch.equal(shards[name], whole[name]) for name in shards) and whole.keys() == shards.keys()


def test_a_network_whose_layers_are_read_outside_of_its_forward_pass_is_sharded_too(runs, tmp_path):
    train(Prompted(), replace(ONE, steps=4), tmp_path, quiet)
    for shard in ("zero2", "zero3"):
        assert curve(runs / f"prompted-{shard}") == pytest.approx(curve(tmp_path), rel=1e-5), shard


def test_batches_that_call_the_network_differently_are_sharded_as_a_whole(runs, tmp_path):
    train(Uneven(), replace(ONE, steps=4), tmp_path, quiet)
    assert curve(runs / "uneven") == pytest.approx(curve(tmp_path), rel=1e-5)
    assert not (runs / "refused" / "log.jsonl").exists()  # zero3


def test_bad_batches_are_named_by_every_rank(runs):
    lines = [json.loads(line) for line in (runs / "bad" / "log.jsonl").read_text().splitlines()]
    (words,) = [line["skipped"] for line in lines if "skipped" in line]
    assert re.fullmatch(r"batch 1 of 2, loss nan \(\d items\); batch 2 of 2, loss nan \(\d items\)", words)
    assert len(curve(runs / "bad")) == 4


def test_bf16_shards_train_and_are_checked_whole(runs):
    assert curve(runs / "bf16") == pytest.approx(curve(runs / "adamw-none"), rel=0.05)
    assert curve(runs / "bf16") != curve(runs / "adamw-none")
    assert all(tensor.dtype == torch.float32 for tensor in last(runs / "bf16").values())
    one, two = (json.loads((runs / f"scores-{number}.json").read_text()) for number in (0, 1))
    assert len(one) == 3 and one[-2] == one[-1] and two == []  # at steps 5 and 10, and when it is finished
    net = Weighted().module
    net.load_state_dict(last(runs / "bf16"))
    assert one[-1] == pytest.approx(net(torch.ones(1, 16)).sum().item(), rel=0.05, abs=0.05)


def test_a_full_disk_on_one_rank_stops_both_and_leaves_the_checkpoint_before(runs):
    for number in (0, 1):
        words = (runs / "full" / f"error-{number}").read_text()
        assert "the disk is full" in words and "step-000004, the one before, is whole" in words
    assert [path.name for path in (runs / "full").glob("step-*")] == ["step-000004"]
    assert last(runs / "full").keys() == last(runs / "adamw-none").keys()


def test_work_is_shared_out_evenly():
    assert share_out([5, 1, 1, 1, 1, 1], 2) == [0, 1, 1, 1, 1, 1]
    assert sorted(share_out([1] * 6, 3)) == [0, 0, 1, 1, 2, 2]
