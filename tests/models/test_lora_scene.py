"""LoRAs per scene: heard in their scene alone, undone after it, and the same after a resume."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from longtake.engine import Rollout
from longtake.events import Ended, Frames
from longtake.models import load, wan
from longtake.models.base import Cond
from longtake.models.lora_scene import Adapted, adaptable
from longtake.models.wan_lora import SPELLING, SVI_TARGETS
from longtake.models.wan_session import WanSession
from longtake.models.weights import WeightsError
from longtake.plans import plan
from longtake.script import Scene, Script
from tests.checkpoints import random_wan
from tests.models.oracles import rand

STRATEGIES = {
    "sliding": (False, "sliding", dict(overlap=5)),
    "sliding, causal": (True, "sliding", dict(overlap=5)),
    "relay": (False, "relay", dict(overlap=5)),
    "endless": (False, "endless", dict(lag=1)),
    "blocks": (True, "blocks", dict(sinks=1)),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Checkpoints, bidirectional and causal, and two LoRAs."""
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
    """Three scenes of one prompt; the last is a new shot."""
    scenes = [Scene(prompt, 1.0, lora=loras[0]), Scene(prompt, 2.0, lora=loras[1]), Scene(prompt, 0.7, True, loras[2])]
    return Script.of(scenes, 24)


def rollout(model, script_, name="sliding", **options) -> Rollout:
    _, strategy, settings = STRATEGIES[name]
    return Rollout(model, script_, plan(strategy, steps=3, **settings), **options)


def video(run: Rollout) -> torch.Tensor:
    return torch.cat([event.video for event in run.run() if isinstance(event, Frames)], 2)


def changed(a: torch.Tensor, b: torch.Tensor) -> list[bool]:
    """Which frames differ."""
    return (a != b).flatten(0, 1).any(0).flatten(1).any(1).tolist()


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("lora", ["all", "text"])
def test_a_lora_changes_its_scene_alone(folders, name, lora):
    """Prompts are equal throughout, so what is remembered of a text must not outlive a change of LoRAs."""
    model = load(folders[STRATEGIES[name][0]])
    plain = video(rollout(model, script((), (), ()), name))
    with_lora = video(rollout(model, script((), ((folders[lora], 1.0),), ()), name))
    differ = changed(plain, with_lora)
    first = differ.index(True)
    assert 0 < first <= 40 and all(differ[first:72])  # from a window that begins in the second scene, to its end
    if name != "endless":  # whose view slides on by a frame: older frames in it are still being made
        assert first >= 24
    assert not any(differ[72:])
    assert torch.equal(video(rollout(model, script((), (), ()), name)), plain)


@pytest.mark.parametrize("batched", [True, False])
def test_the_negative_prompt_follows_the_lora_too(folders, batched):
    """Equal to a network whose weights had the LoRA from the beginning."""
    loras = ((folders["text"], 0.8),)
    net = wan.load(folders[False] / "transformer")
    with_session = adaptable(replace(load(folders[False]), session=lambda: WanSession(net)), net, SPELLING)
    with_session.adapter.use(loras)
    ready = replace(with_session, session=lambda: WanSession(net), adapter=None)
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
    run, parts, snapshots = rollout(model, timeline, name), [], []
    for event in run.run():
        if isinstance(event, Frames):
            parts.append(event.video)
        if isinstance(event, Ended):
            tensors, facts = run.state()
            snapshots.append((event.frames, {key: value.clone() for key, value in tensors.items()}, facts))
    whole = torch.cat(parts, 2)
    told = Script.from_facts(timeline.facts())
    for frames, tensors, facts in snapshots[:-1][:: max(1, len(snapshots) // 4)]:
        for fresh in (load(folder), model):  # which has the LoRAs of the last scene, or of the last resume
            again = rollout(fresh, told, name)
            again.load(tensors, facts)
            assert torch.equal(video(again), whole[:, :, frames:])


@pytest.mark.parametrize("name", ["sliding", "sliding, causal"])
def test_rollouts_may_take_turns(folders, name):
    """The one with LoRAs writes its memory of a window, if it has any, after the other has begun."""
    model = load(folders[STRATEGIES[name][0]])
    loras = ((folders["all"], 1.0),)
    timelines = [script((), (), ()), script(loras, loras, loras)]
    alone = [video(rollout(model, timeline, name)) for timeline in timelines]
    runs, parts = [rollout(model, timeline, name).run() for timeline in timelines], [[], []]
    events = [next(run, None) for run in runs]
    while any(event is not None for event in events):
        assert not torch.is_inference_mode_enabled()  # which would leave weights that cannot be trained
        for i, event in enumerate(events):
            if isinstance(event, Frames):
                parts[i].append(event.video)
            events[i] = next(runs[i], None)
    assert torch.equal(torch.cat(parts[0], 2), alone[0]) and torch.equal(torch.cat(parts[1], 2), alone[1])
    assert not torch.equal(*alone)


def test_strength_counts_and_nothing_is_nothing(folders):
    model = load(folders[False])
    none, half, whole = (
        video(rollout(model, script(*[((folders["all"], strength),)] * 3))) for strength in (0.0, 0.5, 1.0)
    )
    assert torch.equal(none, video(rollout(model, script((), (), ()))))
    assert not torch.equal(half, whole) and not torch.equal(half, none)


def test_what_cannot_be_used_is_refused_before_anything_is_made(folders, tmp_path):
    timeline = script((), (), ((folders["all"], 1.0),))
    with pytest.raises(
        ValueError, match=r"clock takes no LoRA, but a scene asks for .*all.safetensors: leave `lora` out"
    ):
        Rollout(load("clock"), timeline, plan("sliding"))
    model = load(folders[False])
    with pytest.raises(WeightsError, match="no weights at"):
        rollout(model, script((), (), ((str(tmp_path / "gone.safetensors"), 1.0),)))
    save_file({"blocks.9.attn1.to_q.lora_A.weight": rand(2, 24)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"0 of 1 modules are in WanTransformer; 1 left over: blocks.9"):
        rollout(model, script((), (), ((str(tmp_path / "other.safetensors"), 1.0),)))


def test_what_a_session_puts_off_is_done_with_the_loras_of_its_time():
    """A causal session remembers a finished window when the next begins, which may have other LoRAs."""
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
    session = Adapted(Lazy(), adapter)
    for loras in ((("a", 1.0),), (("b", 1.0),), (("b", 1.0),), ()):
        session.begin(None, None, Cond((), (), loras=loras))
        assert used[-1] == loras
        session.finish(None, None)
    session.state()
    assert paid == [(("a", 1.0),), (("b", 1.0),), (("b", 1.0),), ()]
