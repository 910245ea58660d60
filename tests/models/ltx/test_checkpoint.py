"""LTX checkpoints in every layout, and on the engine: any strategy, exact in length, resumed after any window."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import Unigram
from tokenizers.pre_tokenizers import Metaspace
from tokenizers.processors import TemplateProcessing

from longtake.core.errors import PlanError
from longtake.core.guidance_settings import Guidance
from longtake.core.noise import CounterNoise
from longtake.core.sigmas import token_shift
from longtake.engine.build import build_rollout
from longtake.engine.events import Frames, WindowDone
from longtake.engine.inputs import RolloutInputs
from longtake.engine.output import video_output
from longtake.models import ModelError, load
from longtake.models.checkpoints.loading import WeightsError
from longtake.models.encoders.t5 import T5Config, T5Encoder
from longtake.models.ltx import checkpoint as ltx_checkpoint
from longtake.models.ltx.checkpoint import open_folder
from longtake.models.ltx.config import LTXConfig
from longtake.models.ltx.layout.files import Layout, find, fitting
from longtake.models.ltx.presets import LTX
from longtake.models.ltx.vae_config import LTX_090, LTX_091, LTX_095
from longtake.models.model import LatentDecoding
from longtake.pipelines import generate as api
from longtake.pipelines.settings.run_settings import RunSettings
from longtake.planning.script import Scene, Script
from longtake.planning.strategies.registry import make_plan
from tests.checkpoints import random_ltx
from tests.oracles import apart, oracle, shuffled
from tests.rollouts import recorded, resumed


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("ltx")
    return {grown: open_folder(random_ltx(root / str(grown), grown=grown)) for grown in (False, True)}


def video(model, name: str = "sliding", frames: int = 60, seed: int = 0, **options) -> torch.Tensor:
    run = build_rollout(
        model, Script.of("a red ball", 24, frames / 24), make_plan(name, **{"steps": 3, **options}), seeds=(seed,)
    )
    return torch.cat([event.video for event in run.run() if isinstance(event, Frames)], 2)


# ---------------------------------------------------------------- the engine
STRATEGIES = [
    ("sliding", dict(overlap=9)),
    ("sliding", dict(overlap=9, context_noise=0.05, context_noise_mode="resampled")),
    ("relay", dict(overlap=9)),
    ("relay", dict(overlap=1, handoff="latents", window=33)),
    ("relay", dict(overlap=9, handoff="pixels-uint8", overlap_source="new")),
    ("soft", dict(overlap=17)),
    ("looping", dict(tile=56, overlap=16, adain=0.3, reference=0.8)),
    ("async", dict(overlap=9, ar_step=1)),
    ("continuous", dict(ar_step=1)),
]


@pytest.mark.parametrize(("name", "options"), STRATEGIES)
@pytest.mark.parametrize("grown", [pytest.param(False, marks=pytest.mark.long), True])
def test_resume_after_any_window_is_exact(models, grown, name, options):
    """The decoder lags by frames that no snapshot holds: the replay of its last latents makes them again."""
    model, frames = models[grown], 180

    def rollout():
        return build_rollout(model, Script.of("a red ball", 24, frames / 24), make_plan(name, steps=2, **options))

    whole, snapshots = recorded(rollout())
    assert whole.shape == (1, 3, frames, 16, 16)
    assert len(snapshots) > 3
    for snapshot in snapshots[:-1][:: max(1, len(snapshots) // 4)]:
        assert torch.equal(resumed(rollout(), snapshot), whole[:, :, snapshot.frames :])


def test_a_snapshot_holds_enough_latents_and_no_more(models):
    model = models[True]
    run = build_rollout(model, Script.of("a red ball", 24, 20), make_plan("sliding", steps=1, overlap=9))
    kept = [run.state()[0]["output.decoder.replay"].shape[2] for event in run.run() if isinstance(event, WindowDone)]
    assert kept == sorted(kept) and kept[-1] == model.vae.replay_latents


@pytest.mark.parametrize("frames", [1, 8, 9, 120, 121, 193, 200])
@pytest.mark.parametrize("name", ["sliding", "relay", "soft", "looping", "continuous"])
def test_any_number_of_frames_comes_out_exactly(models, name, frames):
    own = {"continuous": {}, "looping": {"overlap": 16}}.get(name, {"overlap": 9})
    assert video(models[True], name, frames, **own).shape[2] == frames


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("relay", dict(overlap=9)),
        ("looping", dict(tile=120, overlap=32, adain=0.25, reference=1.0)),
    ],
)
def test_a_minute(models, name, options):
    """1441 frames of three scenes: 14 clips of 113 frames that share 9, 17 tiles of 120 that share 32."""
    model = replace(models[True], limits=replace(models[True].limits, max_latent_frames=15))
    script = Script.of([Scene("a red ball", 20.0), Scene("a blue ball", 20.0), Scene("the sea")], 24, 1441 / 24)
    run, windows, rows, prompts = build_rollout(model, script, make_plan(name, steps=1, **options)), 0, 0, []
    for_window, made = run.conditioner.for_window, 0

    def watched(*args):
        cond = for_window(*args)
        prompts.append(cond.texts[0].key)
        return cond

    run.conditioner.for_window = watched
    for event in run.run():
        made += event.video.shape[2] if isinstance(event, Frames) else 0
        windows += isinstance(event, WindowDone)
        rows = max(rows, len(run.clip.latents.frames) + len(run.output.decoder.replay))
    assert made == 1441 and rows < 80
    assert windows == {"relay": 14, "looping": 17}[name]
    assert list(dict.fromkeys(prompts)) == ["a red ball", "a blue ball", "the sea"]


def test_frames_come_as_soon_as_they_are_certain(models):
    model = models[True]
    run, made, shown = build_rollout(model, Script.of("a", 24, 10), make_plan("sliding", steps=1, overlap=9)), 0, []
    for event in run.run():
        if isinstance(event, WindowDone):
            made = 1 + 8 * (run.clip.latents.done - 1)
            shown.append((event.frames, max(0, made - model.vae.lag)))
    assert all(frames == certain for frames, certain in shown[:-1])
    assert shown[-1][0] == 240


# ---------------------------------------------------------------- noise of the decoder
def test_decode_noise_depends_on_seed_and_position_alone(models, monkeypatch):
    model = models[True]
    assert model.decoding.noise_sigma == 0.025 and models[False].decoding.noise_sigma == 0
    one = video(model)
    monkeypatch.setattr(video_output, "LATENTS_PER_PUSH", 1)
    assert torch.equal(one, video(model))
    quiet = replace(model, decoding=LatentDecoding())
    assert not torch.equal(one, video(quiet))
    noise = one - video(quiet)
    again = video(model, seed=1) - video(replace(model, decoding=LatentDecoding()), seed=1)
    assert not torch.allclose(noise, again, atol=1e-3)


def test_strategies_share_the_noise_of_the_decoder(models):
    """Two plans hand over the same latents in other pieces: the frames are the same."""
    drawn = []

    class Spied(CounterNoise):
        def __call__(self, keys, shape):
            drawn.extend((key.frame, key.clip) for key in keys if key.purpose == "decode")
            return super().__call__(keys, shape)

    for options in (dict(window=65), dict(window=33)):
        drawn.clear()
        run = build_rollout(
            models[True], Script.of("a", 24, 4), make_plan("sliding", steps=1, overlap=9, **options), noise=Spied()
        )
        list(run.run())
        assert drawn == [(0, 0), *((1 + 8 * i, 0) for i in range(12))]


# ---------------------------------------------------------------- positions
def test_a_plan_never_reaches_past_twenty_seconds(tmp_path):
    model = open_folder(random_ltx(tmp_path / "m", max_latent_frames=1000, size=8))
    assert model.limits.max_latent_frames == 61  # 481 frames
    with pytest.raises(PlanError, match="use at most 481"):
        video(model, "clip", 489, window=489)
    slow = open_folder(random_ltx(tmp_path / "s", max_latent_frames=1000, fps=8))
    assert slow.limits.max_latent_frames == 21  # 161 frames
    slow = replace(
        slow, limits=replace(slow.limits, max_latent_frames=40)
    )  # a caller who sets another limit is refused before the first step
    with pytest.raises(PlanError, match="end at 20 s"):
        video(slow, "clip", 200, window=201)


@pytest.mark.parametrize("grown", [False, True])
def test_an_end_picture_fits_into_the_longest_window_of_every_release(tmp_path, grown):
    model = open_folder(random_ltx(tmp_path / "m", max_latent_frames=1000, size=8, grown=grown))
    assert model.limits.max_latent_frames == 61

    run = build_rollout(
        model, Script.of("a", 24, 481 / 24), make_plan("clip", steps=1),
        inputs=RolloutInputs(end=torch.zeros(1, 3, 1, 8, 8)),
    )  # fmt: skip
    list(run.run())


@pytest.mark.parametrize("how", ["generate", "settings"])
def test_the_network_gets_the_requested_frame_rate(models, monkeypatch, how):
    rates = []
    monkeypatch.setattr(
        LTXConfig, "frames", lambda self, at, fps, run=LTXConfig.frames: rates.append(fps) or run(self, at, fps)
    )
    if how == "generate":
        list(api.generate("a", models[True], strategy="clip", seconds=1, fps=12, steps=1))
    else:
        settings = RunSettings.of(models[True], "a", seconds=1, fps=12, strategy="clip", steps=1)
        list(settings.new_rollout(models[True]).run())
    assert set(rates) == {12}


# ---------------------------------------------------------------- folders
def test_a_released_folder_has_published_settings(tmp_path):
    for grown in (False, True):
        folder = released(tmp_path / str(grown), grown)
        model = open_folder(folder)
        assert (model.info.family, model.fps, model.size, model.defaults.strategy) == ("ltx", 24.0, (512, 768), "relay")
        assert find(folder).network_config.causal_temporal_positioning == grown
        assert model.format.tokens_per_frame == 64 * 96 and model.limits.max_latent_frames == 61
        assert model.defaults.sampling_options["sigma_spacing"] == ("quadratic" if grown else "terminal")
        assert model.defaults.sampling_options["shift"] == (1.0 if grown else token_shift(25 * 64 * 96))
        assert (
            model.defaults.guidance == Guidance((3.0,))
            and model.features.guidance_blocks == 2
            and model.defaults.solver == "euler"
        )
        assert model.defaults.strategy_options["image_cond_noise_scale"] == 0.15 and model.second_stage is None
        assert (model.defaults.image_cond_blur, model.defaults.image_cond_crf) == (1.0, 29)
        assert model.limits.causal_positions is grown
    with pytest.raises(WeightsError, match="lacks vae"):
        shutil.rmtree(folder / "vae")
        open_folder(folder)


@pytest.mark.parametrize(
    ("asked", "latents"),
    [
        (dict(seconds=5), 16),
        (dict(seconds=5, height=256, width=384), 4),
        (dict(seconds=60), 25),
        (dict(seconds=5, window=33), 5),
        (dict(seconds=5, strategy="looping", tile=40), 5),
    ],
)
def test_the_first_releases_shift_by_the_tokens_of_the_first_window(old, asked, latents):
    settings = RunSettings.of(old, "a", **asked)
    assert settings.sampling.shift == token_shift(latents * 64 * 96)
    assert RunSettings.of(old, "a", seconds=5, shift=2.0).sampling.shift == 2.0


def test_the_default_window_is_no_longer_than_the_rate_allows(old):
    for fps, window in ((8, 161), (24, 193), (48, 193)):
        settings = RunSettings.of(old, "a", seconds=60, fps=fps)
        assert settings.strategy_options["window"] == window
        for planned in settings.make_plan().windows(900, 8, settings.video_model(old).limits):
            LTXConfig(causal_temporal_positioning=False).frames(planned.positions, fps)


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """The first release, of 64 x 96 tokens."""
    return open_folder(released(tmp_path_factory.mktemp("old") / "m", grown=False))


def released(folder: Path, grown: bool = True) -> Path:
    """As published: no longtake.json, and nothing of ours in the config of the network."""
    random_ltx(folder, grown=grown)
    (folder / "longtake.json").unlink()
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "LTXPipeline"}))
    config = folder / "transformer" / "config.json"
    ours = ("causal_temporal_positioning", "temporal_compression", "scale")
    config.write_text(json.dumps({k: v for k, v in json.loads(config.read_text()).items() if k not in ours}))
    return folder


def test_the_config_of_this_project_states_the_positions_of_frames(tmp_path):
    folder = random_ltx(tmp_path / "m")
    config = folder / "transformer" / "config.json"
    for said in (False, True):
        config.write_text(json.dumps(json.loads(config.read_text()) | {"causal_temporal_positioning": said}))
        assert find(folder).network_config.causal_temporal_positioning == said


def test_weights_that_do_not_fit_are_named(tmp_path):
    folder = random_ltx(tmp_path / "m")
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    gone = tensors.pop("transformer_blocks.1.ff.net.2.bias")
    save_file(tensors, file)
    with pytest.raises(WeightsError, match=r"1 missing: transformer_blocks\.1\.ff\.net\.2\.bias"):
        open_folder(folder)
    save_file(tensors | {"transformer_blocks.1.ff.net.2.bias": gone, "extra": gone.clone()}, file)
    with pytest.raises(WeightsError, match="1 left over: extra"):
        open_folder(folder)
    config = folder / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"magic": 1}))
    with pytest.raises(WeightsError, match="magic = 1"):
        open_folder(folder)


def test_the_error_of_a_missing_tokenizer_names_the_remedy(tmp_path):
    folder = random_ltx(tmp_path / "m")
    (folder / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(WeightsError, match=r"copy that of google/t5-v1_1-xxl"):
        open_folder(folder)


def test_the_text_encoder_hides_padding(models):
    embedding = models[True].text_encoder.encode(["a red ball"])
    assert embedding[0, :3].abs().sum(-1).min() > 0 and not embedding[0, 3:].any()


def test_an_open_vocabulary_has_256_tokens_and_equals_t5(tmp_path):
    """T5 with its attention mask, as the official pipeline calls it; tokens after the mask are zero."""
    folder = random_ltx(tmp_path / "m")
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((c, -1.0) for c in "▁abdelru")]
    tokenizer = Tokenizer(Unigram(pieces, 2))
    tokenizer.pre_tokenizer = Metaspace()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(folder / "tokenizer" / "tokenizer.json"))
    words = T5Config(len(pieces), d_model=10, d_kv=4, d_ff=16, num_layers=2, num_heads=2, model_type="t5")
    ours = shuffled(T5Encoder(words))
    save_file(ours.state_dict(), folder / "text_encoder" / "model.safetensors")
    (folder / "text_encoder" / "config.json").write_text(json.dumps(asdict(words)))
    model = open_folder(folder)
    prompts = ["a red ball", "a"]
    got = model.text_encoder.encode(prompts)
    found = tokenizer.encode_batch(prompts)
    lengths = [len(text.ids) for text in found]
    assert got.shape == (2, 256, 10) and got.ne(0).any(-1).sum(1).tolist() == lengths == [12, 3]
    settings = {k: v for k, v in asdict(words).items() if k != "model_type"} | {"tie_word_embeddings": False}
    theirs = oracle("transformers", "T5EncoderModel")(oracle("transformers", "T5Config")(**settings)).eval()
    theirs.load_state_dict(ours.state_dict() | {"encoder.embed_tokens.weight": ours.shared.weight})
    ids = torch.zeros(2, 256, dtype=torch.long)
    for row, text in zip(ids, found):
        row[: len(text.ids)] = torch.tensor(text.ids)
    mask = torch.arange(256) < torch.tensor(lengths)[:, None]
    want = theirs(ids, attention_mask=mask.long()).last_hidden_state * mask[..., None]
    assert apart(want, got) < 1e-5


# ---------------------------------------------------------------- which release
def test_a_preset_states_what_files_leave_open(tmp_path):
    folder = released(tmp_path / "m")
    stochastic = load(f"ltx-2b-0.9.6-distilled={folder}")
    assert (stochastic.defaults.solver, stochastic.defaults.guidance_scale) == ("stochastic", 1.0)
    assert stochastic.defaults.sampling_options["steps"] == 8
    assert stochastic.info.source == f"ltx-2b-0.9.6-distilled={folder.resolve()}"
    with pytest.raises(ModelError, match=r"of the family ltx, but wan2\.1-t2v-14b of wan"):
        load(f"wan2.1-t2v-14b={folder}")
    with pytest.raises(ModelError, match=r"is the file ltxv-2b-0\.9\.8-distilled\.safetensors of Lightricks/LTX-Video"):
        load("ltx-2b-0.9.8-distilled")


@pytest.mark.parametrize(
    ("vae", "sigmas", "shape", "first"),
    [
        (LTX_090, (), {}, "ltx-2b-0.9.0"),
        (LTX_091, (), {}, "ltx-2b-0.9.1"),
        (LTX_095, (), {}, "ltx-2b-0.9.5"),
        (LTX_095, (1.0, 0.725), {}, "ltx-2b-0.9.6-distilled"),
        (LTX_095, (), LTX["ltx-13b-0.9.8-dev"].network, "ltx-13b-0.9.7-dev"),
        (LTX_095, (1.0, 0.725), LTX["ltx-13b-0.9.8-dev"].network, "ltx-13b-0.9.7-distilled"),
        (LTX_095, (), dict(num_layers=2), "ltx-2b-0.9.5"),
    ],
)
def test_releases_are_recognised_by_vae_size_and_allowed_sigmas(vae, sigmas, shape, first):
    nowhere = Path("nowhere")
    found = Layout(nowhere, (), (), nowhere, LTXConfig(**shape), vae, sigmas=sigmas)
    assert fitting(found)[0].name == first
    guidance = ltx_checkpoint.published_settings(found, LTX[first], None)[2].guidance
    small = found.network_config.num_layers == 2
    assert guidance == (Guidance((LTX[first].guidance,)) if small else LTX[first].guide)


def test_scenes_name_loras_of_either_layout(models, tmp_path):
    """diffusers and official names change the same weights; without the scene's LoRA the network is as before."""
    model = open_folder(models[True].info.path)
    low = {"lora_A.weight": torch.randn(2, 20), "lora_B.weight": torch.randn(20, 2)}
    for layout, prefix in (("diffusers", "transformer."), ("official", "diffusion_model.")):
        names = [f"transformer_blocks.{i}.attn1.{part}" for i in (0, 1) for part in ("to_q", "to_out.0")]
        save_file(
            {f"{prefix}{n}.{k}": v.clone() for n in names for k, v in low.items()}, tmp_path / f"{layout}.safetensors"
        )

    def made(*loras):
        script = Script.of([Scene("a red ball", lora=loras)], 24, 1.0)
        run = build_rollout(model, script, make_plan("clip", steps=1), guidance=1.0)
        return torch.cat([e.video for e in run.run() if isinstance(e, Frames)], 2)

    plain, files = made(), [str(tmp_path / f"{layout}.safetensors") for layout in ("diffusers", "official")]
    one, two = (made((file, 0.5)) for file in files)
    assert torch.equal(one, two) and apart(plain, one) > 1e-3 and torch.equal(made(), plain)


@pytest.mark.parametrize("solver", ["euler", "stochastic"])
def test_steps_with_noise_are_resumed_too(models, solver):
    def rollout(seed=0):
        return build_rollout(
            models[True],
            Script.of("a red ball", 24, 4),
            make_plan("looping", steps=3, overlap=16),
            solver=solver,
            seeds=(seed,),
        )

    run, parts, states = rollout(), [], []
    for event in run.run():
        if isinstance(event, Frames):
            parts.append(event.video)
        if isinstance(event, WindowDone):
            states.append((event.frames, *run.state()))
    whole, (shown, tensors, facts) = torch.cat(parts, 2), states[0]
    again, other = rollout(), rollout(1)
    again.load(tensors, facts)
    assert torch.equal(torch.cat([e.video for e in again.run() if isinstance(e, Frames)], 2), whole[:, :, shown:])
    assert not torch.equal(torch.cat([e.video for e in other.run() if isinstance(e, Frames)], 2), whole)
