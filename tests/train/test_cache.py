"""Shards of encoded items: an item keeps its number however the folder was filled."""

import torch

from longtake.train.data import Latents, Source, fill_cache

SOURCE = Source(frames=5, switch=0.0)


def quiet(line):
    pass


def encode(frames):
    """Latents that tell the clip: the mean of its frames."""
    return frames.mean() * torch.ones(1, 1, 2, 8, 8)


def truth(tmp_path, count):
    """What the clips of a source are encoded to, made in one go."""
    fill_cache(tmp_path / "whole", SOURCE, count, encode, report=quiet)
    return Latents(tmp_path / "whole")


def test_a_folder_that_is_filled_further_keeps_its_numbers(tmp_path):
    fill_cache(tmp_path / "grown", SOURCE, 10, encode, report=quiet)
    assert len(Latents(tmp_path / "grown")) == 10
    fill_cache(tmp_path / "grown", SOURCE, 80, encode, report=quiet)
    whole, grown = truth(tmp_path, 80), Latents(tmp_path / "grown")
    assert len(grown) == 80 and torch.equal(grown.latents, whole.latents)


def test_clips_of_a_folder_with_gaps_keep_their_captions(tmp_path):
    """As earlier versions filled them: ten clips in the first shard, and then the second one."""
    fill_cache(tmp_path / "gaps", SOURCE, 10, encode, report=quiet)
    whole = truth(tmp_path, 80)
    (tmp_path / "whole" / "00001.safetensors").rename(tmp_path / "gaps" / "00001.safetensors")
    gaps = Latents(tmp_path / "gaps")
    assert list(gaps.clips) == [*range(10), *range(64, 80)] and len(gaps) == 26
    for number in (3, 64, 79):
        assert gaps.clips[number] == whole.clips[number]
        assert torch.equal(gaps.window(number, 0, 2)[0], whole.window(number, 0, 2)[0])
