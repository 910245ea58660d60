"""Image to video: the conditioning of the network and every latent equal diffusers' pipeline; clips continue one another."""

import warnings
from types import SimpleNamespace

import pytest
import torch

from longtake.core.errors import PlanError
from longtake.core.guidance_settings import Guidance
from longtake.core.noise import Recorded
from longtake.engine.build import build_rollout
from longtake.engine.events import Frames
from longtake.engine.inputs import RolloutInputs
from longtake.models.encoders.clip_vision import ClipConfig, ClipVision
from longtake.models.first_frames import known
from longtake.models.interfaces import ContextFrames
from longtake.models.model import Model, ModelInfo, SamplingDefaults, VideoFormat
from longtake.models.wan.config import tiny
from longtake.models.wan.image_conditioning import ImageConditioner
from longtake.models.wan.session import WanSession
from longtake.models.wan.svi import SviImageConditioner, SviProConditioner
from longtake.models.wan.transformer import WanTransformer
from longtake.models.wan.vae import WanVAE
from longtake.models.wan.vae_config import WanVAEConfig
from longtake.planning.limits import Limits
from longtake.planning.script import Script
from longtake.planning.strategies.registry import make_plan
from tests.oracles import apart, oracle, rand, shuffled, twin
from tests.rollouts import recorded, resumed

SIZE, FRAMES, STEPS, SHIFT, GUIDANCE = 32, 9, 4, 3.0, 5.0
EYES = ClipConfig(
    hidden_size=14, intermediate_size=20, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
)
TEXTS = {"prompt": rand(1, 512, 10, seed=5), "": rand(1, 512, 10, seed=6)}
IMAGE = rand(1, 3, 1, SIZE, SIZE, seed=7).clamp(-1, 1)


@pytest.fixture(scope="module")
def net() -> WanTransformer:
    return shuffled(WanTransformer(tiny(in_channels=12, image_dim=14, added_kv_proj_dim=24)))


@pytest.fixture(scope="module")
def vae() -> WanVAE:
    config = WanVAEConfig(
        base_dim=4, z_dim=4, dim_mult=(1, 1, 1, 1), num_res_blocks=1, latents_mean=(0.1, -0.2, 0.3, 0.0),
        latents_std=(0.5, 1.5, 2.5, 1.0),
    )  # fmt: skip
    return shuffled(WanVAE(config))


@pytest.fixture(scope="module")
def conditioner(vae) -> ImageConditioner:
    return ImageConditioner(vae, shuffled(ClipVision(EYES)))


@pytest.fixture(scope="module")
def model(net, vae, conditioner) -> Model:
    text = SimpleNamespace(
        unknown=lambda prompt: (),
        cut_off=lambda prompt: "",
        encode=lambda prompts: torch.cat([TEXTS[prompt] for prompt in prompts]),
    )
    return Model(
        ModelInfo("tiny", "wan"), limits=Limits(max_latent_frames=3, per_frame_sigma=False, conditioning="concat"),
        session=lambda: WanSession(net, whole_timesteps=True, conditioner=conditioner), vae=vae, text_encoder=text,
        format=VideoFormat(24.0, (SIZE, SIZE)), defaults=SamplingDefaults(guidance=Guidance((GUIDANCE,))),
    )  # fmt: skip


def strategy(**changes):
    options = dict(steps=STEPS, shift=SHIFT, sigma_spacing="diffusers", window=FRAMES, overlap=1, handoff="pixels")
    return make_plan("clip-conditioned", **{**options, **changes})


def their_run(net, vae, conditioner, noise, brand):
    """-> (input of the network at every step, image tokens, latents after every step, timesteps)"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformer = twin(oracle("diffusers", f"{brand}Transformer3DModel"), net)
        scheduler = oracle("diffusers", "UniPCMultistepScheduler")(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=SHIFT, num_train_timesteps=1000
        )
        pipe = oracle("diffusers", f"{brand}ImageToVideoPipeline")(
            tokenizer=None, text_encoder=None, image_encoder=None, image_processor=None, transformer=transformer,
            vae=twin(oracle("diffusers", "AutoencoderKLWan"), vae), scheduler=scheduler,
        )  # fmt: skip
        pipe.set_progress_bar_config(disable=True)
        pipe.encode_image = lambda image, device: conditioner.image_encoder.encode_image(image)
        calls, latents = [], []
        transformer.register_forward_pre_hook(lambda _, args, kwargs: calls.append(kwargs), with_kwargs=True)
        pipe(
            image=IMAGE[:, :, 0], prompt_embeds=TEXTS["prompt"], negative_prompt_embeds=TEXTS[""], height=SIZE, width=SIZE,
            num_frames=FRAMES, num_inference_steps=STEPS, guidance_scale=GUIDANCE, latents=noise, output_type="latent",
            callback_on_step_end=lambda pipe, i, t, found: latents.append(found["latents"].clone()) or {},
        )  # fmt: skip
    return calls[::2], latents


@pytest.mark.parametrize("brand", ["Wan", "SkyReelsV2"])
def test_inputs_and_latents_equal_the_pipeline(model, net, vae, conditioner, monkeypatch, brand):
    noise = rand(1, 4, 3, 4, 4, seed=9)
    theirs, latents = their_run(net, vae, conditioner, noise, brand)
    ours = []
    forward = net.forward
    monkeypatch.setattr(
        net, "forward", lambda x, sigma, **options: ours.append((x, sigma)) or forward(x, sigma, **options)
    )
    images = []
    memory = net.text_kv
    monkeypatch.setattr(net, "text_kv", lambda text, image: images.append(image) or memory(text, image))
    table = {("start", 0, i, 0, 0): noise[:, :, i] for i in range(3)}
    run = build_rollout(
        model,
        Script.of("prompt", 24, FRAMES / 24),
        strategy(),
        solver="unipc",
        noise=Recorded(table),
        inputs=RolloutInputs(start=IMAGE),
    )
    video = torch.cat([e.video for e in run.run() if isinstance(e, Frames)], 2)
    assert video.shape == (1, 3, FRAMES, SIZE, SIZE)
    assert len(ours) == len(theirs) == STEPS
    assert apart(theirs[0]["encoder_hidden_states_image"], images[0][:1]) < 1e-5
    for (x, sigma), call in zip(ours, theirs):
        assert apart(call["hidden_states"], x[:1]) < 1e-4
        assert (1000 * sigma).tolist() == pytest.approx(call["timestep"].tolist() * 3)
    last = torch.stack([frame.value for _, frame in sorted(run.clip.latents.frames.items())], 2)
    assert apart(latents[-1], last) < 1e-4


def test_the_conditioning_depends_on_the_image(model, conditioner):
    window = next(strategy().windows(FRAMES, 4, model.limits, 1))
    one, two = (conditioner(window, ContextFrames({}, image)) for image in (IMAGE, -IMAGE))
    assert one.concat_BCFhw.shape == (1, 8, 3, 4, 4) and one.image_BLD.shape == (1, 5, 14)
    assert apart(one.concat_BCFhw[:, 4:], two.concat_BCFhw[:, 4:]) > 0.01
    assert apart(one.image_BLD, two.image_BLD) > 0.01


def test_a_regenerated_frame_is_not_conditioned_on(model, conditioner):
    window = next(strategy().windows(FRAMES, 4, model.limits, 1))
    concat = conditioner(window, ContextFrames({}, IMAGE, None, IMAGE, no_context=True)).concat_BCFhw
    grey = conditioner.vae.encode(torch.zeros(1, 3, FRAMES, SIZE, SIZE))
    assert not concat[:, :4].any() and torch.allclose(concat[:, 4:], grey, atol=1e-5)
    for pad in ("image", "grey"):
        again = SviImageConditioner(conditioner.vae, conditioner.image_encoder, pad)(
            window, ContextFrames({}, IMAGE, None, IMAGE, no_context=True)
        )
        assert torch.equal(again.concat_BCFhw, concat)
    known_ = {0: rand(1, 4, 4, 4), 1: rand(1, 4, 4, 4)}
    assert not SviProConditioner(4)(
        window, ContextFrames(known_, IMAGE, None, IMAGE, no_context=True)
    ).concat_BCFhw.any()


def test_the_mask_counts_output_frames():
    assert known(1, 3, 4).tolist() == [[1, 0, 0]] * 4
    assert known(5, 3, 4).tolist() == [[1, 1, 0]] * 4
    assert known(3, 2, 4).tolist() == [[1, 1], [1, 1], [1, 0], [1, 0]]


def test_clips_follow_from_the_last_frame_and_resume_exactly(model):
    def rollout():
        return build_rollout(
            model, Script.of("prompt", 24, 25 / 24), strategy(steps=2), inputs=RolloutInputs(start=IMAGE)
        )

    run, again = rollout(), rollout()
    video, snapshots = recorded(run)
    assert video.shape[2] == 25
    again.load(snapshots[1].tensors, snapshots[1].facts)
    assert not torch.equal(again.clip.context_pixels, run.clip.context_pixels), "the last clip follows another frame"
    assert torch.equal(resumed(rollout(), snapshots[1]), video[:, :, snapshots[1].frames :])


def test_a_missing_image_is_refused(model):
    for options in (dict(), dict(handoff="latents")):
        with pytest.raises(PlanError, match="from an image"):
            list(build_rollout(model, Script.of("prompt", 24, 1 / 3), strategy(**options)).run())
    with pytest.raises(PlanError, match="channel concatenation"):
        list(
            build_rollout(
                model,
                Script.of("prompt", 24, 1.0),
                make_plan("sliding", window=9, overlap=5),
                inputs=RolloutInputs(start=IMAGE),
            ).run()
        )
