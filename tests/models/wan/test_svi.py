"""Stable Video Infinity: the chains of clips equal a straight line of code written from the published one.

The oracle is given networks (tested elsewhere against diffusers and transformers) and does all between them itself:
padding, mask, seeds, grid, guidance, hand-over.
"""

import hashlib
import json
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from longtake import generate, generate_video
from longtake.cli import progress, run
from longtake.core.errors import PlanError
from longtake.core.noise import NoiseKey
from longtake.core.platform import Stopped
from longtake.engine.build import build_rollout
from longtake.engine.events import Frames
from longtake.engine.inputs import RolloutInputs
from longtake.models import load
from longtake.models.checkpoints.loading import WeightsError, save
from longtake.models.model import check_loras
from longtake.models.runtime.load_options import LoadOptions
from longtake.models.wan import presets
from longtake.models.wan.checkpoint import open_folder
from longtake.models.wan.layout.lora_names import SVI_TARGETS
from longtake.models.wan.presets import PRESETS, SVI
from longtake.models.wan.svi import ClipNoise, SviImageConditioner, SviProConditioner
from longtake.planning.script import Scene, Script
from longtake.planning.script_files import load_script
from longtake.planning.strategies.registry import make_plan
from longtake.runs import SegmentWritten
from tests import released
from tests.oracles import rand, shuffled

CLIPS, COUNT, STEPS, SIZE = 3, 13, 3, 16  # frames of a clip, steps, pixels
TINY = dict(network={}, size=(SIZE, SIZE), frames=COUNT, steps=STEPS)
PROMPTS = ["a red ball", "a ball", "red"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    return released.diffusers(tmp_path_factory.mktemp("svi") / "one", released.parts("i2v"))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Wan 2.2: two networks that see no CLIP."""
    torch.manual_seed(1)
    from longtake.models.wan.config import tiny
    from longtake.models.wan.transformer import WanTransformer

    path = tmp_path_factory.mktemp("svi") / "two"
    shape = dict(num_attention_heads=1, attention_head_dim=24, in_channels=36, out_channels=16)
    nets = [shuffled(WanTransformer(tiny(**shape))) for _ in range(2)]
    with torch.no_grad():
        for weight in nets[1].parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    released.diffusers(
        path, replace(released.parts("t2v"), kind="i2v", net=nets[0], image_encoder=released.parts("i2v").image_encoder)
    )
    save(nets[1], nets[1].config, path / "transformer_2", kind="WanTransformer3DModel")
    config = json.loads((path / "transformer" / "config.json").read_text())
    (path / "transformer_2" / "config.json").write_text(json.dumps(config))
    index = json.loads((path / "model_index.json").read_text())
    (path / "model_index.json").write_text(
        json.dumps(index | {"transformer_2": ["diffusers", "WanTransformer3DModel"]})
    )
    return path


def opened(name, path, **options):
    """The model of a preset, tiny, and its plan of few steps."""
    model = open_folder(path, LoadOptions("cpu", **options), replace(SVI[name], **TINY))
    return model, make_plan(model.defaults.strategy, **model.defaults.strategy_options)


def picture():
    return (torch.rand(1, 3, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(7)) * 255).floor() / 127.5 - 1


def ours(model, chain, length):
    """-> (latents of every clip, video, the pixels that each clip starts with)"""
    taken, vae = [], model.vae

    class Watched:
        temporal_compression, spatial_compression, channels, replay_latents, encode = (
            vae.temporal_compression,
            vae.spatial_compression,
            vae.channels,
            vae.replay_latents,
            vae.encode,
        )

        def decoder(self):
            taken.append([])
            inner, mine = vae.decoder(), taken[-1]

            class Decoder:
                def push(self, latents):
                    mine.append(latents)
                    return inner.push(latents)

                def flush(self):
                    return inner.flush()

            return Decoder()

    scenes = tuple(Scene(prompt) for prompt in PROMPTS)
    script = Script(scenes, chain, length)
    run = build_rollout(
        replace(model, vae=Watched()),
        script,
        make_plan(model.defaults.strategy, **model.defaults.strategy_options),
        inputs=RolloutInputs(start=picture()),
    )
    starts, condition = [], SviImageConditioner.__call__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            SviImageConditioner,
            "__call__",
            lambda self, window, context: starts.append(context.pixels) or condition(self, window, context),
        )
        video = torch.cat([e.video for e in run.run() if isinstance(e, Frames)], 2)
    return [torch.cat(parts, 2) for parts in taken if parts], video, starts


# ---------------------------------------------------------------- the oracle
def grid():
    sigma = torch.linspace(1, 0, STEPS + 1, dtype=torch.float64)[:-1]
    return [*(5 * sigma / (1 + 4 * sigma)).tolist(), 0.0]


def denoised(nets, y, image, positive, negative, noise, switch=0.0):
    """Fifty (here three) Euler steps, the two branches one after the other, the picture in both."""
    x = noise
    for now, after in pairwise(grid()):
        net = nets[-1] if now < switch else nets[0]
        seen = torch.cat([x, y], 1)
        good, bad = (net(seen, torch.full((1,), now), net.text_kv(text, image)) for text in (positive, negative))
        x = x + (after - now) * (bad + 5 * (good - bad))
    return x


def drawn(clip):
    latents = 1 + (COUNT - 1) // 4
    return torch.randn(1, 16, latents, SIZE // 8, SIZE // 8, generator=torch.Generator().manual_seed(42 * clip))


def mask():
    first = torch.zeros(1, 4, 1 + (COUNT - 1) // 4, SIZE // 8, SIZE // 8)
    first[:, :, 0] = 1
    return first


@torch.no_grad()
def by_pixels(net, vae, image_encoder, texts, negative, keep, pad, starts):
    """1.0: the last `keep` frames as 8-bit images, then `pad`; the next clip's copy of them is the one kept.

    starts: the pixels that our clips start with. Rounding to 8 bits turns the last bit of a machine into a grey level, so
    the rounding of this oracle is checked to be within one level of ours, and both sides continue from the same pixels.
    """
    reference = picture()
    known, latents, video = reference, [], []
    for clip in range(CLIPS):
        behind = reference if pad == "image" else torch.zeros_like(reference)
        pixels = torch.cat([known, *[behind] * (COUNT - known.shape[2])], 2)
        y = torch.cat([mask(), vae.encode(pixels)], 1)
        x = denoised([net], y, image_encoder.encode_image(known[:, :, 0]), texts[clip], negative, drawn(clip))
        decoder = vae.decoder()
        frames = torch.cat([decoder.push(x), decoder.flush()], 2)
        eight = ((frames + 1) * 127.5).clip(0, 255).byte().float()
        known = eight[:, :, -keep:] / 127.5 - 1
        if clip < CLIPS - 1:
            apart = (known - starts[clip + 1]).abs()
            assert apart.max() < 1.01 / 127.5 and (apart > 1e-4).float().mean() < 0.01
            known = starts[clip + 1]
        latents.append(x)
        video.append(frames if clip == CLIPS - 1 else frames[:, :, :-keep])
    return latents, torch.cat(video, 2)


@torch.no_grad()
def by_latents(nets, vae, texts, negative):
    """2.0 Pro: the anchor, the last latent of the clip before, zeros; the first five frames of a next clip are dropped."""
    anchor = vae.encode(picture())
    latents, video = [], []
    for clip in range(CLIPS):
        context = torch.cat([anchor, latents[-1][:, :, -1:]], 2) if clip else anchor
        rest = torch.zeros(1, 16, 1 + (COUNT - 1) // 4 - context.shape[2], SIZE // 8, SIZE // 8)
        y = torch.cat([mask(), torch.cat([context, rest], 2)], 1)
        latents.append(denoised(nets, y, None, texts[clip], negative, drawn(clip), switch=0.875))
        decoder = vae.decoder()
        frames = torch.cat([decoder.push(latents[-1]), decoder.flush()], 2)
        video.append(frames[:, :, 5:] if clip else frames)
    return latents, torch.cat(video, 2)


def differences(mine, theirs):
    """What of a video is not as it should be: the numbers of clips whose latents differ, and "frames"."""
    (latents, video), (wanted, shown) = mine, theirs
    assert len(latents) == len(wanted) == CLIPS and video.shape == shown.shape
    wrong = [n for n, (a, b) in enumerate(zip(latents, wanted)) if not torch.allclose(a, b, atol=2e-4, rtol=1e-4)]
    return wrong + ([] if torch.allclose(video, shown, atol=1e-3) else ["frames"])


@pytest.mark.parametrize(
    ("name", "keep", "pad"),
    [("svi-shot", 1, "image"), ("svi-film", 5, "grey"), ("svi-tom", 1, "grey"), ("svi-2.0", 5, "image")],
)
def test_clips_by_pixels_equal_the_oracle(folder, name, keep, pad):
    model, _ = opened(name, folder)
    session = released.session(model)
    texts, negative = (
        [model.text_encoder.encode([p]) for p in PROMPTS],
        model.text_encoder.encode([model.defaults.negative_prompt]),
    )
    *mine, starts = ours(model, (0, COUNT, 2 * COUNT - keep), CLIPS * (COUNT - keep) + keep)
    assert len(starts) == CLIPS
    parts = session.net, session.conditioner.vae, session.conditioner.image_encoder
    assert differences(mine, by_pixels(*parts, texts, negative, keep, pad, starts)) == []


def test_clips_of_2_0_pro_equal_the_oracle(two):
    model, _ = opened("svi-2.0-pro", two)
    experts = model.session().session
    nets = [session.net for session in experts.sessions]
    assert not torch.equal(nets[0].proj_out.weight, nets[1].proj_out.weight)
    texts, negative = (
        [model.text_encoder.encode([p]) for p in PROMPTS],
        model.text_encoder.encode([model.defaults.negative_prompt]),
    )
    *mine, _ = ours(model, (0, COUNT, 2 * COUNT - 5), CLIPS * (COUNT - 5) + 5)
    assert differences(mine, by_latents(nets, model.vae, texts, negative)) == []


def test_both_experts_are_used_and_the_switch_matters(two):
    model, chain = opened("svi-2.0-pro", two)
    experts = model.session().session
    assert experts.switch == 0.875 and grid()[1] > 0.875 > grid()[2]
    used = []
    for i, session in enumerate(experts.sessions):
        session.net.register_forward_pre_hook(lambda net, args, i=i: used.append((i, float(args[1].max()))))
    run = build_rollout(model, Script.of("a", 16, COUNT / 16), chain, inputs=RolloutInputs(start=picture()))
    for _ in run.run():
        pass
    assert {i for i, sigma in used if sigma >= 0.875} == {0} and {i for i, sigma in used if sigma < 0.875} == {1}


@pytest.mark.parametrize("placed", [{"offload": "model"}, {"offload": "blocks"}, {"fp8": True}])
def test_experts_larger_than_their_device(two, tmp_path, placed):
    """Offloaded or in 8 bits, each still uses its own LoRA."""
    net = opened("svi-2.0-pro", two)[0].session().session.sessions[0].net
    files = {name: lora(tmp_path / f"{name}.safetensors", net, seed=n)[0] for n, name in enumerate(("high", "low"))}
    loras = {f"{name}:{file}": 1.0 for name, file in files.items()}

    def video(loras, **how):
        model, chain = opened("svi-2.0-pro", two, **how)
        run = build_rollout(
            model, Script.of([Scene("a", 2.0, lora=loras)], 16), chain, inputs=RolloutInputs(start=picture())
        )
        return torch.cat([e.video for e in run.run() if isinstance(e, Frames)], 2)

    plain, whole, mine = video({}), video(loras), video(loras, **placed)
    assert (plain - whole).abs().mean() > 0.01
    if "fp8" in placed:
        assert 0 < (mine - whole).abs().mean() < 0.5 * (plain - whole).abs().mean()
    else:
        assert torch.equal(mine, whole)


def test_published_numbers():
    assert set(SVI) == {"svi-shot", "svi-film", "svi-tom", "svi-2.0", "svi-2.0-pro"} and set(SVI) <= set(PRESETS)
    for preset in SVI.values():
        assert (preset.steps, preset.shift, preset.guidance, preset.frames, preset.solver) == (
            50,
            5.0,
            5.0,
            81,
            "euler",
        )
        sigmas = next(make_plan("clip-conditioned", **preset.options).windows(81, 4, limits(), 1)).sigmas[:, 0]
        assert float(sigmas[-2]) == pytest.approx(0.0926, abs=1e-4) and float(sigmas[0]) == 1.0
    assert PRESETS["svi-shot"].parameters == 16_394_878_784


def test_negative_prompts_have_the_words_of_the_released_scripts():
    words = {name: preset.negative for name, preset in SVI.items()}
    english = words.pop("svi-shot")
    assert hashlib.sha256(english.encode()).hexdigest().startswith("411bdbdd98002bf9")
    assert english.startswith("bright tones, overexposed, static, ") and english.endswith(", walking backwards")
    assert words.pop("svi-2.0-pro") == presets.NEGATIVE and set(words.values()) == {english}


def limits():
    from longtake.planning.limits import Limits

    return Limits(max_latent_frames=21, per_frame_sigma=False, conditioning="concat")


def test_noise_is_that_of_the_clip_in_its_dtype():
    keys = [NoiseKey("start", 0, 2, i) for i in (1, 3)]
    noise = ClipNoise(6, dtype=torch.bfloat16)(keys, (16, 2, 2))
    whole = torch.randn(1, 16, 6, 2, 2, generator=torch.Generator().manual_seed(84)).bfloat16()
    assert noise.dtype == torch.bfloat16 and torch.equal(noise, whole[:, :, [1, 3]])


def test_a_bfloat16_state_stays_one(folder):
    model, chain = opened("svi-shot", folder, dtype="bf16")
    run = build_rollout(model, Script.of("a", 16, COUNT / 16), chain, inputs=RolloutInputs(start=picture()))
    for _ in run.run():
        pass
    assert {frame.value.dtype for frame in run.clip.latents.frames.values()} == {torch.bfloat16}


def test_wrong_requests_are_refused(folder, two):
    model, chain = opened("svi-shot", folder)
    with pytest.raises(PlanError, match="starts from an image"):
        list(build_rollout(model, Script.of("a", 16, 1.0), chain).run())
    with pytest.raises(WeightsError, match="two networks: name the preset"):
        open_folder(two)
    with pytest.raises(WeightsError, match="one network"):
        opened("svi-2.0-pro", folder)
    pro, chain = opened("svi-2.0-pro", two)
    scenes = [Scene("a", 1.0, lora={"style.safetensors": 1.0})]
    with pytest.raises(WeightsError, match=r"for one of them, as high:style\.safetensors"):
        build_rollout(pro, Script.of(scenes, 16), chain, inputs=RolloutInputs(start=picture()))


def lora(path, net, targets=SVI_TARGETS, seed=0):
    """A file that changes these modules, without settings, as SVI's own; [file, strength]."""
    low = {}
    for module, layer in net.named_modules():
        if module.endswith(targets):
            out, inner = layer.weight.shape
            low[f"{module}.lora_A.weight"] = rand(2, inner, seed=seed)
            low[f"{module}.lora_B.weight"] = rand(out, 2, seed=seed + 7)
    save_file(low, path)
    return str(path), 1.0


def test_a_lora_must_change_all_modules_that_svi_trains(folder, two, tmp_path):
    model, _ = opened("svi-shot", folder)
    net = released.session(model).net
    whole = lora(tmp_path / "whole.safetensors", net)
    part = lora(tmp_path / "part.safetensors", net, ("attn1.to_q", "attn1.to_k"))
    check_loras(model, (whole,))
    check_loras(model, (part, whole))  # a style beside it
    with pytest.raises(
        WeightsError, match=r"part.safetensors changes 4 of the 20 .* lacks .*ffn.net.2.* and has \S+attn1"
    ):
        check_loras(model, (part,))
    pro, _ = opened("svi-2.0-pro", two)
    check_loras(pro, tuple((f"{name}:{whole[0]}", 1.0) for name in ("high", "low")))
    with pytest.raises(WeightsError, match="changes 4 of the 20"):
        check_loras(pro, ((f"high:{whole[0]}", 1.0), (f"low:{part[0]}", 1.0)))
    plain = open_folder(folder)
    check_loras(plain, (part,))


def shown(tensor):
    """Frames (1 3 T H W) in [-1, 1] as uint8 (T, H, W, 3)."""
    return ((tensor[0] + 1) * 127.5).round().byte().permute(1, 2, 3, 0)


def test_clips_by_hand_are_conditioned_on_the_first_image_and_use_loras(folder, two, tmp_path, monkeypatch):
    model, _ = opened("svi-2.0", folder)
    first, seen = shown(picture())[0], []
    conditioner = SviImageConditioner.__call__
    monkeypatch.setattr(
        SviImageConditioner, "__call__", lambda self, window, past: seen.append(past) or conditioner(self, window, past)
    )
    one = generate_video(first, PROMPTS[0], model)
    two_ = generate_video(one, PROMPTS[1], model, anchor_image=first, seed=1)
    assert torch.equal(seen[-1].image, picture()) and torch.equal(shown(seen[-1].pixels), one[-5:])
    generate_video(one, PROMPTS[1], model, seed=1)
    assert torch.equal(shown(seen[-1].image)[0], one[0])
    list(generate(PROMPTS[1], model, seconds=0.5, video=one))  # as `longtake extend` does
    assert torch.equal(shown(seen[-1].image)[0], one[0]) and torch.equal(shown(seen[-1].pixels), one[-5:])
    path, strength = lora(tmp_path / "x.safetensors", released.session(model).net)
    other = generate_video(one, PROMPTS[1], model, anchor_image=first, seed=1, lora={path: strength})
    assert other.shape == two_.shape and not torch.equal(other, two_)


def test_clips_of_2_0_pro_by_hand_are_conditioned_on_anchor_and_last_latent(two, monkeypatch):
    model, _ = opened("svi-2.0-pro", two)
    first, seen = shown(picture())[0], []
    conditioner = SviProConditioner.__call__
    monkeypatch.setattr(
        SviProConditioner, "__call__", lambda self, window, past: seen.append(past) or conditioner(self, window, past)
    )
    one = generate_video(first, PROMPTS[0], model)
    generate_video(one, PROMPTS[1], model, anchor_image=first, seed=1)
    tail = model.vae.encode(torch.stack([one[-5:]]).permute(0, 4, 1, 2, 3) / 127.5 - 1)
    known = seen[-1].latents
    assert set(known) == {0, 1} and torch.allclose(known[0], model.vae.encode(picture())[:, :, 0])
    assert torch.allclose(known[1], tail[:, :, 1], atol=1e-5)


def pair(folder, model):
    """A LoRA for each of two networks, in a folder of their own: the script that names them by their network."""
    (folder / "loras").mkdir(parents=True)
    for number, name in enumerate(("high", "low")):
        net = model.session().session.sessions[number].net
        lora(folder / "loras" / f"{name}.safetensors", net, seed=number)
    Image.new("RGB", (SIZE, SIZE), "navy").save(folder / "p.png")
    named = f'"high:loras/high.safetensors" = 1.0, "low:{folder}/loras/low.safetensors" = 0.5'
    script = folder / "story.toml"
    script.write_text(f'image = "p.png"\n[[scene]]\nprompt = "a"\nseconds = 2\nlora = {{ {named} }}\n')
    return script


def test_a_pair_of_loras_by_script_flag_and_python(two, tmp_path, monkeypatch, capsys):
    """Named high: and low: in a script, by a flag and in Python; the same files at a resume, and in a proof."""
    monkeypatch.setitem(presets.PRESETS, "svi-2.0-pro", replace(SVI["svi-2.0-pro"], **TINY))
    model = load(f"svi-2.0-pro={two}")
    script = pair(tmp_path / "s", model)
    high, low = (f"{name}:{tmp_path}/s/loras/{name}.safetensors" for name in ("high", "low"))
    assert load_script(script, 16).scenes[0].lora == ((high, 1.0), (low, 0.5))
    video = torch.cat(list(generate(script, model)))
    bare = generate([Scene("a", 2.0)], model, image=tmp_path / "s" / "p.png")
    assert len(video) == 32 and not torch.equal(video, torch.cat(list(bare)))
    asked = ["generate", "--script", str(script), "--model", f"svi-2.0-pro={two}", "--threads", "1"]
    monkeypatch.chdir(tmp_path / "s")
    flags = ["--lora", "high:loras/high.safetensors", "--lora", "low:loras/low.safetensors=0.5"]
    image = ["generate", "a", "--seconds", "2", "--image", "p.png", "--model", f"svi-2.0-pro={two}", "--threads", "1"]
    saw = progress.LineOutput.show

    def stop(self, event):
        saw(self, event)
        if isinstance(event, SegmentWritten) and event.index == 0:
            raise Stopped(2)

    assert run([*asked, "-o", "whole"]) == 0 and run([*image, *flags, "-o", "flags"]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(progress.LineOutput, "show", stop)
        assert run([*asked, "-o", "cut"]) == 130
    assert run(["resume", "cut"]) == 0 and run(["verify", "cut", "--segment", "0"]) == 0, capsys.readouterr()
    made = {name: (tmp_path / "s" / name / "video.mp4").read_bytes() for name in ("whole", "cut")}
    assert made["whole"] == made["cut"]
    made = {
        name: [file.read_bytes() for file in sorted((tmp_path / "s" / name / "media").glob("s*"))]
        for name in ("whole", "flags")
    }  # how they were asked for is in the file
    assert made["whole"] == made["flags"]
    recorded = json.loads((tmp_path / "s" / "cut" / "run.json").read_text())["settings"]["loras"]
    assert set(recorded) == {high.removeprefix("high:"), low.removeprefix("low:")}
    (tmp_path / "s" / "loras" / "low.safetensors").unlink()
    assert run(["resume", "cut"]) == 2 and "is gone: put it back" in capsys.readouterr().err
