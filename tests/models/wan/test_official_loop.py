"""The frames of a long video equal those of the authors' loop, written out: every window re-encodes the last frames."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from longtake.core.guidance_settings import Guidance
from longtake.engine.build import build_rollout
from longtake.engine.events import Frames
from longtake.engine.inputs import RolloutInputs
from longtake.models.model import Model, ModelInfo, SamplingDefaults, VideoFormat
from longtake.models.wan import config as wan_config
from longtake.models.wan import transformer as wan
from longtake.models.wan import vae as wan_vae
from longtake.models.wan import vae_config as wan_vae_config
from longtake.models.wan.session import WanSession
from longtake.planning.limits import Limits
from longtake.planning.script import Script
from longtake.planning.strategies.registry import make_plan
from tests.oracles import apart, rand, shuffled
from tests.planning.strategies.skyreels_matrix import matrix

SIZE, STEPS, SHIFT, GUIDANCE = 32, 5, 8.0, 3.0
LONG = dict(frames=65, base=29, overlap=9)
CASES = {
    "one window": dict(frames=29, base=29, overlap=9),
    "one window, async": dict(frames=29, base=29, overlap=9, lag=2),
    "three windows": LONG,
    "three windows, noisy": LONG | dict(noisy=20),
    "three windows, async, noisy": LONG | dict(lag=2, noisy=20),
    "three windows, async in blocks, noisy": dict(frames=61, base=29, overlap=13, lag=2, block=4, noisy=20),
    "from an image": dict(frames=29, base=29, overlap=9, image=True),
    "from an image, three windows, noisy": LONG | dict(image=True, noisy=20),
    "from an image, one window, noisy": dict(frames=29, base=29, overlap=9, image=True, noisy=20),
    "from an image, async, noisy": dict(frames=29, base=29, overlap=9, image=True, noisy=20, lag=2),
    "behind a video, noisy": LONG | dict(video=9, noisy=20),
    "from an image to another": dict(frames=29, base=29, overlap=9, image=True, end=True),
}


def latents(frames: int) -> int:
    return (frames - 1) // 4 + 1


def drawn(purpose: str, window: int, index: int, call: int) -> torch.Tensor:
    """The noise of a latent frame of a window, as both draw it."""
    seed = 1 + 10**6 * ("start", "context").index(purpose) + 10**4 * window + 100 * index + call
    side = SIZE // 4
    return rand(1, 4, side, side, seed=seed)


def sigmas() -> torch.Tensor:
    """Of the published step numbers: not started, 1 to STEPS, finished."""
    s = torch.linspace(0.999, 0, STEPS + 1, dtype=torch.float64)[:-1]
    sigma = SHIFT * s / (1 + (SHIFT - 1) * s)
    return torch.cat([sigma[:1], sigma, torch.zeros(1, dtype=torch.float64)])


def official(net, vae, texts, *, frames, base, overlap, lag=0, block=1, noisy=0, image=None, end=None):
    """Frames (1 3 T H W), window after window; the steps are Euler's."""
    video, finished, window = torch.zeros(1, 3, 0, SIZE, SIZE), 0, 0
    while finished < latents(frames):
        known = image if window == 0 else vae.encode(video[:, :, -overlap:].clamp(-1, 1))
        ready = 0 if known is None else known.shape[2]
        size = min(latents(frames) - finished + (ready if window else 0), latents(base))
        x = torch.stack([drawn("start", window, i, 0) for i in range(size)], 2)
        if known is not None:
            x[:, :, :ready] = known
        index, update, _ = matrix(size, STEPS, lag, size, ready, block)
        for row, (now, moves) in enumerate(zip(index, update)):
            sigma, noised = sigmas()[now], x.clone()
            if noisy and ready:
                eps = torch.stack([drawn("context", window, i, row) for i in range(ready)], 2)
                noised[:, :, :ready] = (1 - noisy / 1000) * x[:, :, :ready] + noisy / 1000 * eps
                sigma[:ready] = noisy / 1000
            v = guided(net, noised, sigma, texts, end)
            for i, number in enumerate(now):
                if moves[i]:
                    x[:, :, i] += (sigmas()[number + 1] - sigmas()[number]).float() * v[:, :, i]
        made = vae.decode(x)
        video = torch.cat([video, made[:, :, overlap if window else 0 :]], 2)
        finished, window = finished + size - (ready if window else 0), window + 1
    return video


def guided(net, x, sigma, texts, end):
    """Two branches, whole timesteps; the end is one more latent frame at sigma 0, which is dropped again."""
    count = x.shape[2]
    if end is not None:
        x, sigma = torch.cat([x, end], 2), torch.cat([sigma, sigma.new_zeros(1)])
    rounded = (1000 * sigma + 1e-9).floor() / 1000
    yes, no = (net(x, rounded, text, fps=24.0)[:, :, :count] for text in texts)
    return no + GUIDANCE * (yes - no)


@pytest.fixture(scope="module")
def parts():
    net = shuffled(wan.WanTransformer(wan_config.tiny(inject_sample_info=True)))
    vae = shuffled(wan_vae.WanVAE(wan_vae_config.tiny(z_dim=4, latents_mean=(0.0,) * 4, latents_std=(1.0,) * 4)))
    return net, vae, (rand(1, 7, 10, seed=8), rand(1, 7, 10, seed=9))


@pytest.mark.parametrize("name", CASES)
def test_frames_equal_the_loop_of_the_authors(parts, name):
    net, vae, texts = parts
    asked = dict(CASES[name])
    pictures = {
        "image" if word == "video" else word: rand(1, 3, count, SIZE, SIZE, seed=len(word)).tanh()
        for word in ("image", "video", "end")
        if (count := int(asked.pop(word, 0)))
    }
    with torch.inference_mode():
        want = official(net, vae, texts, **asked, **{word: vae.encode(p) for word, p in pictures.items()})
    model = Model(
        ModelInfo("tiny", "wan"), limits=Limits(max_latent_frames=latents(asked["base"])), session=lambda: WanSession(net, True),
        vae=vae, format=VideoFormat(24.0, (SIZE, SIZE)), defaults=SamplingDefaults(guidance=Guidance((GUIDANCE,))),
        text_encoder=SimpleNamespace(unknown=lambda prompt: (), cut_off=lambda prompt: "", encode=lambda prompts: torch.cat([texts[0 if p == "a" else 1] for p in prompts])),
    )  # fmt: skip
    strategy = make_plan(
        "async" if "lag" in asked else "sliding", steps=STEPS, shift=SHIFT, sigma_spacing="skyreels", window=asked["base"],
        handoff="pixels", overlap=asked["overlap"], context_noise=asked.get("noisy", 0) / 1000, context_noise_mode="resampled",
        ar_step=asked.get("lag", 0), causal_block_size=asked.get("block", 1),
    )  # fmt: skip
    run = build_rollout(
        model, Script.of("a", 24, asked["frames"] / 24), strategy, solver="euler", inputs=RolloutInputs(start=pictures.get("image"), end=pictures.get("end")),
        noise=lambda keys, shape: torch.stack([drawn(s.purpose, s.clip, s.index, s.step) for s in keys], 2),
    )  # fmt: skip
    ours = torch.cat([event.video for event in run.run() if isinstance(event, Frames)], 2)
    assert ours.shape[2] == asked["frames"] and ours.std() > 0.05
    assert apart(want, ours) < 1e-4
