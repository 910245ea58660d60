"""Pictures and clips at any frame, and loops of tiles: latents equal those of diffusers with equal weights and noise."""

from __future__ import annotations

import importlib
import warnings
from types import SimpleNamespace

import pytest
import torch

import longtake.engine as engine
from longtake.engine import Rollout
from longtake.events import Frames
from longtake.guidance import Guidance
from longtake.models.base import Model
from longtake.models.ltx import LTXTransformer, tiny
from longtake.models.ltx_codec import LTXCodec
from longtake.models.ltx_codec_config import tiny as tiny_codec
from longtake.models.ltx_session import LTXSession
from longtake.noise import Recorded, quadratic
from longtake.plan import Limits
from longtake.plans import plan
from longtake.plans.conditioned import Item
from longtake.script import Scene, Script
from tests.models.oracles import apart, rand, shuffled, twin

LATENT, FRAMES, STEPS, GUIDANCE = 4, 33, 6, 3.0
LATENTS, SIZE = 1 + (FRAMES - 1) // 8, 8 * LATENT
SIGMA = float(quadratic(STEPS)[4])  # a level of the schedule: strengths between two of them differ on purpose
LONG = (1.0, 0.9, 0.6, 0.3)


@pytest.fixture(scope="module")
def parts():
    """A network with the causal time fix, a codec, and four prompts with padding."""
    torch.manual_seed(0)
    texts = {name: rand(1, 7, 10, seed=i) for i, name in enumerate(("a", "b", "c", "negative"), 3)}
    for i, text in enumerate(texts.values(), 3):
        text[0, i:] = 0
    return shuffled(LTXTransformer(tiny(causal_temporal_positioning=True))), shuffled(LTXCodec(tiny_codec())), texts


def clip(frames: int, seed: int = 8) -> torch.Tensor:
    return rand(1, 3, frames, SIZE, SIZE, seed=seed).tanh()


def our_model(parts, guidance=GUIDANCE, view=LATENTS) -> Model:
    net, codec, texts = parts
    text = SimpleNamespace(encode=lambda prompts: torch.cat([texts[p or "negative"] for p in prompts]))
    return Model(
        name="tiny", family="ltx", limits=Limits(view=view), session=lambda: LTXSession(net), codec=codec, text=text,
        fps=24.0, size=(SIZE, SIZE), guidance=guidance,
    )  # fmt: skip


def their_pipe(parts, module: str, kind: str, monkeypatch):
    """-> pipeline, all noise that it draws."""
    net, codec, _ = parts
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import diffusers

        home = importlib.import_module(f"diffusers.pipelines.ltx.{module}")
        vae = twin(diffusers.AutoencoderKLLTXVideo, codec)
        vae.spatial_compression_ratio = vae.temporal_compression_ratio = 8
        steps = diffusers.FlowMatchEulerDiscreteScheduler()
        pipe = getattr(home, kind)(steps, vae, None, None, twin(diffusers.LTXVideoTransformer3DModel, net))
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


def their_latents(parts, given, cond_noise, monkeypatch):
    """-> latents of the video after every call, and all noise."""
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
            conditions=conditions, height=SIZE, width=SIZE, num_frames=FRAMES, frame_rate=24, num_inference_steps=STEPS,
            guidance_scale=GUIDANCE, output_type="latent", image_cond_noise_scale=cond_noise, **embeds,
            callback_on_step_end=lambda pipe, i, t, found: rows.append(found["latents"].clone()) or {},
        )  # fmt: skip
    return [shaped(row[:, -LATENTS * LATENT**2 :]) for row in rows], drawn


def shaped(tokens: torch.Tensor) -> torch.Tensor:
    """(B, F*h*w, C) -> (B C F h w)"""
    return tokens.transpose(1, 2).unflatten(2, (-1, LATENT, LATENT))


def noise_of(drawn, given, cond_noise) -> dict:
    """What they drew, by where it goes here: guides stand after the video here, and before it there."""
    first, *rest = drawn
    table = {(kind, 0, f, 0, 0): first[:, :, f] for kind in ("start", "lift") for f in range(LATENTS)}
    guides = LATENTS
    for frame, _, _ in given:
        if frame:
            noise = rest.pop(0)
            table |= {("guide", 0, guides + j, 0, 0): noise[:, :, j] for j in range(noise.shape[2])}
            guides += noise.shape[2]
    for call, tokens in enumerate(rest):
        noise = shaped(tokens)
        order = [*range(LATENTS, guides), *range(LATENTS)]
        table |= {("context", 0, f, 0, call): noise[:, :, i] for i, f in enumerate(order)}
    assert bool(rest) == bool(cond_noise)
    return table


@pytest.mark.parametrize("case", CASES)
def test_latents_equal_those_of_the_condition_pipeline(parts, monkeypatch, case):
    given, cond_noise = CASES[case]
    rows, drawn = their_latents(parts, given, cond_noise, monkeypatch)
    calls, inner = [], engine.denoise

    def recording(*args, **kwargs):
        for x, past in inner(*args, **kwargs):
            calls.append(x[:, :, :LATENTS])
            yield x, past

    monkeypatch.setattr(engine, "denoise", recording)
    rollout = Rollout(
        our_model(parts), Script.of("a", 24, FRAMES / 24), plan("clip", steps=STEPS, grid="quadratic", shift=1.0, cond_noise=cond_noise),
        noise=Recorded(noise_of(drawn, given, cond_noise)),
        items=[Item(frame, clip(frames, seed=frame), strength) for frame, frames, strength in given],
    )  # fmt: skip
    made = sum(e.video.shape[2] for e in rollout.run() if isinstance(e, Frames))
    assert made == FRAMES and len(calls) == len(rows) == STEPS
    assert all(apart(theirs, ours) < 1e-4 for theirs, ours in zip(rows, calls))


# ---------------------------------------------------------------- loops
def emitted(rollout, monkeypatch) -> torch.Tensor:
    """All latents of a rollout, in order."""
    found = []
    grainy = Rollout._grainy
    monkeypatch.setattr(
        Rollout, "_grainy", lambda self, made, draw: found.extend(made.values()) or grainy(self, made, draw)
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
    told = lambda name: (texts[name], texts[name].ne(0).any(-1).long())
    monkeypatch.setattr(pipe, "encode_prompt", lambda prompt, **_: (*told(prompt[0]), *told("negative")))
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
            ("start" if f >= start + 3 or not tile else "lift", 0, f, 0, 0): noise[:, :, f - start]
            for f in range(start, min(start + 6, 10))
        }
    script = Script.of([Scene("a", 41 / 24), Scene("b", 1.0), Scene("c")], 24, 73 / 24)
    rollout = Rollout(
        our_model(parts, view=6), script,
        plan("looping", levels=",".join(map(str, LONG)), tile=48, overlap=24, strength=1.0, adain=adain, reference=1.0 if reference else 0.0),
        guidance=Guidance((GUIDANCE,), rescale=(0.7,), whole=True), noise=Recorded(table),
        start=None if image is None else image[:, :, None],
    )  # fmt: skip
    got = emitted(rollout, monkeypatch)
    assert apart(want, got) < 1e-4
    assert want.shape[2] == 10
