"""LoRAs per scene change the frames of their scene alone, are removed after it, and are the same after a resume."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from longtake.engine.build import build_rollout
from longtake.engine.events import Frames
from longtake.engine.rollout import Rollout
from longtake.models import load
from longtake.models.checkpoints.loading import WeightsError
from longtake.models.interfaces import Conditioning
from longtake.models.lora.per_scene import LoraSession, LoraSet
from longtake.models.model import NetworkFeatures
from longtake.models.wan import transformer as wan
from longtake.models.wan.layout.lora_names import KEY_FORMAT, SVI_TARGETS
from longtake.models.wan.session import WanSession
from longtake.planning.script import Scene, Script
from longtake.planning.strategies.registry import make_plan
from tests.checkpoints import random_wan
from tests.oracles import rand
from tests.rollouts import recorded, resumed

STRATEGIES = {
    "sliding": (False, "sliding", dict(overlap=5)),
    "sliding, causal": (True, "sliding", dict(overlap=5)),
    "relay": (False, "relay", dict(overlap=5)),
    "continuous": (False, "continuous", dict(ar_step=1)),
    "blocks": (True, "blocks", dict(sink_frames=1)),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Write a bidirectional and a causal checkpoint and two LoRAs; return their paths."""
    root = tmp_path_factory.mktemp("lora")
    made = {causal: random_wan(root / str(causal), causal) for causal in (False, True)}
    net = wan.load(made[False] / "transformer")
    for number, (name, targets) in enumerate({"all": SVI_TARGETS, "text": ("attn2.to_k", "attn2.to_v")}.items()):
        low = {}
        for module, layer in net.named_modules():
            if module.endswith(targets):
                out, inner = layer.weight.shape
                low[f"{module}.lora_A.weight"] = rand(2, inner, seed=number)
                low[f"{module}.lora_B.weight"] = rand(out, 2, seed=number + 7) / 3
        save_file(low, root / f"{name}.safetensors")
    return made | {name: str(root / f"{name}.safetensors") for name in ("all", "text")}


def script(*loras, prompt="a red ball") -> Script:
    """Return three scenes with one prompt and these LoRAs; the last is a new shot."""
    scenes = [Scene(prompt, 1.0, lora=loras[0]), Scene(prompt, 2.0, lora=loras[1]), Scene(prompt, 0.7, True, loras[2])]
    return Script.of(scenes, 24)


def rollout(model, script_, name="sliding", **options) -> Rollout:
    _, strategy, settings = STRATEGIES[name]
    return build_rollout(model, script_, make_plan(strategy, steps=3, **settings), **options)


def video(run: Rollout) -> torch.Tensor:
    return torch.cat([event.video for event in run.run() if isinstance(event, Frames)], 2)


def changed(a: torch.Tensor, b: torch.Tensor) -> list[bool]:
    """Return for each frame whether it differs."""
    return (a != b).flatten(0, 1).any(0).flatten(1).any(1).tolist()


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_lora_changes_only_the_frames_of_its_scene(folders, name):
    """The prompt is the same throughout, so its cached keys and values must not outlive a change of LoRAs."""
    model = load(folders[STRATEGIES[name][0]])
    plain = video(rollout(model, script((), (), ()), name))
    for lora in ("all", "text"):
        with_lora = video(rollout(model, script((), ((folders[lora], 1.0),), ()), name))
        differ = changed(plain, with_lora)
        first = differ.index(True)  # of a window that starts in the second scene; the change lasts to the scene's end
        assert 0 < first <= 40 and all(differ[first:72])
        if name != "continuous":  # its window moves by one frame, so older frames in it are still being denoised
            assert first >= 24
        assert not any(differ[72:])
        assert torch.equal(video(rollout(model, script((), (), ()), name)), plain)


@pytest.mark.parametrize("batched", [True, False])
def test_the_negative_prompt_follows_the_lora_too(folders, batched):
    """The video equals that of a network whose weights had the LoRA from the start."""
    loras = ((folders["text"], 0.8),)
    net = wan.load(folders[False] / "transformer")
    LoraSet(net, KEY_FORMAT).use(loras)
    ready = replace(load(folders[False]), session=lambda: WanSession(net), features=NetworkFeatures())
    want = video(rollout(ready, script((), (), ()), guidance=3.0, batched=batched))
    model = load(folders[False])
    have = video(rollout(model, script(loras, loras, loras), guidance=3.0, batched=batched))
    assert torch.equal(have, want)
    mixed = video(rollout(model, script((), loras, loras), guidance=3.0, batched=batched))
    assert torch.equal(mixed[:, :, 72:], want[:, :, 72:]) and not torch.equal(mixed[:, :, :24], want[:, :, :24])


@pytest.mark.parametrize("name", STRATEGIES)
def test_resume_is_exact(folders, name):
    folder = folders[STRATEGIES[name][0]]
    timeline = script(((folders["text"], 0.5),), ((folders["all"], 1.0), (folders["text"], -0.3)), ())
    model = load(folder)
    whole, snapshots = recorded(rollout(model, timeline, name))
    restored = Script.from_facts(timeline.facts())
    for snapshot in snapshots[:-1][:: max(1, len(snapshots) // 4)]:
        for fresh in (load(folder), model):  # the second has the LoRAs of the last scene or resume merged
            rest = resumed(rollout(fresh, restored, name), snapshot)
            assert torch.equal(rest, whole[:, :, snapshot.frames :])


@pytest.mark.parametrize("name", ["sliding", "sliding, causal"])
def test_two_rollouts_can_share_a_model_with_different_loras(folders, name):
    """A causal session writes its keys and values of a window after the other rollout has begun."""
    model = load(folders[STRATEGIES[name][0]])
    loras = ((folders["all"], 1.0),)
    timelines = [script((), (), ()), script(loras, loras, loras)]
    alone = [video(rollout(model, timeline, name)) for timeline in timelines]
    runs, parts = [rollout(model, timeline, name).run() for timeline in timelines], [[], []]
    events = [next(run, None) for run in runs]
    while any(event is not None for event in events):
        assert not torch.is_inference_mode_enabled()  # it would leave weights that cannot be trained
        for i, event in enumerate(events):
            if isinstance(event, Frames):
                parts[i].append(event.video)
            events[i] = next(runs[i], None)
    assert torch.equal(torch.cat(parts[0], 2), alone[0]) and torch.equal(torch.cat(parts[1], 2), alone[1])
    assert not torch.equal(*alone)


def test_strength_scales_the_change_and_0_changes_nothing(folders):
    model = load(folders[False])
    none, half, whole = (
        video(rollout(model, script(*[((folders["all"], strength),)] * 3))) for strength in (0.0, 0.5, 1.0)
    )
    assert torch.equal(none, video(rollout(model, script((), (), ()))))
    assert not torch.equal(half, whole) and not torch.equal(half, none)


def test_an_unusable_lora_is_refused_before_generation(folders, tmp_path):
    timeline = script((), (), ((folders["all"], 1.0),))
    with pytest.raises(ValueError, match=r"clock supports no LoRA, but a scene names .*all.safetensors: remove `lora`"):
        build_rollout(load("clock"), timeline, make_plan("sliding"))
    model = load(folders[False])
    with pytest.raises(WeightsError, match="no weights at"):
        rollout(model, script((), (), ((str(tmp_path / "gone.safetensors"), 1.0),)))
    save_file({"blocks.9.attn1.to_q.lora_A.weight": rand(2, 24)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"0 of 1 modules are in WanTransformer; 1 left over: blocks.9"):
        rollout(model, script((), (), ((str(tmp_path / "other.safetensors"), 1.0),)))


def test_deferred_keys_and_values_use_the_loras_of_their_window():
    """A causal session computes those of a finished window when the next begins, which may have other LoRAs."""
    used, paid = [], []

    class Lazy:
        owes = False

        def begin(self, window, past, cond):
            self.state()

        def finish(self, window, x):
            self.owes = True

        def state(self):
            paid.extend([used[-1]] if self.owes else [])
            self.owes = False
            return {}

    adapter = SimpleNamespace(use=lambda loras: used.append(loras))
    session = LoraSession(Lazy(), adapter)
    for loras in ((("a", 1.0),), (("b", 1.0),), (("b", 1.0),), ()):
        session.begin(None, None, Conditioning((), (), loras=loras))
        assert used[-1] == loras
        session.finish(None, None)
    session.state()
    assert paid == [(("a", 1.0),), (("b", 1.0),), (("b", 1.0),), ()]
