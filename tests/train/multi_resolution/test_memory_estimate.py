"""What a mixed run is said to take, before a weight is there, is what it takes."""

import gc
from dataclasses import asdict

import pytest
import torch

from longtake.cli import run as command
from longtake.core.profiling import MemoryTracker
from longtake.models.checkpoints import loading as weights
from longtake.models.ltx import config as ltx_config
from longtake.models.ltx import vae as ltx_vae
from longtake.models.ltx import vae_config as ltx_vae_config
from longtake.models.ltx.presets import TEXT_PARAMETERS, VAE_PARAMETERS
from longtake.models.ltx.transformer import LTXTransformer
from longtake.train.loop import begin
from longtake.train.loop_config import LoopConfig
from longtake.train.multi_resolution.memory_estimate import measure_passes
from longtake.train.multi_resolution.run_estimate import estimate_run
from longtake.train.recipes.multi_resolution import MultiResolution
from longtake.train.run.fsdp import trained_tensors
from tests.checkpoints import random_text

RELEASED = {
    "loop": {"steps": 1000, "dtype": "bf16", "checkpointing": True},
    "multi_resolution": {
        "init": "ltx-2b-0.9.5", "seconds": [5, 8], "sizes": ["768x512", "512x320"], "batch": {"tokens": 9600},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A run with an untrained VAE and text encoder."""
    folder = tmp_path_factory.mktemp("parts")
    config = ltx_vae_config.tiny()
    weights.save(ltx_vae.LTXVAE(config), config, folder / "vae", kind="AutoencoderKLLTXVideo")
    random_text(folder, 10)
    network = ltx_config.tiny(num_layers=4, num_attention_heads=6, attention_head_dim=16, cross_attention_dim=96)
    return {
        "seconds": (1.0, 1.5), "sizes": ("32x32", "40x24"), "clips": 2, "text": str(folder),
        "vae": str(folder / "vae"), "network": asdict(network), "batch": {"tokens": 900}, "eval_prompts": 0,
        "prefix": {"first_frame_share": 0.0, "several_share": 0.0},
    }  # fmt: skip


@pytest.mark.parametrize("recomputed", [pytest.param(False, marks=pytest.mark.long), True])
def test_the_estimate_of_a_step_is_as_measured(table, tmp_path, recomputed):
    """Peak memory of forward and backward pass of a real batch, and its estimate from shapes."""
    recipe = MultiResolution(table, tmp_path)
    run = begin(recipe, LoopConfig.of(steps=9, save_every=0, checkpointing=recomputed), tmp_path, lambda line: None)
    for _ in range(2):  # the optimiser then has its state, and rotary tables exist
        run.advance()
    batch = recipe.draw(0, torch.Generator().manual_seed(0))
    words = recipe.parts.text.encode(batch.captions).ne(0).any(-1).any(0).sum()
    recipe.module.zero_grad(set_to_none=True)
    recipe.sampler = lambda rng: batch
    gc.collect()
    held = [*recipe.module.parameters(), *trained_tensors(recipe.module).values()]
    with MemoryTracker({"cpu"}, held) as tracker:
        recipe.loss(0, torch.Generator()).total.backward()
    with torch.device("meta"):
        net = LTXTransformer(recipe.module.config)
    net.checkpointing = recomputed
    bytes_, flops = measure_passes(net, *batch.video.shape[:2], words=int(words))
    assert bytes_ == pytest.approx(tracker.most, rel=0.06)
    assert flops > 0


def test_a_released_network_is_estimated_without_weights():
    found, lines = estimate_run(RELEASED)
    assert found.parameters == 1_923_385_472 and (found.clips, found.tokens) == (1, 9600)
    assert found.parts == 4 * (VAE_PARAMETERS["0.9.5"] + TEXT_PARAMETERS)
    assert found.held == 16 * found.parameters  # weights, averages, two numbers of AdamW
    assert found.peak > found.held + found.parts + found.gradients
    assert 1.5e14 < found.flops < 3e14
    assert any("9,600" in line and "layers are recomputed" in line for line in lines)


def test_checkpointing_and_muon_need_less(table):
    def found(**loop):
        return estimate_run({"loop": {"steps": 9, **loop}, "multi_resolution": table})[0]

    plain, less = found(), found(checkpointing=True, optimiser="muon", dtype="bf16")
    assert less.step < 0.7 * plain.step and less.flops == pytest.approx(4 / 3 * plain.flops)
    assert less.held < plain.held and less.copies == 2 * plain.parameters and not plain.copies


def test_the_command_prints_the_estimate(table, tmp_path, capsys):
    path = tmp_path / "run.toml"
    inner = "\n".join(f"{k} = {v}" for k, v in [("seconds", [1.0, 1.5]), ("sizes", ["32x32", "40x24"])])
    network = "\n".join(
        f"{k} = {str(v).lower() if isinstance(v, bool) else repr(v)}" for k, v in table["network"].items()
    )
    path.write_text(
        f'[loop]\nsteps = 9\n[multi_resolution]\ntext = "{table["text"]}"\nvae = "{table["vae"]}"\n{inner}\n'
        f"[multi_resolution.network]\n{network}\n"
    )
    assert command(["train", "multi_resolution", str(path), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "a new network" in printed and "together" in printed and "GiB" in printed
    assert command(["train", "flow_matching", str(path), "--dry-run"]) == 2
    assert "this is a config of the recipe multi_resolution" in capsys.readouterr().err
    assert command(["train", "multi_resolution", str(path)]) == 2
    assert "with -o FOLDER" in capsys.readouterr().err
