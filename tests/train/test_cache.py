"""Shards of encoded items: an item keeps its number however the folder was filled."""

import json

import pytest
import torch
from safetensors import SafetensorError

from longtake.models import wan_codec, weights
from longtake.models.wan_codec import WanCodec
from longtake.train.cache import Coder, check_codec, digest_of
from longtake.train.data import Latents, Source, count_clips, fill_cache
from longtake.train.mixed import fill_clips
from longtake.train.pairs import pairs
from longtake.train.told import Givens, fill_told

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


# ---------------------------------------------------------------- what goes wrong
def test_a_shard_that_is_cut_short_is_made_again(tmp_path):
    fill_cache(tmp_path, SOURCE, 3, encode, report=quiet)
    shard = tmp_path / "00000.safetensors"
    for left in (0, 50, shard.stat().st_size - 1):
        shard.write_bytes(shard.read_bytes()[:left])
        with pytest.raises(
            OSError, match=r"00000\.safetensors cannot be read .* the run that encoded it makes it again"
        ):
            Latents(tmp_path)
        fill_cache(tmp_path, SOURCE, 3, encode, report=quiet)
        assert len(Latents(tmp_path)) == 3


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("os error 28")])
def test_a_full_disk_is_said_and_leaves_nothing_half(tmp_path, monkeypatch, error):
    def no_room(tensors, path, metadata):
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(weights, "save_file", no_room)
    with pytest.raises(OSError, match=r"00000\.safetensors could not be written: .*28.*; make room"):
        fill_cache(tmp_path, SOURCE, 3, encode, report=quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["cache.json"]


# ---------------------------------------------------------------- whose latents they are
A, B = Coder("codecs/a", "a" * 64), Coder("codecs/b", "b" * 64)
FILL = {
    "latents": lambda folder, **by: fill_cache(folder, SOURCE, 2, encode, report=quiet, **by),
    "told": lambda folder, **by: fill_told(folder, SOURCE, 2, Givens((1,), (1.0,)), encode, report=quiet, **by),
    "clips": lambda folder, **by: fill_clips(
        folder, pairs([0.2], [[64, 64]], 4, 8, 24), 2, 0, encode, report=quiet, **by
    ),
}


@pytest.mark.parametrize("fill", FILL.values(), ids=FILL)
def test_latents_of_another_codec_are_refused(fill, tmp_path):
    fill(tmp_path, coder=A)
    fill(tmp_path, coder=A)
    with pytest.raises(
        ValueError, match=r"another codec \(aaaaaaaaaaaa\) than codecs/b \(bbbbbbbbbbbb\): name the codec"
    ):
        fill(tmp_path, coder=B)


@pytest.mark.parametrize("fill", FILL.values(), ids=FILL)
def test_a_folder_that_does_not_say_its_codec_is_taken_and_says_it_from_then_on(fill, tmp_path):
    fill(tmp_path)
    (about,) = tmp_path.rglob("*.json")
    assert "codec" not in json.loads(about.read_text())
    check_codec(about, B)
    fill(tmp_path, coder=A)
    with pytest.raises(ValueError, match="another codec"):
        check_codec(about, B)


def test_the_codec_is_not_part_of_the_source(tmp_path):
    FILL["latents"](tmp_path, coder=A)
    assert Latents(tmp_path).source == SOURCE and count_clips(tmp_path) == {**SOURCE.facts(), "count": 2}


def test_a_codec_is_what_it_encodes_with():
    torch.manual_seed(0)
    codec = WanCodec(wan_codec.tiny())
    before = digest_of(codec)
    assert digest_of(codec.bfloat16()) == before
    codec.decoder_net.conv_in.weight.data += 1
    assert digest_of(codec) == before
    codec.quant_conv.weight.data += 1
    assert digest_of(codec) != before
