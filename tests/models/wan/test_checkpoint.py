"""A checkpoint folder on the engine: any strategy, resumed after any window, with and without stored keys and values."""

import json
import shutil

import pytest
import torch

from longtake.core.errors import PlanError
from longtake.engine.build import build_rollout
from longtake.engine.events import Frames
from longtake.models import ModelError, load
from longtake.models.checkpoints.loading import WeightsError
from longtake.models.wan.layout.files import part_folder
from longtake.models.wan.vae_config import WanVAEConfig
from longtake.planning.script import Script
from longtake.planning.strategies.registry import make_plan
from tests.checkpoints import random_wan
from tests.rollouts import recorded, resumed


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("wan")
    return {causal: load(random_wan(root / str(causal), causal)) for causal in (False, True)}


STRATEGIES = [
    ("sliding", dict(overlap=5)),
    ("relay", dict(overlap=5)),
    ("async", dict(overlap=5, ar_step=1)),
    ("continuous", dict(ar_step=1)),
    ("blocks", dict(sink_frames=1)),
]


@pytest.mark.parametrize(("name", "options"), STRATEGIES, ids=[name for name, _ in STRATEGIES])
@pytest.mark.parametrize("causal", [False, True])
def test_resume_is_exact(models, causal, name, options):
    def rollout():
        return build_rollout(models[causal], Script.of("a red ball", 24, 2.5), make_plan(name, steps=3, **options))

    video, snapshots = recorded(rollout())
    assert video.shape == (1, 3, 60, 16, 16)
    assert any(".session." in name for name in snapshots[-2].tensors) == causal
    for snapshot in snapshots[:-1][:: max(1, len(snapshots) // 3)]:
        assert torch.equal(resumed(rollout(), snapshot), video[:, :, snapshot.frames :])


def test_guidance_and_prompt_reach_the_network(models):
    def video(prompt, guidance):
        script = Script.of(prompt, 24, 1 / 3)
        run = build_rollout(models[False], script, make_plan("sliding", steps=2), guidance=guidance).run()
        return torch.cat([e.video for e in run if isinstance(e, Frames)], 2)

    assert not torch.equal(video("a red ball", 1.0), video("a blue ball", 1.0))
    assert not torch.equal(video("a red ball", 1.0), video("a red ball", 4.0))


def test_unknown_words_are_named(models):
    assert models[False].text_encoder.unknown("a green ball over Paris") == ("green", "Paris")


def test_missing_and_damaged_files_are_named(tmp_path):
    folder = random_wan(tmp_path / "m")
    with pytest.raises(ModelError, match=r"there is no folder .*nothing"):
        load(tmp_path / "nothing")
    with pytest.raises(ModelError, match="is no checkpoint"):
        load(tmp_path)
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="damaged or cut short"):
        load(folder)
    file.write_bytes(whole)
    shutil.rmtree(folder / "vae")
    with pytest.raises(WeightsError, match="lacks vae"):
        load(folder)


def test_a_plan_too_wide_for_the_network_is_refused(models):
    with pytest.raises(PlanError, match="use at most 33"):
        list(build_rollout(models[False], Script.of("a", 24, 2.0), make_plan("sliding", window=37)).run())


def test_a_model_may_share_the_vae_and_text_encoder_of_its_sibling(tmp_path):
    whole, slim = random_wan(tmp_path / "whole"), random_wan(tmp_path / "slim", seed=1)
    alone = load(shutil.copytree(slim, tmp_path / "alone"))
    for part in ("vae", "text_encoder", "tokenizer"):
        shutil.rmtree(slim / part)
    with pytest.raises(WeightsError, match=r"lacks .*vae.*, tokenizer"):
        load(slim)
    about = json.loads((slim / "longtake.json").read_text())
    (slim / "longtake.json").write_text(json.dumps(about | {"shares": "whole"}))
    shared, lender = load(slim), load(whole)
    frames = torch.linspace(-1, 1, 3 * 5 * 16 * 16).view(1, 3, 5, 16, 16)
    assert torch.equal(shared.vae.encode(frames), lender.vae.encode(frames))
    assert torch.equal(shared.text_encoder.encode(["a red ball"]), lender.text_encoder.encode(["a red ball"]))
    assert len({shared.info.digest, lender.info.digest, alone.info.digest}) == 3
    assert part_folder(slim, "vae") == whole / "vae" and part_folder(slim, "transformer") == slim / "transformer"


def test_a_vae_that_divides_latents_by_nothing_is_refused():
    with pytest.raises(ValueError, match="latents_std must be above 0"):
        WanVAEConfig(z_dim=2, latents_mean=(0.0, 0.0), latents_std=(1.0, 0.0))
