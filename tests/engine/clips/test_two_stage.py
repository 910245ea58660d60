"""Two-stage generation: low resolution, then full size from upsampled latents; any strategy, any length, exact resume."""

from dataclasses import replace
from io import StringIO

import pytest
import torch
from rich.console import Console

from longtake.cli.dry_run import Calibration, preview
from longtake.core.errors import PlanError
from longtake.core.noise import CounterNoise, NoiseKey
from longtake.core.sigmas import sigma_schedule, sigmas_of
from longtake.engine.build import build_rollout
from longtake.engine.clips.clip import Clip
from longtake.engine.clips.latent_buffer import LatentBuffer
from longtake.engine.clips.resolution import downscaled
from longtake.engine.guidance import Guided
from longtake.engine.inputs import RolloutInputs
from longtake.models.checkpoints import loading as weights
from longtake.models.ltx.checkpoint import open_folder
from longtake.models.ltx.latent_upsampler import LTXUpsampler, LTXUpsamplerConfig
from longtake.models.ltx.layout.files import find
from longtake.models.ltx.presets import LTX
from longtake.models.model import with_size
from longtake.pipelines.settings.resolve import plan_for
from longtake.pipelines.settings.run_settings import RunSettings
from longtake.planning.script import Script
from longtake.planning.strategies.registry import make_plan
from tests.checkpoints import random_ltx
from tests.models.ltx.test_checkpoint import released
from tests.oracles import apart, rand, shuffled
from tests.rollouts import recorded, resumed

FIRST, SECOND = "1,0.8,0.4", (0.7, 0.3)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny checkpoint with its upsampler, run as a distilled one with other levels."""
    folder = released(tmp_path_factory.mktemp("two") / "m")
    net = shuffled(LTXUpsampler(LTXUpsamplerConfig(in_channels=4, mid_channels=32, num_blocks_per_stage=1)))
    weights.save(net, net.config, folder / "latent_upsampler", kind="LTXLatentUpsamplerModel")
    made = open_folder(folder, preset=LTX["ltx-13b-0.9.8-distilled"])
    return with_size(replace(made, second_stage=replace(made.second_stage, sigmas=SECOND)), (32, 32))


def test_a_checkpoint_with_an_upsampler_has_a_second_stage(model, tmp_path):
    assert find(model.info.path).upsampler == model.info.path / "latent_upsampler"
    assert (
        model.decoding.tone_map_compression == 0.6
        and model.format.size_multiple == (16, 16)
        and model.defaults.sampling_options["sigmas"].startswith("1,0.9937,")
    )
    assert open_folder(model.info.path, preset=LTX["ltx-2b-0.9.6-dev"]).second_stage is None  # published with one pass
    plain = open_folder(random_ltx(tmp_path / "m"))
    assert (
        plain.second_stage is None
        and plain.decoding.tone_map_compression == 0
        and not plain.info.note
        and not model.info.note
    )
    alone = open_folder(released(tmp_path / "alone"), preset=LTX["ltx-13b-0.9.8-dev"])
    assert "runs in one: put latent_upsampler/" in alone.info.note


def test_the_preview_counts_both_stages_and_names_a_missing_upsampler(model, tmp_path):
    console = Console(file=StringIO(), width=200)
    model = replace(model, info=replace(model.info, note="put it there"))
    settings = RunSettings.of(model, "a red ball", seconds=1)
    preview(
        settings,
        model,
        settings.new_rollout(model).timeline.planner,
        Calibration(0.0, 0),
        console,
        tmp_path,
        drawn=True,
    )
    assert "put it there" in console.file.getvalue() and "9 model calls" in console.file.getvalue()


def test_two_stages_equal_the_formulas_written_out(model, monkeypatch):
    calls, clip = [], Script.of("a red ball", 24, 17 / 24)
    prepare = Clip.for_decoder
    monkeypatch.setattr(
        Clip, "for_decoder", lambda self, final, window: calls.append(final) or prepare(self, final, window)
    )
    list(build_rollout(model, clip, make_plan("clip", sigmas=FIRST), seeds=(3,)).run())
    got = torch.stack([latent for made in calls for latent in made.values()], 2)

    def noise(purpose, size):
        keys = [NoiseKey(purpose, frame, 0, i) for i, frame in enumerate((0, 1, 9))]
        return CounterNoise((3,))(keys, (4, size, size))

    session = model.session()
    net = (session.session if hasattr(session, "session") else session).net
    text = model.text_encoder.encode(["a red ball"])
    with torch.inference_mode():
        x = noise("start", 2)
        for sigma, after in zip((1.0, 0.8, 0.4), (0.8, 0.4, 0.0)):
            x = x + (after - sigma) * net(x, torch.tensor(sigma), text)
        x = 0.3 * model.second_stage.upsample(x) + 0.7 * noise("lift", 4)
        for sigma, after in zip(SECOND, (*SECOND[1:], 0.0)):
            x = x + (after - sigma) * net(x, torch.tensor(sigma), text)
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
        return build_rollout(
            model,
            Script.of("a red ball", 24, 90 / 24),
            make_plan(name, sigmas="1,0.5", **options),
            inputs=RolloutInputs(start=start),
        )

    whole, snapshots = recorded(rollout())
    assert whole.shape == (1, 3, 90, 32, 32) and len(snapshots) > 2
    assert torch.equal(resumed(rollout(), snapshots[1]), whole[:, :, snapshots[1].frames :])


@pytest.mark.parametrize(
    ("name", "options"),
    [("looping", dict(tile=40, overlap=16)), ("soft", dict(window=33, overlap=17, strength=0.5))],
)
def test_an_overlap_is_blended_with_its_old_version_at_full_size(model, monkeypatch, name, options):
    """The upsampled overlap is only the start of the second stage, not a version that is blended."""
    made, stored = [], LatentBuffer.store

    def store(self, window, x, *rest):
        final = stored(self, window, x, *rest)
        if x.shape[-1] == 4:
            made.append((window, x.clone(), {f: frame.value.clone() for f, frame in self.frames.items()}))
        return final

    monkeypatch.setattr(LatentBuffer, "store", store)
    list(build_rollout(model, Script.of("a red ball", 24, 90 / 24), make_plan(name, sigmas="1,0.5", **options)).run())
    (_, _, first), (window, x, second) = made[:2]
    shared = [(i, f) for i, f in enumerate(window.frames) if window.blend[i] < 1]
    assert len(shared) >= 2
    for i, f in shared:
        assert torch.equal(second[f], torch.lerp(first[f], x[:, :, i], float(window.blend[i])))


@pytest.mark.parametrize("asked", [dict(steps=2), dict(steps=2, shift=5.0), dict(steps=2, sigma_spacing="linear")])
def test_a_requested_schedule_replaces_the_sigmas_of_the_model(model, asked):
    usual = RunSettings.of(model, "a red ball", seconds=1)
    settings = RunSettings.of(model, "a red ball", seconds=1, **asked)
    wanted = sigma_schedule(**{**dict(steps=8, shift=1.0, sigma_spacing="quadratic"), **asked})
    assert sigmas_of(usual.make_plan().schedule)[:-1].tolist() == pytest.approx(
        list(LTX["ltx-13b-0.9.8-distilled"].second.first)
    )
    assert torch.equal(sigmas_of(settings.make_plan().schedule), wanted)
    assert torch.equal(sigmas_of(plan_for(model, "relay", asked).schedule), wanted)
    with pytest.raises(PlanError, match="--steps has no effect: give one of them"):
        RunSettings.of(model, "a red ball", seconds=1, sigmas="1,0.5", **asked)


def test_guidance_scale_1_turns_guidance_off_in_both_stages(model):
    dev = with_size(open_folder(model.info.path, preset=LTX["ltx-13b-0.9.8-dev"]), (32, 32))
    for asked, guided in ((1.0, False), (3.0, True)):
        run = RunSettings.of(dev, "a red ball", seconds=1, guidance=asked).new_rollout(dev)
        assert [isinstance(each.session, Guided) for each in run.clip.stages] == [guided, guided]


def test_errors_name_what_two_stages_cannot_do(model):
    for name, options, words in (
        ("continuous", dict(ar_step=1, window=33), "windows that end clean"),
        ("relay", dict(overlap=9, handoff="latents", window=33), "use --handoff pixels"),
    ):
        with pytest.raises(PlanError, match=words):
            list(build_rollout(model, Script.of("a", 24, 4), make_plan(name, sigmas="1,0.7,0.3", **options)).run())


def test_downscaled_pixels_are_means():
    x = rand(1, 3, 2, 4, 6)
    assert torch.allclose(downscaled(x, 2)[0, :, 1, 1, 2], x[0, :, 1, 2:4, 4:6].mean((-1, -2)))
