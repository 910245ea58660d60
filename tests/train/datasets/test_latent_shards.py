"""Shards of encoded items: an item keeps its number however the folder was filled."""

import json

import pytest
import torch
from safetensors import SafetensorError

from longtake.models.checkpoints import loading as weights
from longtake.models.wan import vae_config as wan_vae_config
from longtake.models.wan.vae import WanVAE
from longtake.pocket.clips import Source
from longtake.train.datasets.bucket_clips import fill_clips
from longtake.train.datasets.buckets import make_buckets
from longtake.train.datasets.image_conditioning import PrefixLengths, fill_prefixes
from longtake.train.datasets.latent_shards import VAEFingerprint, check_vae, vae_digest
from longtake.train.datasets.pocket import PocketLatents, fill_cache

SOURCE = Source(frames=5, switch=0.0)


def quiet(line):
    pass


def encode(frames):
    """Latents that identify the clip: the mean of its frames."""
    return frames.mean() * torch.ones(1, 1, 2, 8, 8)


def truth(tmp_path, count):
    """The clips of a source, encoded in one go."""
    fill_cache(tmp_path / "whole", SOURCE, count, encode, report=quiet)
    return PocketLatents(tmp_path / "whole")


def test_a_folder_that_is_filled_further_keeps_its_numbers(tmp_path):
    fill_cache(tmp_path / "grown", SOURCE, 10, encode, report=quiet)
    assert len(PocketLatents(tmp_path / "grown")) == 10
    fill_cache(tmp_path / "grown", SOURCE, 80, encode, report=quiet)
    whole, grown = truth(tmp_path, 80), PocketLatents(tmp_path / "grown")
    assert len(grown) == 80 and torch.equal(grown.latents, whole.latents)


def test_clips_of_a_folder_with_gaps_keep_their_captions(tmp_path):
    """Ten clips in the first shard, and then the second shard."""
    fill_cache(tmp_path / "gaps", SOURCE, 10, encode, report=quiet)
    whole = truth(tmp_path, 80)
    (tmp_path / "whole" / "00001.safetensors").rename(tmp_path / "gaps" / "00001.safetensors")
    gaps = PocketLatents(tmp_path / "gaps")
    assert list(gaps.clips) == [*range(10), *range(64, 80)] and len(gaps) == 26
    for number in (3, 64, 79):
        assert gaps.clips[number] == whole.clips[number]
        assert torch.equal(gaps.window(number, 0, 2)[0], whole.window(number, 0, 2)[0])


# ---------------------------------------------------------------- faults
def test_a_truncated_shard_is_encoded_again(tmp_path):
    fill_cache(tmp_path, SOURCE, 3, encode, report=quiet)
    shard = tmp_path / "00000.safetensors"
    for left in (0, 50, shard.stat().st_size - 1):
        shard.write_bytes(shard.read_bytes()[:left])
        with pytest.raises(
            OSError, match=r"00000\.safetensors cannot be read .* the run that encoded it will encode it again"
        ):
            PocketLatents(tmp_path)
        fill_cache(tmp_path, SOURCE, 3, encode, report=quiet)
        assert len(PocketLatents(tmp_path)) == 3


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("os error 28")])
def test_a_full_disk_is_reported_and_leaves_no_partial_file(tmp_path, monkeypatch, error):
    def no_room(tensors, path, metadata):
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(weights, "save_file", no_room)
    with pytest.raises(OSError, match=r"00000\.safetensors could not be written: .*28.*; make room"):
        fill_cache(tmp_path, SOURCE, 3, encode, report=quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["cache.json"]


# ---------------------------------------------------------------- the VAE of the latents
A, B = VAEFingerprint("vaes/a", "a" * 64), VAEFingerprint("vaes/b", "b" * 64)
FILL = {
    "latents": lambda folder, **by: fill_cache(folder, SOURCE, 2, encode, report=quiet, **by),
    "image_cond": lambda folder, **by: fill_prefixes(
        folder, SOURCE, 2, PrefixLengths((1,), (1.0,)), encode, report=quiet, **by
    ),
    "clips": lambda folder, **by: fill_clips(
        folder, make_buckets([0.2], [[64, 64]], 4, 8, 24), 2, 0, encode, report=quiet, **by
    ),
}


@pytest.mark.parametrize("fill", FILL.values(), ids=FILL)
def test_latents_of_another_vae_are_refused(fill, tmp_path):
    fill(tmp_path, fingerprint=A)
    fill(tmp_path, fingerprint=A)
    with pytest.raises(ValueError, match=r"another VAE \(aaaaaaaaaaaa\) than vaes/b \(bbbbbbbbbbbb\): use the VAE"):
        fill(tmp_path, fingerprint=B)


@pytest.mark.parametrize("fill", FILL.values(), ids=FILL)
def test_a_folder_without_a_recorded_vae_is_accepted_and_then_records_it(fill, tmp_path):
    fill(tmp_path)
    (about,) = tmp_path.rglob("*.json")
    assert "vae" not in json.loads(about.read_text())
    check_vae(about, B)
    fill(tmp_path, fingerprint=A)
    with pytest.raises(ValueError, match="another VAE"):
        check_vae(about, B)


def test_the_vae_is_not_part_of_the_source(tmp_path):
    FILL["latents"](tmp_path, fingerprint=A)
    assert PocketLatents(tmp_path).source == SOURCE


def test_the_digest_of_a_vae_covers_its_encoder_alone():
    torch.manual_seed(0)
    vae = WanVAE(wan_vae_config.tiny())
    before = vae_digest(vae)
    assert vae_digest(vae.bfloat16()) == before
    vae.decoder_net.conv_in.weight.data += 1
    assert vae_digest(vae) == before
    vae.quant_conv.weight.data += 1
    assert vae_digest(vae) != before
