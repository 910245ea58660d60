"""Released LTX checkpoints have the keys and shapes of the reference, and settings that were published."""

import subprocess
import sys
import warnings

import pytest
import torch

from longtake.core.flat_config import to_flat
from longtake.core.sigmas import quadratic as grid
from longtake.core.sigmas import sigma_schedule
from longtake.models.encoders.t5 import T5Config, T5Encoder
from longtake.models.ltx import presets as ltx_presets
from longtake.models.ltx.presets import DEV_13B, EIGHT, LTX, quadratic
from longtake.models.ltx.transformer import LTXTransformer
from longtake.models.ltx.vae import LTXVAE
from longtake.models.registry import preset, presets
from longtake.planning.limits import Limits
from longtake.planning.strategies.registry import make_plan
from longtake.planning.window import check
from tests.oracles import oracle

NAMES = {f"ltx-2b-{v}" for v in ("0.9.0", "0.9.1", "0.9.5", "0.9.6-dev", "0.9.6-distilled", "0.9.8-distilled")}
NAMES |= {f"ltx-13b-{v}-{kind}" for v in ("0.9.7", "0.9.8") for kind in ("dev", "distilled")}
SHAPES = {(p.vae, p.parameters): name for name, p in LTX.items()}


def empty(make, *args, **kwargs) -> torch.nn.Module:
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make(*args, **kwargs)


def shapes(net) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}


def test_preset_names():
    assert set(LTX) == NAMES and set(LTX) < set(presets()) and preset("ltx-13b-0.9.8-dev") is LTX["ltx-13b-0.9.8-dev"]
    code = "import sys, longtake.models.ltx.presets as p; assert p.LTX and 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("name", SHAPES.values())
def test_keys_shapes_and_counts_are_those_of_the_reference(name):
    made = LTX[name]
    net = empty(LTXTransformer, made.config())
    assert sum(p.numel() for p in net.parameters()) == made.parameters
    assert shapes(net) == shapes(empty(oracle("diffusers", "LTXVideoTransformer3DModel"), **made.network))
    vae = empty(LTXVAE, made.vae_config())
    assert sum(p.numel() for p in vae.parameters()) == ltx_presets.VAE_PARAMETERS[made.vae]
    known = {k: list(v) if isinstance(v, tuple) else v for k, v in to_flat(made.vae_config()).items()}
    known = {k: v for k, v in known.items() if v is not None}
    assert shapes(vae) == shapes(empty(oracle("diffusers", "AutoencoderKLLTXVideo"), **known))


def test_the_text_encoder_is_counted():
    words = T5Config(vocab_size=32128, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64, model_type="t5")
    assert sum(p.numel() for p in empty(T5Encoder, words).parameters()) == ltx_presets.TEXT_PARAMETERS


@pytest.mark.parametrize("name", LTX)
def test_a_preset_plans_its_own_videos(name):
    """121 frames at once, 1441 as a relay of 8-second clips, and any other strategy with its sigmas."""
    made, limits = LTX[name], Limits(61)
    (one,) = make_plan(made.plan, **made.options).windows(121, 8, limits)
    check(one, limits)
    assert len(one.frames) == made.max_latent_frames == 16 and one.steps == made.steps
    windows = list(make_plan(made.plan, **made.options).windows(1441, 8, limits))
    assert len(windows) == 8 and all(len(w.frames) <= 25 for w in windows)
    assert [w.cut.overlap for w in windows[1:]] == [1] * 7
    for other in ("looping", "sliding", "continuous"):
        next(make_plan(other, **made.sampling).windows(481, 8, limits))


def test_published_settings():
    first, dev, big = LTX["ltx-2b-0.9.0"], LTX["ltx-2b-0.9.6-dev"], LTX["ltx-13b-0.9.8-dev"]
    assert (dev.size, dev.frames, dev.fps, dev.steps, dev.guidance) == ((512, 768), 121, 24, 40, 3.0)
    assert (
        dev.tokens == 384
        and dev.sampling["sigma_spacing"] == "quadratic"
        and first.sampling["sigma_spacing"] == "terminal"
    )
    assert big.guide is DEV_13B and big.guidance == 8.0 and big.steps == 30
    assert (len(big.second.first), len(big.second.second)) == (27, 13)
    for name in ("ltx-2b-0.9.6-distilled", "ltx-2b-0.9.8-distilled", "ltx-13b-0.9.8-distilled"):
        distilled = LTX[name]
        assert distilled.guide.plain and distilled.steps == 8
        assert sigma_schedule(**distilled.sampling).tolist()[:-1] == pytest.approx(EIGHT, abs=1e-4)
    assert [LTX[n].solver for n in sorted(LTX) if "distilled" in n] == ["euler", "euler", "stochastic", "euler"]
    assert LTX["ltx-13b-0.9.8-distilled"].second.tone == 0.6 and LTX["ltx-13b-0.9.7-distilled"].second.tone == 0
    assert LTX["ltx-2b-0.9.8-distilled"].second.second == (0.9094, 0.725, 0.4219)


@pytest.mark.parametrize("steps", [8, 30])
def test_quadratic_sigmas_without_torch(steps):
    assert quadratic(steps) == pytest.approx(grid(steps)[:-1].tolist(), abs=1e-12)


def test_memory_is_of_the_weights():
    parts = LTX["ltx-13b-0.9.8-dev"].gigabytes()
    assert parts["network"] == pytest.approx(26.09, abs=0.01) and parts["text encoder"] == pytest.approx(9.52, abs=0.01)
    assert parts["vae"] == pytest.approx(4.99, abs=0.01) and "upsampler" in parts
    assert "upsampler" not in LTX["ltx-2b-0.9.5"].gigabytes()
