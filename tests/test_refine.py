"""Two passes per window: small, then large from what the upsampler makes of it; any plan, exact in length, resumed."""

from dataclasses import replace
from io import StringIO

import pytest
import torch
from rich.console import Console

from longtake.cli.preview import Calibration, preview
from longtake.engine import Rollout
from longtake.events import Ended, Frames
from longtake.guide import Guided
from longtake.models import weights
from longtake.models.ltx_checkpoint import find, open_folder
from longtake.models.ltx_presets import LTX
from longtake.models.ltx_upsampler import LTXUpsampler, LTXUpsamplerConfig
from longtake.noise import Keyed, Spot, ramp
from longtake.plan import PlanError, Window
from longtake.plans import plan
from longtake.plans.levels import ladder
from longtake.refine import second, shrunk
from longtake.script import Script
from longtake.settings import Settings, plan_of
from longtake.tape import Tape
from tests.checkpoints import random_ltx
from tests.models.oracles import apart, rand, shuffled
from tests.models.test_ltx_checkpoint import released

FIRST, SECOND = "1,0.8,0.4", (0.7, 0.3)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny checkpoint with its upsampler, run as a distilled one with other levels."""
    folder = released(tmp_path_factory.mktemp("two") / "m")
    net = shuffled(LTXUpsampler(LTXUpsamplerConfig(in_channels=4, mid_channels=32, num_blocks_per_stage=1)))
    weights.save(net, net.config, folder / "latent_upsampler", kind="LTXLatentUpsamplerModel")
    made = open_folder(folder, preset=LTX["ltx-13b-0.9.8-distilled"])
    made.size, made.refine = (32, 32), replace(made.refine, levels=SECOND)
    return made


def test_the_upsampler_makes_two_passes_of_a_checkpoint_published_so(model, tmp_path):
    assert find(model.path).upsampler == model.path / "latent_upsampler"
    assert model.tone == 0.6 and model.unit == (16, 16) and model.sampling["levels"].startswith("1,0.9937,")
    assert open_folder(model.path, preset=LTX["ltx-2b-0.9.6-dev"]).refine is None  # published with one pass
    plain = open_folder(random_ltx(tmp_path / "m"))
    assert plain.refine is None and plain.tone == 0 and not plain.note and not model.note
    alone = open_folder(released(tmp_path / "alone"), preset=LTX["ltx-13b-0.9.8-dev"])
    assert "runs in one: put latent_upsampler/" in alone.note


def test_the_preview_counts_both_passes_and_says_where_one_is_missing(model, tmp_path):
    told = Console(file=StringIO(), width=200)
    settings = Settings.resolve(replace(model, note="put it there"), "a red ball", seconds=1)
    preview(settings, replace(model, note="put it there"), Calibration(0.0, 0), told, tmp_path)
    assert "put it there" in told.file.getvalue() and "9 model calls" in told.file.getvalue()


def test_equals_both_passes_written_out(model, monkeypatch):
    calls, clip = [], Script.of("a red ball", 24, 17 / 24)
    grainy = Rollout._grainy
    monkeypatch.setattr(Rollout, "_grainy", lambda self, made, draw: calls.append(made) or grainy(self, made, draw))
    list(Rollout(model, clip, plan("clip", levels=FIRST), seeds=(3,)).run())
    got = torch.stack([latent for made in calls for latent in made.values()], 2)

    def noise(purpose, size):
        spots = [Spot(purpose, frame, 0, i) for i, frame in enumerate((0, 1, 9))]
        return Keyed((3,))(spots, (4, size, size))

    session = model.session()
    net = (session.session if hasattr(session, "session") else session).net
    text = model.text.encode(["a red ball"])
    with torch.inference_mode():
        x = noise("start", 2)
        for level, after in zip((1.0, 0.8, 0.4), (0.8, 0.4, 0.0)):
            x = x + (after - level) * net(x, torch.tensor(level), text)
        x = 0.3 * model.refine.upsample(x) + 0.7 * noise("lift", 4)
        for level, after in zip(SECOND, (*SECOND[1:], 0.0)):
            x = x + (after - level) * net(x, torch.tensor(level), text)
    assert apart(x, got) < 1e-5


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("relay", dict(overlap=9, window=33)),
        ("looping", dict(tile=40, overlap=16)),
        ("sliding", dict(overlap=9, window=33)),
    ],
)
def test_any_length_and_exact_resume(model, name, options):
    def rollout():
        start = rand(1, 3, 1, 32, 32).tanh()
        return Rollout(model, Script.of("a red ball", 24, 90 / 24), plan(name, levels="1,0.5", **options), start=start)

    run, parts, snapshots = rollout(), [], []
    for event in run.run():
        if isinstance(event, Frames):
            parts.append(event.video)
        if isinstance(event, Ended):
            tensors, facts = run.state()
            snapshots.append((event.frames, {key: value.clone() for key, value in tensors.items()}, facts))
    whole = torch.cat(parts, 2)
    assert whole.shape == (1, 3, 90, 32, 32) and len(snapshots) > 2
    frames, tensors, facts = snapshots[1]
    again = rollout()
    again.load(tensors, facts)
    assert torch.equal(torch.cat([e.video for e in again.run() if isinstance(e, Frames)], 2), whole[:, :, frames:])


@pytest.mark.parametrize(
    ("name", "options"),
    [("looping", dict(tile=40, overlap=16)), ("soft", dict(window=33, overlap=17, strength=0.5))],
)
def test_an_overlap_is_blended_with_what_was_there(model, monkeypatch, name, options):
    """At the full size too: what the upsampler made of the small overlap is only where its second pass begins."""
    made, saved = [], Tape.save

    def save(self, window, x, past, last=False):
        handed = list(saved(self, window, x, past, last))
        if x.shape[-1] == 4:
            made.append((window, x.clone(), {f: row.value.clone() for f, row in self.rows.items()}))
        return iter(handed)

    monkeypatch.setattr(Tape, "save", save)
    list(Rollout(model, Script.of("a red ball", 24, 90 / 24), plan(name, levels="1,0.5", **options)).run())
    (_, _, first), (window, x, second) = made[:2]
    shared = [(i, f) for i, f in enumerate(window.frames) if window.blend[i] < 1]
    assert len(shared) >= 2
    for i, f in shared:
        assert torch.equal(second[f], torch.lerp(first[f], x[:, :, i], float(window.blend[i])))


@pytest.mark.parametrize("asked", [dict(steps=2), dict(steps=2, shift=5.0), dict(steps=2, grid="linear")])
def test_a_ramp_that_is_asked_for_takes_the_place_of_the_levels_of_the_model(model, asked):
    usual = Settings.resolve(model, "a red ball", seconds=1)
    settings = Settings.resolve(model, "a red ball", seconds=1, options=asked)
    wanted = ramp(**{**dict(steps=8, shift=1.0, grid="quadratic"), **asked})
    assert ladder(usual.make_plan())[:-1].tolist() == pytest.approx(list(LTX["ltx-13b-0.9.8-distilled"].second.first))
    assert torch.equal(ladder(settings.make_plan()), wanted)
    assert torch.equal(ladder(plan_of(model, "relay", asked)), wanted)
    with pytest.raises(PlanError, match="--steps says nothing: give one of them"):
        Settings.resolve(model, "a red ball", seconds=1, options=dict(levels="1,0.5", **asked))


def test_without_guidance_both_passes_are_without(model):
    dev = open_folder(model.path, preset=LTX["ltx-13b-0.9.8-dev"])
    dev.size = (32, 32)
    for asked, guided in ((1.0, False), (3.0, True)):
        run = Settings.resolve(dev, "a red ball", seconds=1, guidance=asked).rollout(dev)
        assert [isinstance(each.session, Guided) for each in (run.small, run.take)] == [guided, guided]


def test_what_two_passes_cannot_do_is_said(model):
    for name, options, words in (
        ("endless", dict(lag=1, window=33), "windows that end clean"),
        ("relay", dict(overlap=9, hand="latents", window=33), "use --hand pixels"),
    ):
        with pytest.raises(PlanError, match=words):
            list(Rollout(model, Script.of("a", 24, 4), plan(name, levels="1,0.7,0.3", **options)).run())


def test_levels_of_the_second_pass():
    levels = torch.tensor([[1.0, 0.0, 0.5], [0.6, 0.0, 0.5], [0.0, 0.0, 0.0]], dtype=torch.float64)
    after = second(Window((0, 1, 2), levels), (0.7, 0.3))
    assert after.levels.tolist() == [[0.7, 0.0, 0.5], [0.3, 0.0, 0.3], [0.0, 0.0, 0.0]]


def test_small_pictures_are_means():
    x = rand(1, 3, 2, 4, 6)
    assert torch.allclose(shrunk(x, 2)[0, :, 1, 1, 2], x[0, :, 1, 2:4, 4:6].mean((-1, -2)))
