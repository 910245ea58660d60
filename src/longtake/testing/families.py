"""The contract of a model family: checks of its tiny `ContractCase` models, each an ordinary function that asserts.

@pytest.mark.parametrize(("family", "case"), family_cases())
def test_my_family(family, case, tmp_path):
    check_family(open_case(family, case, tmp_path / "model"))
"""

from __future__ import annotations

import torch

from longtake.testing.cases import LATENTS, PROMPT, OpenCase, begin, latent_shape, latents, uniform, velocity, video
from longtake.testing.runtime_options import RUNTIME_CHECKS


def check_family(opened: OpenCase) -> None:
    """Run every check of this module."""
    for check in CHECKS:
        check(opened)


# ---------------------------------------------------------------- the checks
def check_shapes(opened: OpenCase) -> None:
    """The VAE, the text encoder and a step return what `longtake.models.interfaces` says."""
    model, vae = opened.model, opened.model.vae
    frames = 1 + vae.temporal_compression * (LATENTS - 1)
    video = torch.rand(1, 3, frames, *model.size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        assert tuple(vae.encode(video).shape) == latent_shape(model)
        embedding = model.text_encoder.encode([PROMPT, ""])
        assert embedding.ndim == 3 and len(embedding) == 2
        decoder = vae.decoder()
        shown = torch.cat([decoder.push(latents(model)), decoder.flush()], 2)
    assert tuple(shown.shape[:2]) == (1, 3) and tuple(shown.shape[3:]) == model.size
    assert shown.shape[2] == frames
    assert velocity(model).shape == latent_shape(model)


def check_sigma_per_frame(opened: OpenCase) -> None:
    """A uniform vector of sigmas, one per latent frame, gives the velocity of one scalar sigma."""
    model = opened.model
    assert torch.equal(velocity(model, uniform(0.7)), velocity(model, uniform(0.7)))
    if opened.case.network is None or opened.path is None:
        return
    net = opened.case.network(opened.path)
    x, text = latents(model), model.text_encoder.encode([PROMPT])
    with torch.inference_mode():
        want = net(x, torch.tensor(0.7), text)
        for sigma in (uniform(0.7), uniform(0.7)[None]):
            assert torch.allclose(net(x, sigma, text), want, atol=1e-5), "a uniform sigma vector changes the velocity"
        mixed = net(x, torch.linspace(1, 0.1, LATENTS), text)
    assert opened.model.limits.per_frame_sigma is False or not torch.allclose(mixed, want, atol=1e-5)


def check_streamed_decode(opened: OpenCase) -> None:
    """Decoding latent by latent gives the frames of decoding all latents at once."""
    x = latents(opened.model, 5)
    with torch.inference_mode():
        whole, streamed = opened.model.vae.decoder(), opened.model.vae.decoder()
        want = torch.cat([whole.push(x), whole.flush()], 2)
        parts = [streamed.push(x[:, :, i : i + 1]) for i in range(x.shape[2])]
        have = torch.cat([*parts, streamed.flush()], 2)
    assert have.shape == want.shape and torch.allclose(have, want, atol=1e-4), "streamed decoding differs"


def check_round_trip(opened: OpenCase) -> None:
    """A checkpoint read twice is the same model, and a session restored from `state` gives the same velocity."""
    again = opened.load()
    assert again.info.digest == opened.model.info.digest
    assert torch.equal(velocity(again), velocity(opened.model))
    first, second = opened.model.session(), opened.model.session()
    begin(first, opened.model)
    second.load({name: tensor.clone() for name, tensor in first.state().items()})
    begin(second, opened.model)
    with torch.inference_mode():
        x, sigma = latents(opened.model), uniform(1.0)
        assert torch.equal(first(x, sigma), second(x, sigma)), "a restored session differs"


def check_generation(opened: OpenCase) -> None:
    """The case's short generation shows its frames in order, and the same frames again."""
    assert opened.case.frames == len(one := video(opened.case, opened.model)), (
        f"{len(one)} frames instead of {opened.case.frames}"
    )
    assert torch.equal(one, video(opened.case, opened.model)), "the same seed gives another video"


CHECKS = (
    check_shapes, check_sigma_per_frame, check_streamed_decode, check_round_trip, check_generation,
    *RUNTIME_CHECKS,
)  # fmt: skip
