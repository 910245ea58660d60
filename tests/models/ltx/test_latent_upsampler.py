"""The latent upsampler equals the reference on equal weights, in every kind, from folders and from files."""

import json

import pytest
import torch
from safetensors.torch import save_file

from longtake.models.checkpoints import loading as weights
from longtake.models.ltx import latent_upsampler as ltx_upsampler
from longtake.models.ltx.latent_upsampler import LTXUpsampler, LTXUpsamplerConfig
from longtake.models.ltx.presets import UPSAMPLER_PARAMETERS
from longtake.models.ltx.vae import LTXVAE
from longtake.models.ltx.vae_config import tiny
from tests.oracles import apart, oracle, rand, shuffled, twin

SMALL = dict(in_channels=4, mid_channels=32, num_blocks_per_stage=1)
KINDS = {
    "published": dict(),
    "frame by frame": dict(dims=2),
    "time": dict(spatial_upsample=False, temporal_upsample=True),
    "both": dict(temporal_upsample=True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_reference(kind):
    net = shuffled(LTXUpsampler(LTXUpsamplerConfig(**SMALL, **KINDS[kind])))
    x = rand(2, 4, 3, 2, 5)
    want = twin(oracle("diffusers.pipelines.ltx.modeling_latent_upsampler", "LTXLatentUpsamplerModel"), net)(x)
    got = net(x)
    assert apart(want, got) < 1e-6
    assert got.shape == (2, 4, 5 if "temporal_upsample" in KINDS[kind] else 3, *((4, 10) if kind != "time" else (2, 5)))


def test_released_keys_and_shapes():
    with torch.device("meta"):
        ours = LTXUpsampler(LTXUpsamplerConfig())
        theirs = oracle("diffusers.pipelines.ltx.modeling_latent_upsampler", "LTXLatentUpsamplerModel")()
    names = [{name: tuple(t.shape) for name, t in net.state_dict().items()} for net in (ours, theirs)]
    assert names[0] == names[1] and sum(p.numel() for p in ours.parameters()) == UPSAMPLER_PARAMETERS


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_normalised_latents_come_and_go_as_in_the_pipeline(share):
    net = shuffled(LTXUpsampler(LTXUpsamplerConfig(**SMALL)))
    vae = LTXVAE(tiny())
    vae.latents_mean.copy_(rand(4)), vae.latents_std.copy_(rand(4).abs() + 0.5)
    reference = twin(oracle("diffusers.pipelines.ltx.modeling_latent_upsampler", "LTXLatentUpsamplerModel"), net)
    their_vae = twin(oracle("diffusers", "AutoencoderKLLTXVideo"), vae)
    kind = oracle("diffusers.pipelines.ltx.pipeline_ltx_latent_upsample", "LTXLatentUpsamplePipeline")
    pipe = kind(their_vae, reference)
    pipe.vae_spatial_compression_ratio = 8
    x = rand(1, 4, 3, 2, 4, seed=5)
    want = pipe(latents=x, height=16, width=32, adain_factor=share, output_type="latent").frames
    assert apart(want, ltx_upsampler.upsampled(net, vae, x, share)) < 1e-5


def test_folders_and_published_files(tmp_path):
    net = shuffled(LTXUpsampler(LTXUpsamplerConfig(**SMALL)))
    weights.save(net, net.config, tmp_path / "latent_upsampler", kind="LTXLatentUpsamplerModel")
    about = {"_class_name": "LatentUpsampler", **SMALL, "dims": 3, "spatial_upsample": True, "temporal_upsample": False}
    save_file(net.state_dict(), tmp_path / "up.safetensors", {"config": json.dumps(about)})
    x = rand(1, 4, 2, 2, 3)
    for path in (tmp_path / "latent_upsampler", tmp_path / "up.safetensors"):
        assert torch.equal(ltx_upsampler.load(path)(x), net(x))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(dims=4), "2 or 3"),
        (dict(dims=2, temporal_upsample=True), "one by one"),
        (dict(spatial_upsample=False), "does nothing"),
        (dict(mid_channels=40), "multiple of 32"),
    ],
)
def test_impossible_configs_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        LTXUpsamplerConfig(**changes)
