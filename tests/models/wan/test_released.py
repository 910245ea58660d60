"""Released layouts become the same model, say what kind they are, and are refused in words when something is wrong."""

import json
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from longtake.core.errors import PlanError
from longtake.engine.build import build_rollout
from longtake.engine.events import Frames
from longtake.engine.inputs import RolloutInputs
from longtake.models import ModelError, load, locate
from longtake.models.checkpoints import loading as weights
from longtake.models.checkpoints.loading import WeightsError
from longtake.models.interfaces import Conditioning, ContextFrames, PromptEmbedding
from longtake.models.model import with_size
from longtake.models.wan.layout.files import find, undecided
from longtake.models.wan.presets import PRESETS
from longtake.pipelines.settings.run_settings import RunSettings
from longtake.planning.script import Script
from longtake.planning.strategies.registry import make_plan
from longtake.planning.window import Window
from tests import released
from tests.oracles import apart, rand

KINDS = ("df", "t2v", "i2v")


@pytest.fixture(scope="module")
def made():
    return {kind: released.parts(kind) for kind in KINDS}


@pytest.fixture(scope="module")
def paths(made, tmp_path_factory):
    root = tmp_path_factory.mktemp("released")
    found = {("diffusers", kind): released.diffusers(root / f"d-{kind}", made[kind]) for kind in KINDS}
    found |= {("original", kind): released.original(root / f"o-{kind}", made[kind]) for kind in ("df", "i2v")}
    return found | {("single", kind): released.single(root / f"s-{kind}", made[kind]) for kind in KINDS}


ALL = [("diffusers", k) for k in KINDS] + [("original", "df"), ("original", "i2v")] + [("single", k) for k in KINDS]


def velocity(model, seed: int = 3) -> torch.Tensor:
    """What the model says of a window of three latents that follows a picture."""
    words = model.text_encoder.encode(["a red ball"])
    sigmas = torch.tensor([[0.75] * 3, [0.0] * 3], dtype=torch.float64)
    window = Window(
        range(3), sigmas, role=["concat" if model.limits.conditioning == "concat" else "generate"] + ["generate"] * 2
    )
    session = model.session()
    session.begin(
        window, ContextFrames({}, rand(1, 3, 1, 32, 32)), Conditioning((PromptEmbedding("p", words),), (0, 0, 0), 24.0)
    )
    return session(rand(1, 16, 3, 4, 4, seed=seed), sigmas[0])


@pytest.mark.parametrize(("layout", "kind"), ALL)
def test_every_layout_is_the_same_model(made, paths, layout, kind):
    model = load(paths[layout, kind])
    net, text = made[kind].net, made[kind].text
    for ours, theirs in ((model.vae, made[kind].vae), (model.text_encoder.encoder, text)):
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    session = released.session(model)
    assert all(torch.equal(a, b) for a, b in zip(session.net.parameters(), net.parameters(), strict=True))
    assert session.whole_timesteps and session.net.config.inject_sample_info == (kind == "df")
    if kind == "i2v":
        theirs = made[kind].image_encoder.parameters()
        assert all(
            torch.equal(a, b) for a, b in zip(session.conditioner.image_encoder.parameters(), theirs, strict=True)
        )
    assert apart(velocity(load(paths["diffusers", kind])), velocity(model)) < 1e-6


@pytest.mark.parametrize(("layout", "kind"), ALL)
def test_kinds_and_their_limits(paths, layout, kind):
    model = load(paths[layout, kind])
    assert model.limits.per_frame_sigma == (kind == "df")
    assert model.limits.conditioning == {"df": "inpaint", "t2v": "none", "i2v": "concat"}[kind]
    preset = PRESETS[{"df": "skyreels-v2-df-1.3b-540p", "t2v": "wan2.1-t2v-1.3b"}.get(kind, "wan2.1-i2v-14b-480p")]
    if layout == "diffusers":
        assert (model.size, model.defaults.strategy_options, model.defaults.guidance_scale) == (
            preset.size,
            preset.options,
            preset.guidance,
        )
        assert model.format.rates == ((24.0, 16.0) if kind == "df" else (16.0,))
    assert model.format.tokens_per_frame > 0 and len(model.info.digest) == 64


def test_a_run_has_the_published_settings(paths):
    """Also under a staircase that the user asks for by its name."""
    model = load(paths["diffusers", "df"])
    for name, lag in (("sliding", 0), ("async", 5)):
        found = RunSettings.of(model, "a red ball", seconds=8, strategy=name)
        want = dict(
            window=97,
            overlap=17,
            handoff="pixels",
            context_noise=0.02,
            context_noise_mode="resampled",
        )
        assert found.strategy_options.items() >= (want | dict(ar_step=lag)).items()
        sampling = found.sampling
        assert sampling.schedule() == dict(steps=30, shift=8.0, sigma_spacing="skyreels", sigmas="")
        assert (sampling.height, sampling.fps, sampling.guidance_scale, sampling.solver) == (None, 24, 6, "unipc")
        assert found.video_model(model).size == (544, 960)


def test_a_video_of_each_kind(paths):
    for kind, strategy, options in (
        ("df", "sliding", dict(overlap=5)),
        ("t2v", "clip", {}),
        ("i2v", "clip-conditioned", {}),
    ):
        model = load(paths["diffusers", kind])
        model = with_size(model, (32, 32))
        run = build_rollout(
            model, Script.of("a red ball", model.fps, 9 / model.fps), make_plan(strategy, steps=2, window=9, **options),
            guidance=2.0, inputs=RolloutInputs(start=rand(1, 3, 1, 32, 32) if kind == "i2v" else None),
        )  # fmt: skip
        video = torch.cat([e.video for e in run.run() if isinstance(e, Frames)], 2)
        assert video.shape == (1, 3, 9, 32, 32) and video.isfinite().all() and video.std() > 0


def test_a_t2v_checkpoint_is_refused_diffusion_forcing(paths):
    """Before the first step, although the first window by itself could be made."""
    model = load(paths["diffusers", "t2v"])
    for name, options in (
        ("sliding", dict(overlap=5)),
        ("async", dict(overlap=5, ar_step=1)),
        ("continuous", dict(ar_step=1)),
    ):
        with pytest.raises(PlanError, match=r"text-to-video checkpoint|sigma"):
            next(build_rollout(model, Script.of("a", 16, 2.0), make_plan(name, steps=2, window=9, **options)).run())


def test_dtypes(paths):
    model = load(paths["diffusers", "i2v"], dtype="bf16")
    session = released.session(model)
    assert {p.dtype for p in session.net.parameters()} == {p.dtype for p in model.text_encoder.encoder.parameters()}
    assert {p.dtype for p in session.net.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in model.vae.parameters()} | {
        p.dtype for p in session.conditioner.image_encoder.parameters()
    } == {torch.float32}
    assert 0 < apart(velocity(load(paths["diffusers", "i2v"])), velocity(model)) < 0.05


def test_digests_distinguish_weights(made, paths, tmp_path):
    same = released.diffusers(tmp_path / "same", made["t2v"])
    assert load(same).info.digest == load(paths["diffusers", "t2v"]).info.digest
    assert load(same).info.digest != load(paths["diffusers", "df"]).info.digest


# ---------------------------------------------------------------- refusals
def edited(folder, name: str, **changes) -> None:
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_descriptions_that_contradict_the_weights(made, tmp_path):
    folder = released.diffusers(tmp_path / "d", made["t2v"])
    edited(folder, "model_index.json", _class_name="WanImageToVideoPipeline")
    with pytest.raises(WeightsError, match=r"its description states image to video.* 16 channels and no image"):
        load(folder)
    edited(folder, "model_index.json", _class_name="WanPipeline", transformer_2=["diffusers", "X"])
    with pytest.raises(WeightsError, match=r"Wan 2\.2"):
        load(folder)
    edited(folder, "model_index.json", _class_name="WanVACEPipeline", transformer_2=[None, None])
    with pytest.raises(WeightsError, match="WanVACEPipeline"):
        load(folder)
    edited(folder, "model_index.json", _class_name="CogVideoXPipeline")
    with pytest.raises(ModelError, match="CogVideoXPipeline"):
        load(folder)


def test_a_wrong_preset_is_refused(paths):
    with pytest.raises(WeightsError, match=r"is not wan2\.1-t2v-1\.3b: num_attention_heads is 1, not 12"):
        load(f"wan2.1-t2v-1.3b={paths['diffusers', 't2v']}")


def test_missing_parts_are_named(made, tmp_path):
    folder = released.original(tmp_path / "o", made["df"])
    (folder / "Wan2.1_VAE.safetensors").rename(folder / "Wan2.1_VAE.pth")
    with pytest.raises(WeightsError, match=r"lacks vae, but has pickles: run `longtake convert` on Wan2\.1_VAE\.pth"):
        load(folder)
    toml = released.single(tmp_path / "s", made["t2v"], vae=None)
    with pytest.raises(WeightsError, match="lacks vae"):
        load(toml)
    with pytest.raises(WeightsError, match=r"lacks vae, text_encoder, tokenizer: write a \.toml file"):
        load(toml.parent / "diffusion_models" / "wan.safetensors")
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "model.pth").write_bytes(b"")
    with pytest.raises(ModelError, match=r"only pickles \(model\.pth\): run `longtake convert`"):
        load(tmp_path / "p")


def test_invalid_file_lists_are_refused(made, tmp_path):
    toml = released.single(tmp_path / "s", made["t2v"], sparkle="x")
    with pytest.raises(WeightsError, match="has sparkle"):
        load(toml)
    toml.write_text('preset = "wan3"')
    with pytest.raises(WeightsError, match="no Wan checkpoint is called 'wan3'"):
        load(toml)
    toml.write_text("preset = ")
    with pytest.raises(WeightsError, match=r"is not valid TOML|cannot be read"):
        load(toml)


def test_files_that_do_not_say_their_kind(tmp_path):
    """The 14B networks of diffusion forcing and of text to video have equal shapes; the 1.3B ones differ."""
    big = PRESETS["skyreels-v2-df-14b-540p"]
    released.blank(tmp_path / "x.safetensors", released.shapes(big.config(), released.wan_name))
    found = find(tmp_path / "x.safetensors")
    assert found.kind is None
    assert "skyreels-v2-df-14b-720p" in undecided(found) and "wan2.1-t2v-14b" in undecided(found)
    assert find(tmp_path / "x.safetensors", big).kind == "df"
    for name in ("wan2.1-t2v-1.3b", "skyreels-v2-df-1.3b-540p", "skyreels-v2-i2v-1.3b-540p"):
        released.blank(tmp_path / "y.safetensors", released.shapes(PRESETS[name].config(), released.wan_name))
        assert find(tmp_path / "y.safetensors").kind == PRESETS[name].kind


# ---------------------------------------------------------------- names
def test_names_are_located(tmp_path):
    assert locate(str(tmp_path)).path == tmp_path
    place = locate(f"wan2.1-t2v-14b={tmp_path}")
    assert (place.path, place.preset) == (tmp_path, PRESETS["wan2.1-t2v-14b"])
    place = locate("skyreels-v2-df-14b-720p")
    assert (place.repo, place.preset.name) == ("Skywork/SkyReels-V2-DF-14B-720P-Diffusers", "skyreels-v2-df-14b-720p")
    assert locate("Wan-AI/Wan2.1-T2V-14B-Diffusers").preset.name == "wan2.1-t2v-14b"
    assert locate("Some/Thing").repo == "Some/Thing"
    for name, words in (
        ("wan-2048", "no weights of wan-2048 are published"),
        ("skyreels-v2-df-14b-72p", "did you mean 'skyreels-v2-df-14b-720p'"),
        ("Wan-AI/Wan2.1-T2V-14B", "use Wan-AI/Wan2.1-T2V-14B-Diffusers"),
        ("what", "built in are"),
    ):
        with pytest.raises(ModelError, match=words):
            locate(name)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured on Linux")
def test_weights_are_never_held_whole_in_float32(tmp_path):
    """48 MB of float32 become 24 MB of bfloat16, shard by shard, with hardly more memory than that."""

    class Net(torch.nn.Module):
        def __init__(self, config):
            super().__init__()
            self.layers = torch.nn.ModuleList(torch.nn.Linear(1024, 1024, bias=False) for _ in range(12))

    tensors = {f"layers.{i}.weight": torch.full((1024, 1024), float(i)) for i in range(12)}
    names = [f"m-{i}.safetensors" for i in range(3)]
    for i, name in enumerate(names):
        save_file(dict(list(tensors.items())[4 * i : 4 * i + 4]), tmp_path / name)
    index = {name: names[i // 4] for i, name in enumerate(tensors)}
    (tmp_path / "m.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    del tensors
    highest, done = [anonymous()], threading.Event()

    def watch():
        while not done.wait(0.0005):
            highest.append(anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    net = weights.load(Net, None, tmp_path, dtype=torch.bfloat16)
    done.set()
    watcher.join()
    assert net.layers[11].weight[0, 0] == 11 and net.layers[0].weight.dtype == torch.bfloat16
    assert max(highest) - highest[0] < 36


def anonymous() -> float:
    """Megabytes of memory of this process that no file backs."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("RssAnon"))) / 1024
