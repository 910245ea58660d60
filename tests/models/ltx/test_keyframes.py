"""Pictures and clips at any frame, and loops of tiles: latents equal those of diffusers with equal weights and noise."""

from __future__ import annotations

import importlib
import warnings
from types import SimpleNamespace

import pytest
import torch

import longtake.engine.clips.stage as engine
from longtake.core.guidance_settings import Guidance
from longtake.core.noise import Recorded
from longtake.core.sigmas import quadratic
from longtake.engine.build import build_rollout
from longtake.engine.clips.clip import Clip
from longtake.engine.events import Frames
from longtake.engine.inputs import RolloutInputs
from longtake.models.ltx.config import tiny
from longtake.models.ltx.session import LTXSession
from longtake.models.ltx.transformer import LTXTransformer
from longtake.models.ltx.vae import LTXVAE
from longtake.models.ltx.vae_config import tiny as tiny_vae
from longtake.models.model import Model, ModelInfo, SamplingDefaults, VideoFormat
from longtake.planning.keyframes import Keyframe, KeyframedPlan, KeyframeSpan
from longtake.planning.limits import Limits
from longtake.planning.script import Scene, Script
from longtake.planning.strategies.registry import make_plan
from longtake.planning.video_to_video import VideoToVideoPlan
from tests.oracles import apart, rand, shuffled, twin

LATENT, FRAMES, STEPS, GUIDANCE = 4, 33, 6, 3.0
LATENTS, SIZE = 1 + (FRAMES - 1) // 8, 8 * LATENT
SIGMA = float(quadratic(STEPS)[4])  # a sigma of the schedule: strengths between two of them differ on purpose
LONG = (1.0, 0.9, 0.6, 0.3)


@pytest.fixture(scope="module")
def parts():
    """A network with the causal time fix, a vae, and four prompts with padding."""
    torch.manual_seed(0)
    texts = {name: rand(1, 7, 10, seed=i) for i, name in enumerate(("a", "b", "c", "negative"), 3)}
    for i, text in enumerate(texts.values(), 3):
        text[0, i:] = 0
    return shuffled(LTXTransformer(tiny(causal_temporal_positioning=True))), shuffled(LTXVAE(tiny_vae())), texts


def clip(frames: int, seed: int = 8) -> torch.Tensor:
    return rand(1, 3, frames, SIZE, SIZE, seed=seed).tanh()


def our_model(parts, guidance=GUIDANCE, view=LATENTS) -> Model:
    net, vae, texts = parts
    text = SimpleNamespace(
        unknown=lambda prompt: (),
        cut_off=lambda prompt: "",
        encode=lambda prompts: torch.cat([texts[p or "negative"] for p in prompts]),
    )
    return Model(
        ModelInfo("tiny", "ltx"), limits=Limits(max_latent_frames=view), session=lambda: LTXSession(net), vae=vae, text_encoder=text,
        format=VideoFormat(24.0, (SIZE, SIZE)), defaults=SamplingDefaults(guidance=Guidance((guidance,))),
    )  # fmt: skip


def their_pipe(parts, module: str, kind: str, monkeypatch):
    """-> pipeline, all noise that it draws."""
    net, vae, _ = parts
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import diffusers

        home = importlib.import_module(f"diffusers.pipelines.ltx.{module}")
        their_vae = twin(diffusers.AutoencoderKLLTXVideo, vae)
        their_vae.spatial_compression_ratio = their_vae.temporal_compression_ratio = 8
        steps = diffusers.FlowMatchEulerDiscreteScheduler()
        pipe = getattr(home, kind)(steps, their_vae, None, None, twin(diffusers.LTXVideoTransformer3DModel, net))
    pipe.set_progress_bar_config(disable=True)
    drawn: list[torch.Tensor] = []

    def draw(shape, generator=None, device=None, dtype=None):
        drawn.append(torch.randn(shape, generator=torch.Generator().manual_seed(len(drawn)), dtype=dtype))
        return drawn[-1].clone()

    monkeypatch.setattr(home, "randn_tensor", draw)
    if hasattr(home, "retrieve_latents"):
        monkeypatch.setattr(home, "retrieve_latents", lambda encoded, generator=None: encoded.latent_dist.mode())
    monkeypatch.setattr(pipe.video_processor, "preprocess", lambda image, height, width: image)
    monkeypatch.setattr(pipe.video_processor, "preprocess_video", lambda video, height, width: video)
    return home, pipe, drawn


# ---------------------------------------------------------------- conditions
CASES = {  # (frame, frames, strength) of what is given, cond_noise
    "first picture": ([(0, 1, 1.0)], 0.0),
    "last picture": ([(FRAMES - 1, 1, 1.0)], 0.0),
    "picture between latents": ([(13, 1, 1.0)], 0.0),
    "first and soft last": ([(0, 1, 1.0), (FRAMES - 1, 1, 1 - SIGMA)], 0.0),
    "soft first clip": ([(0, 9, 1 - SIGMA)], 0.0),
    "clip inside": ([(8, 17, 1.0)], 0.0),
    "soft clip inside": ([(8, 17, 1 - SIGMA)], 0.0),
    "backward": ([(16, 17, 1.0)], 0.0),
    "stirred": ([(0, 1, 1.0), (16, 1, 1.0), (24, 1, 1 - SIGMA)], 0.15),
}


def their_latents(parts, given, cond_noise, monkeypatch, **more):
    """-> latents of the video after every step, and all noise."""
    home, pipe, drawn = their_pipe(parts, "pipeline_ltx_condition", "LTXConditionPipeline", monkeypatch)
    _, _, texts = parts
    conditions = []
    for frame, frames, strength in given:
        pixels = clip(frames, seed=frame)
        shown = dict(image=pixels[:, :, 0]) if frames == 1 else dict(video=pixels)
        conditions.append(home.LTXVideoCondition(frame_index=frame, strength=strength, **shown))
    rows: list[torch.Tensor] = []
    embeds = {
        "prompt_embeds": texts["a"], "prompt_attention_mask": texts["a"].ne(0).any(-1).long(),
        "negative_prompt_embeds": texts["negative"],
        "negative_prompt_attention_mask": texts["negative"].ne(0).any(-1).long(),
    }  # fmt: skip
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe(
            conditions=conditions or None, height=SIZE, width=SIZE, num_frames=FRAMES, frame_rate=24, num_inference_steps=STEPS,
            guidance_scale=GUIDANCE, output_type="latent", image_cond_noise_scale=cond_noise, **embeds,
            callback_on_step_end=lambda pipe, i, t, found: rows.append(found["latents"].clone()) or {}, **more,
        )  # fmt: skip
    return [shaped(row[:, -LATENTS * LATENT**2 :]) for row in rows], drawn


def shaped(tokens: torch.Tensor) -> torch.Tensor:
    """(B, F*h*w, C) -> (B C F h w)"""
    return tokens.transpose(1, 2).unflatten(2, (-1, LATENT, LATENT))


def noise_of(drawn, given, cond_noise) -> dict:
    """What they drew, by where it goes here: guides stand after the video here, and before it there."""
    first, *rest = drawn
    table = {(kind, 0, f, 0, 0): first[:, :, f] for kind in ("start", "renoise") for f in range(LATENTS)}
    guides = LATENTS
    for frame, _, _ in given:
        if frame:
            noise = rest.pop(0)
            table |= {("keyframe", 0, guides + j, 0, 0): noise[:, :, j] for j in range(noise.shape[2])}
            guides += noise.shape[2]
    for call, tokens in enumerate(rest):
        noise = shaped(tokens)
        order = [*range(LATENTS, guides), *range(LATENTS)]
        table |= {("context", 0, f, 0, call): noise[:, :, i] for i, f in enumerate(order)}
    assert bool(rest) == bool(cond_noise)
    return table


def our_latents(parts, given, cond_noise, drawn, monkeypatch, skip=0, soft_on_schedule=False, **inputs):
    """-> latents of the video after every step."""
    calls, inner = [], engine.denoise

    def recording(*args, **kwargs):
        for x, past in inner(*args, **kwargs):
            calls.append(x[:, :, :LATENTS])
            yield x, past

    monkeypatch.setattr(engine, "denoise", recording)
    plan = make_plan("clip", steps=STEPS, sigma_spacing="quadratic", shift=1.0, image_cond_noise_scale=cond_noise)
    rollout = build_rollout(
        our_model(parts), Script.of("a", 24, FRAMES / 24), VideoToVideoPlan(plan, skip) if skip else plan,
        noise=Recorded(noise_of(drawn, given, cond_noise)),
        inputs=RolloutInputs(keyframes=[Keyframe(frame, clip(frames, seed=frame), strength) for frame, frames, strength in given], **inputs),
        soft_on_schedule=soft_on_schedule,
    )  # fmt: skip
    assert sum(e.video.shape[2] for e in rollout.run() if isinstance(e, Frames)) == FRAMES
    return calls


@pytest.mark.parametrize("case", CASES)
def test_latents_equal_those_of_the_condition_pipeline(parts, monkeypatch, case):
    given, cond_noise = CASES[case]
    rows, drawn = their_latents(parts, given, cond_noise, monkeypatch)
    calls = our_latents(parts, given, cond_noise, drawn, monkeypatch)
    assert len(calls) == len(rows) == STEPS
    assert all(apart(theirs, ours) < 1e-4 for theirs, ours in zip(rows, calls))


@pytest.mark.parametrize("strength", [0.3, 0.04, 0.02])
@pytest.mark.parametrize("place", [(0, 1), (16, 1), (8, 17)])
def test_strengths_between_two_sigmas_as_published(parts, monkeypatch, place, strength):
    """There the part down to the next sigma is left out; here too with soft_on_schedule, and by default it is stepped through."""
    given = [(*place, strength)]
    rows, drawn = their_latents(parts, given, 0.0, monkeypatch)
    calls = our_latents(parts, given, 0.0, drawn, monkeypatch, soft_on_schedule=True)
    assert all(apart(theirs, ours) < 1e-4 for theirs, ours in zip(rows, calls, strict=True))
    assert apart(rows[-1], our_latents(parts, given, 0.0, drawn, monkeypatch)[-1]) > 1e-4


@pytest.mark.parametrize("skip", [1, 2, 5])
@pytest.mark.parametrize("given", [[], [(16, 1, 1.0)], [(0, 1, 1.0), (8, 9, 1.0)]])
def test_video_to_video_equals_the_condition_pipeline(parts, monkeypatch, given, skip):
    """`denoise_strength` there: the first steps are left out, and the input's latents are noised to the next sigma."""
    source = clip(FRAMES, seed=99)
    with torch.no_grad():
        latents = parts[1].encode(source)
    more = dict(latents=latents.clone(), denoise_strength=(STEPS - skip + 0.5) / STEPS)
    rows, drawn = their_latents(parts, given, 0.0, monkeypatch, **more)
    calls = our_latents(
        parts, given, 0.0, drawn, monkeypatch, skip, source=lambda first, count: source[:, :, first : first + count]
    )
    assert len(calls) == len(rows) == STEPS - skip
    assert all(apart(theirs, ours) < 1e-4 for theirs, ours in zip(rows, calls))


@pytest.mark.parametrize("causal", [False, True])
def test_keyframes_stand_at_their_frames_in_every_release(causal):
    """The published coordinates: those of the latents by themselves, plus the number of the frame."""
    config = tiny(causal_temporal_positioning=causal)
    limits = Limits(30, end="at", causal_positions=causal)
    alone = lambda latents: [max(8 * i + 1 - 8, 0) if causal else 8 * i for i in range(latents)]
    for frame, latents in ((13, 1), (16, 1), (32, 1), (8, 2), (16, 3)):
        spans = (KeyframeSpan(frame, latents),)
        (window,) = KeyframedPlan(make_plan("clip", steps=2), spans).windows(41, 8, limits)
        shown = len(window.frames) - window.role.count("keyframe")
        want = [frame + at for at in alone(latents)[:2]]  # the rest of a clip is in place
        assert config.frames(window.positions, 24.0)[shown:] == want


# ---------------------------------------------------------------- loops
def emitted(rollout, monkeypatch) -> torch.Tensor:
    """All latents of a rollout, in order."""
    found, prepare = [], Clip.for_decoder
    monkeypatch.setattr(
        Clip, "for_decoder", lambda self, final, window: found.extend(final.values()) or prepare(self, final, window)
    )
    for _ in rollout.run():
        pass
    return torch.stack(found, 2)


@pytest.mark.parametrize(("adain", "reference"), [(0.0, False), (0.25, True)])
def test_tiles_equal_those_of_the_long_pipeline(parts, monkeypatch, adain, reference):
    """Ten latents in tiles of six that share three: prompts per tile, AdaIN, reference, cross-fade, positions."""
    _, _, texts = parts
    _, pipe, drawn = their_pipe(
        parts, "pipeline_ltx_i2v_long_multi_prompt", "LTXI2VLongMultiPromptPipeline", monkeypatch
    )
    embedded = lambda name: (texts[name], texts[name].ne(0).any(-1).long())
    monkeypatch.setattr(pipe, "encode_prompt", lambda prompt, **_: (*embedded(prompt[0]), *embedded("negative")))
    image = clip(1)[:, :, 0] if reference else None
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want = pipe(
            prompt="a|b|c", height=SIZE, width=SIZE, num_frames=73, frame_rate=24, sigmas=[*LONG, 0.0],
            guidance_scale=GUIDANCE, guidance_rescale=0.7, temporal_tile_size=48, temporal_overlap=24,
            temporal_overlap_cond_strength=1.0, adain_factor=adain, cond_image=image, cond_strength=1.0,
            output_type="latent",
        ).frames  # fmt: skip
    table = {}
    for tile, noise in enumerate(drawn):
        start = 3 * tile
        table |= {
            ("start" if f >= start + 3 or not tile else "renoise", 0, f, 0, 0): noise[:, :, f - start]
            for f in range(start, min(start + 6, 10))
        }
    script = Script.of([Scene("a", 41 / 24), Scene("b", 1.0), Scene("c")], 24, 73 / 24)
    rollout = build_rollout(
        our_model(parts, view=6), script,
        make_plan("looping", sigmas=",".join(map(str, LONG)), tile=48, overlap=24, strength=1.0, adain=adain, reference=1.0 if reference else 0.0),
        guidance=Guidance((GUIDANCE,), guidance_rescale=(0.7,), full_sample_stats=True), noise=Recorded(table),
        inputs=RolloutInputs(start=None if image is None else image[:, :, None]),
    )  # fmt: skip
    got = emitted(rollout, monkeypatch)
    assert apart(want, got) < 1e-4
    assert want.shape[2] == 10
