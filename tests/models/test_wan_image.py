"""Image to video: what the network is told, and every latent, equal diffusers' pipeline; clips follow one another."""

import warnings
from types import SimpleNamespace

import pytest
import torch

from longtake.engine import Rollout
from longtake.events import Ended, Frames
from longtake.models.base import Model, Past
from longtake.models.clip import ClipConfig, ClipVision
from longtake.models.svi import ClipTeller, LatentTeller
from longtake.models.wan import WanTransformer, tiny
from longtake.models.wan_codec import WanCodec, WanCodecConfig
from longtake.models.wan_image import Teller, known
from longtake.models.wan_session import WanSession
from longtake.noise import Recorded
from longtake.plan import Limits, PlanError
from longtake.plans import plan
from longtake.script import Script
from tests.models.oracles import apart, oracle, rand, shuffled, twin

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
def codec() -> WanCodec:
    config = WanCodecConfig(
        base_dim=4, z_dim=4, dim_mult=(1, 1, 1, 1), num_res_blocks=1, latents_mean=(0.1, -0.2, 0.3, 0.0),
        latents_std=(0.5, 1.5, 2.5, 1.0),
    )  # fmt: skip
    return shuffled(WanCodec(config))


@pytest.fixture(scope="module")
def teller(codec) -> Teller:
    return Teller(codec, shuffled(ClipVision(EYES)))


@pytest.fixture(scope="module")
def model(net, codec, teller) -> Model:
    text = SimpleNamespace(encode=lambda prompts: torch.cat([TEXTS[prompt] for prompt in prompts]))
    return Model(
        name="tiny", family="wan", limits=Limits(view=3, mixed=False, context="beside"),
        session=lambda: WanSession(net, whole_timesteps=True, tell=teller), codec=codec, text=text, fps=24.0,
        size=(SIZE, SIZE), guidance=GUIDANCE,
    )  # fmt: skip


def strategy(**changes):
    options = dict(steps=STEPS, shift=SHIFT, grid="diffusers", window=FRAMES, overlap=1, hand="pixels")
    return plan("crossclip", **{**options, **changes})


def their_run(net, codec, teller, noise, brand):
    """-> (input of the network at every call, image tokens, latents after every step, timesteps)"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformer = twin(oracle("diffusers", f"{brand}Transformer3DModel"), net)
        scheduler = oracle("diffusers", "UniPCMultistepScheduler")(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=SHIFT, num_train_timesteps=1000
        )
        pipe = oracle("diffusers", f"{brand}ImageToVideoPipeline")(
            tokenizer=None, text_encoder=None, image_encoder=None, image_processor=None, transformer=transformer,
            vae=twin(oracle("diffusers", "AutoencoderKLWan"), codec), scheduler=scheduler,
        )  # fmt: skip
        pipe.set_progress_bar_config(disable=True)
        pipe.encode_image = lambda image, device: teller.eyes.see(image)
        calls, latents = [], []
        transformer.register_forward_pre_hook(lambda _, args, kwargs: calls.append(kwargs), with_kwargs=True)
        pipe(
            image=IMAGE[:, :, 0], prompt_embeds=TEXTS["prompt"], negative_prompt_embeds=TEXTS[""], height=SIZE, width=SIZE,
            num_frames=FRAMES, num_inference_steps=STEPS, guidance_scale=GUIDANCE, latents=noise, output_type="latent",
            callback_on_step_end=lambda pipe, i, t, found: latents.append(found["latents"].clone()) or {},
        )  # fmt: skip
    return calls[::2], latents


@pytest.mark.parametrize("brand", ["Wan", "SkyReelsV2"])
def test_inputs_and_latents_equal_the_pipeline(model, net, codec, teller, monkeypatch, brand):
    noise = rand(1, 4, 3, 4, 4, seed=9)
    theirs, latents = their_run(net, codec, teller, noise, brand)
    ours = []
    forward = net.forward
    monkeypatch.setattr(net, "forward", lambda x, level, **told: ours.append((x, level)) or forward(x, level, **told))
    images = []
    memory = net.text_memory
    monkeypatch.setattr(net, "text_memory", lambda text, image: images.append(image) or memory(text, image))
    table = {("start", 0, i, 0, 0): noise[:, :, i] for i in range(3)}
    run = Rollout(
        model, Script.of("prompt", 24, FRAMES / 24), strategy(), solver="unipc", noise=Recorded(table), start=IMAGE
    )
    video = torch.cat([e.video for e in run.run() if isinstance(e, Frames)], 2)
    assert video.shape == (1, 3, FRAMES, SIZE, SIZE)
    assert len(ours) == len(theirs) == STEPS
    assert apart(theirs[0]["encoder_hidden_states_image"], images[0][:1]) < 1e-5
    for (x, level), call in zip(ours, theirs):
        assert apart(call["hidden_states"], x[:1]) < 1e-4
        assert (1000 * level).tolist() == pytest.approx(call["timestep"].tolist() * 3)
    last = torch.stack([row.value for _, row in sorted(run.take.tape.rows.items())], 2)
    assert apart(latents[-1], last) < 1e-4


def test_what_is_told_depends_on_the_picture(model, teller):
    window = next(strategy().windows(FRAMES, 4, model.limits, 1))
    one, two = (teller(window, Past({}, image)) for image in (IMAGE, -IMAGE))
    assert one.beside_BCFhw.shape == (1, 8, 3, 4, 4) and one.image_BLD.shape == (1, 5, 14)
    assert apart(one.beside_BCFhw[:, 4:], two.beside_BCFhw[:, 4:]) > 0.01
    assert apart(one.image_BLD, two.image_BLD) > 0.01


def test_nothing_is_told_of_a_frame_that_is_made_again(model, teller):
    window = next(strategy().windows(FRAMES, 4, model.limits, 1))
    told = teller(window, Past({}, IMAGE, None, IMAGE, untold=True)).beside_BCFhw
    grey = teller.codec.encode(torch.zeros(1, 3, FRAMES, SIZE, SIZE))
    assert not told[:, :4].any() and torch.allclose(told[:, 4:], grey, atol=1e-5)
    for pad in ("image", "grey"):
        again = ClipTeller(teller.codec, teller.eyes, pad)(window, Past({}, IMAGE, None, IMAGE, untold=True))
        assert torch.equal(again.beside_BCFhw, told)
    known_ = {0: rand(1, 4, 4, 4), 1: rand(1, 4, 4, 4)}
    assert not LatentTeller(4)(window, Past(known_, IMAGE, None, IMAGE, untold=True)).beside_BCFhw.any()


def test_the_mask_counts_output_frames():
    assert known(1, 3, 4).tolist() == [[1, 0, 0]] * 4
    assert known(5, 3, 4).tolist() == [[1, 1, 0]] * 4
    assert known(3, 2, 4).tolist() == [[1, 1], [1, 1], [1, 0], [1, 0]]


def test_clips_follow_from_the_last_frame_and_resume_exactly(model):
    def rollout():
        return Rollout(model, Script.of("prompt", 24, 25 / 24), strategy(steps=2), start=IMAGE)

    run, parts, snapshot = rollout(), [], None
    for event in run.run():
        if isinstance(event, Frames):
            parts.append(event.video)
        if isinstance(event, Ended) and event.index == 1:
            tensors, facts = run.state()
            snapshot = event.frames, {name: tensor.clone() for name, tensor in tensors.items()}, facts
    video = torch.cat(parts, 2)
    assert video.shape[2] == 25
    frames, tensors, facts = snapshot
    again = rollout()
    again.load(tensors, facts)
    assert torch.equal(again.take.given, run.take.given) is False  # the last clip was told of another frame
    rest = torch.cat([e.video for e in again.run() if isinstance(e, Frames)], 2)
    assert torch.equal(rest, video[:, :, frames:])


def test_without_a_picture_it_says_so(model):
    for options in (dict(), dict(hand="latents")):
        with pytest.raises(PlanError, match="from an image"):
            list(Rollout(model, Script.of("prompt", 24, 1 / 3), strategy(**options)).run())
    with pytest.raises(PlanError, match="beside x"):
        list(Rollout(model, Script.of("prompt", 24, 1.0), plan("sliding", window=9, overlap=5), start=IMAGE).run())
