"""A checkpoint folder on the engine: any strategy, resumed after any window, with and without stored keys and values."""

import json
import shutil

import pytest
import torch

from longtake.engine import Rollout
from longtake.events import Ended, Frames
from longtake.models import ModelError, load
from longtake.models.wan_layout import part_folder
from longtake.models.weights import WeightsError
from longtake.plan import PlanError
from longtake.plans import plan
from longtake.script import Script
from tests.checkpoints import random_wan


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("wan")
    return {causal: load(random_wan(root / str(causal), causal)) for causal in (False, True)}


STRATEGIES = [
    ("sliding", dict(overlap=5)),
    ("relay", dict(overlap=5)),
    ("async", dict(overlap=5, lag=1)),
    ("endless", dict(lag=1)),
    ("blocks", dict(sinks=1)),
]


@pytest.mark.parametrize(("name", "options"), STRATEGIES, ids=[name for name, _ in STRATEGIES])
@pytest.mark.parametrize("causal", [False, True])
def test_resume_is_exact(models, causal, name, options):
    def rollout():
        return Rollout(models[causal], Script.of("a red ball", 24, 2.5), plan(name, steps=3, **options))

    run, parts, snapshots = rollout(), [], []
    for event in run.run():
        if isinstance(event, Frames):
            parts.append(event.video)
        if isinstance(event, Ended):
            tensors, facts = run.state()
            snapshots.append((event.frames, {key: value.clone() for key, value in tensors.items()}, facts))
    video = torch.cat(parts, 2)
    assert video.shape == (1, 3, 60, 16, 16)
    assert any(name.startswith("session.") for name in snapshots[-2][1]) == causal
    for frames, tensors, facts in snapshots[:-1][:: max(1, len(snapshots) // 3)]:
        again = rollout()
        again.load(tensors, facts)
        rest = torch.cat([e.video for e in again.run() if isinstance(e, Frames)], 2)
        assert torch.equal(rest, video[:, :, frames:])


def test_guidance_and_prompt_reach_the_network(models):
    def video(prompt, guidance):
        script = Script.of(prompt, 24, 1 / 3)
        run = Rollout(models[False], script, plan("sliding", steps=2), guidance=guidance).run()
        return torch.cat([e.video for e in run if isinstance(e, Frames)], 2)

    assert not torch.equal(video("a red ball", 1.0), video("a blue ball", 1.0))
    assert not torch.equal(video("a red ball", 1.0), video("a red ball", 4.0))


def test_unknown_words_are_named(models):
    assert models[False].text.unknown("a green ball over Paris") == ("green", "Paris")


def test_what_is_missing_or_damaged_is_named(tmp_path):
    folder = random_wan(tmp_path / "m")
    with pytest.raises(ModelError, match="built in are"):
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
        list(Rollout(models[False], Script.of("a", 24, 2.0), plan("sliding", window=37)).run())


def test_a_model_may_share_the_codec_and_the_text_encoder_of_the_one_beside_it(tmp_path):
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
    assert torch.equal(shared.codec.encode(frames), lender.codec.encode(frames))
    assert torch.equal(shared.text.encode(["a red ball"]), lender.text.encode(["a red ball"]))
    assert len({shared.digest, lender.digest, alone.digest}) == 3
    assert part_folder(slim, "vae") == whole / "vae" and part_folder(slim, "transformer") == slim / "transformer"
