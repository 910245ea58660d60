"""Presets have every key and shape of the released networks, on the meta device, and say true numbers."""

import inspect
import subprocess
import sys
import warnings
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from longtake.core.errors import PlanError
from longtake.models.encoders.clip_vision import ClipConfig, ClipVision
from longtake.models.encoders.t5 import T5Config, T5Encoder
from longtake.models.wan import presets
from longtake.models.wan.layout.settings import CONTEXT
from longtake.models.wan.presets import KINDS, WAN, fitting, preset
from longtake.models.wan.transformer import WanTransformer
from longtake.models.wan.vae import WanVAE
from longtake.planning.limits import Limits
from longtake.planning.strategies.registry import default_options_for, make_plan
from longtake.planning.window import Cut, check
from tests.oracles import oracle

SHAPES = {repr(sorted(p.network.items())): p.name for p in WAN.values()}  # one preset of every shape
KEYS = {
    "skyreels-v2-df-1.3b-540p": 830,
    "skyreels-v2-df-14b-540p": 1095,
    "skyreels-v2-i2v-1.3b-540p": 983,
    "skyreels-v2-i2v-14b-540p": 1303,
}


def shapes(net: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}


def count(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def empty(make, *args, **kwargs) -> torch.nn.Module:
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make(*args, **kwargs)


@pytest.mark.parametrize("name", SHAPES.values())
def test_keys_and_shapes_are_those_of_the_reference(name):
    config = preset(name).config()
    kind = "SkyReelsV2Transformer3DModel" if name.startswith("sky") else "WanTransformer3DModel"
    reference = oracle("diffusers", kind)
    known = inspect.signature(reference.__init__).parameters
    theirs = empty(reference, **{k: v for k, v in asdict(config).items() if k in known})
    ours = empty(WanTransformer, config)
    assert shapes(ours) == shapes(theirs)
    assert len(shapes(ours)) == KEYS.get(name, len(shapes(ours)))


@pytest.mark.parametrize("name", WAN)
def test_parameters_are_counted(name):
    assert count(empty(WanTransformer, preset(name).config())) == preset(name).parameters


def test_the_other_parts_are_counted():
    vae = empty(WanVAE, preset("wan2.1-t2v-14b").vae())
    assert count(vae) == presets.VAE_PARAMETERS
    assert shapes(vae) == shapes(empty(oracle("diffusers", "AutoencoderKLWan")))
    words = T5Config(vocab_size=256384, d_model=4096, d_ff=10240, num_layers=24, num_heads=64)
    assert count(empty(T5Encoder, words)) == presets.TEXT_PARAMETERS
    assert count(empty(ClipVision, ClipConfig())) == presets.IMAGE_PARAMETERS


def test_preset_names():
    skyreels = {f"skyreels-v2-{kind}-14b-{size}p" for kind in ("df", "t2v", "i2v") for size in (540, 720)}
    skyreels |= {"skyreels-v2-df-1.3b-540p", "skyreels-v2-i2v-1.3b-540p"}
    wan = {"wan2.1-t2v-1.3b", "wan2.1-t2v-14b", "wan2.1-i2v-14b-480p", "wan2.1-i2v-14b-720p", "wan-2048"}
    assert set(WAN) == skyreels | wan


@pytest.mark.parametrize("name", WAN)
def test_a_preset_plans_its_own_videos(name):
    """The strategies know its strategy and options, and its windows are ones that its kind can run."""
    made = preset(name)
    limits = Limits(made.max_latent_frames, per_frame_sigma=made.kind == "df", conditioning=CONTEXT[made.kind])
    frames = made.frames if made.kind == "t2v" else 2 * made.frames
    known = 1 if made.kind == "i2v" else 0
    windows = list(make_plan(made.plan, **made.options).windows(frames, 4, limits, known))
    for window in windows:
        check(window, limits)
    assert len(windows[0].frames) == made.max_latent_frames
    assert windows[0].steps == made.steps
    assert made.kind in KINDS and made.size[0] % 16 == made.size[1] % 16 == 0
    make_plan(made.plan if made.kind != "df" else "continuous", **made.sampling)


def test_lengths_of_the_published_windows():
    windows = list(make_plan("sliding", **preset("skyreels-v2-df-14b-540p").options).windows(257, 4, Limits(25)))
    assert [len(w.frames) for w in windows] == [25, 25, 25]
    assert windows[1].sigmas[0, :5].tolist() == [0.02] * 5


@pytest.mark.parametrize("name", [name for name in WAN if preset(name).kind == "df"])
def test_a_staircase_keeps_the_published_overlap_noise_and_handoff(name):
    """The published command for it differs from that for windows by ar_step and causal_block_size alone."""
    made = preset(name)
    options = default_options_for("async", made.plan, made.options, made.sampling)
    first, second, *_ = make_plan("async", **options, ar_step=5, causal_block_size=5).windows(
        257, 4, Limits(made.max_latent_frames)
    )
    assert (
        second.cut == Cut(17, "pixels")
        and second.context_noise_mode == "resampled"
        and second.sigmas[0, :5].tolist() == [0.02] * 5
    )
    assert first.steps == 30 + 5 * first.block[-1]
    assert default_options_for("continuous", made.plan, made.options, made.sampling) == made.sampling


@pytest.mark.parametrize(
    ("name", "words"),
    [("sliding", "text-to-video"), ("async", "text-to-video|one sigma"), ("continuous", "one sigma")],
)
def test_a_t2v_checkpoint_cannot_force(name, words):
    limits = Limits(25, per_frame_sigma=False, conditioning="none")
    with pytest.raises(PlanError, match=words):
        for window in make_plan(name, steps=6, **(dict(causal_block_size=5) if name == "async" else {})).windows(
            193, 4, limits
        ):
            check(window, limits)


def test_memory_is_of_the_weights():
    parts = preset("skyreels-v2-df-14b-540p").gigabytes()
    assert parts["network"] == pytest.approx(28.58, abs=0.01)
    assert parts["text encoder"] == pytest.approx(11.36, abs=0.01)
    assert "image encoder" not in parts and "image encoder" in preset("wan2.1-i2v-14b-480p").gigabytes()
    assert preset("skyreels-v2-df-1.3b-540p").requested_gb == 14.7
    assert preset("skyreels-v2-df-14b-540p").requested_gb == 51.0


def test_the_guide_lists_the_presets():
    """docs/guides/skyreels.md, row by row: parameters, memory and licence."""
    page = (Path(__file__).parents[3] / "docs" / "guides" / "skyreels.md").read_text(encoding="utf-8")
    for name, found in WAN.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        whole = sum(found.gigabytes().values())
        for words in (f"{found.parameters / 1e9:.2f} B", f"{whole:.1f} GB", found.licence or "none", found.kind):
            assert f"| {words}" in row, (name, words)


def test_a_wrong_name_is_answered_with_the_right_one():
    with pytest.raises(ValueError, match=r"did you mean 'wan2\.1-t2v-14b'"):
        preset("wan2.1-t2v-14")


def test_a_shape_finds_its_presets():
    big = preset("skyreels-v2-t2v-14b-540p").network
    assert [p.name for p in fitting(big, "t2v", "skyreels")] == [f"skyreels-v2-t2v-14b-{n}p" for n in (540, 720)]
    assert [p.name for p in fitting(big, "t2v", "wan")] == ["wan2.1-t2v-14b"]
    assert {p.kind for p in fitting(big | dict(in_channels=16))} == {"df", "t2v"}
    assert fitting(big | dict(num_layers=3)) == []


def test_names_cost_no_torch():
    code = "import sys, longtake.models.wan.presets as p; assert p.PRESETS and 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
