"""One test for each thing that is broken in the public SkyReels-V2 code (its own, or diffusers'), and right here.

Others are where the part is tested: an image in every mode, end frames, extensions, lengths, seeds and many steps in
test_pipelines.py; strict loading and names in models/test_weights.py; caching in models/test_cache.py.
"""

import json
from itertools import pairwise

import pytest
import torch

from longtake import SkyReelsV2Pipeline
from longtake.core.errors import PlanError
from longtake.engine.build import build_rollout
from longtake.engine.events import Frames
from longtake.models import load
from longtake.models.runtime.step_cache import caching_sessions
from longtake.planning.limits import Limits
from longtake.planning.script import Script
from longtake.planning.strategies.registry import make_plan
from tests.checkpoints import random_wan
from tests.released import diffusers, parts

SHORT = dict(base_num_frames=33, overlap_history=5, steps=2, seed=4)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return SkyReelsV2Pipeline.from_pretrained(random_wan(tmp_path_factory.mktemp("tiny") / "m"))


@pytest.mark.parametrize(("frames", "view", "block"), [(121, 31, 5), (97, 25, 4), (257, 25, 5), (730, 31, 5)])
def test_no_latent_is_left_as_noise_where_blocks_do_not_divide_a_window(frames, view, block):
    """Both leave latents beyond the last whole block as they began: the published 720P command loses one per window."""
    made: dict[int, float] = {}
    for window in make_plan("async", steps=30, ar_step=5, causal_block_size=block, overlap=17).windows(
        frames, 4, Limits(max_latent_frames=view)
    ):
        made |= dict(zip(window.frames, window.sigmas[-1].tolist()))
    assert sorted(made) == list(range(len(made))) and len(made) >= 1 + (frames - 1) // 4
    assert set(made.values()) == {0.0}


def test_an_overlap_that_is_no_multiple_of_the_block_is_known_whole():
    """Both shorten the prefix to whole blocks and cut where it ended, so that frames are made twice and thrown away."""
    windows = list(
        make_plan("async", steps=30, ar_step=5, causal_block_size=4, overlap=17).windows(
            257, 4, Limits(max_latent_frames=25)
        )
    )
    for before, window in pairwise(windows):
        known = [frame for frame, role in zip(window.frames, window.role) if role == "context"]
        assert known == list(before.frames[-5:])
        assert window.frames[5] == before.frames[-1] + 1


@pytest.mark.parametrize("frames", [101, 105, 181])
def test_a_last_window_with_less_than_a_block_to_make(frames):
    """The authors' code has no rows to stack."""
    windows = list(
        make_plan("async", steps=30, ar_step=5, causal_block_size=5, overlap=17).windows(
            frames, 4, Limits(max_latent_frames=25)
        )
    )
    assert windows[-1].frames[-1] >= (frames - 1) // 4 and (windows[-1].sigmas[-1] == 0).all()


def test_a_long_video_from_an_image_with_a_short_last_window(tmp_path):
    """377 frames in windows of 97: the last is of 15 latents, where diffusers looks for 25."""
    pipe = SkyReelsV2Pipeline(load(random_wan(tmp_path / "m", max_latent_frames=25)))
    image = torch.randint(0, 256, (16, 16, 3), dtype=torch.uint8)
    options = dict(num_frames=377, base_num_frames=97, overlap_history=17, steps=1, guidance=1.0)
    assert len(pipe("a red ball", image=image, **options).frames[0].uint8()) == 377


def test_a_batch_is_its_videos(tmp_path):
    """With a frame rate diffusers adds the embeddings of a batch to the wrong rows, and fails."""
    model = load(random_wan(tmp_path / "m", net=dict(inject_sample_info=True)))

    def video(*seeds):
        run = build_rollout(
            model, Script.of("a red ball", 24, 40 / 24), make_plan("async", steps=2, ar_step=1, overlap=5), seeds=seeds
        )
        return torch.cat([event.video for event in run.run() if isinstance(event, Frames)], 2)

    assert torch.allclose(video(3, 4, 5), torch.cat([video(3), video(4), video(5)]), atol=1e-5)


def test_latents_stay_wide_between_steps(tmp_path):
    """The authors' code keeps them in bfloat16, which is 1 % off after 30 steps."""
    model = load(random_wan(tmp_path / "m"), dtype="bf16")
    assert caching_sessions(model.session())[0].net.proj_out.weight.dtype == torch.bfloat16
    run = build_rollout(
        model, Script.of("a red ball", 24, 40 / 24), make_plan("sliding", steps=2, overlap=5), solver="unipc"
    )
    assert all(event.video.dtype == torch.float32 for event in run.run() if isinstance(event, Frames))
    assert {frame.value.dtype for frame in run.clip.latents.frames.values()} == {torch.float32}


def test_a_schedule_in_blocks_leaves_attention_as_it_is(tiny):
    """In diffusers the size of a block turns a mask on for the next call as well."""
    net = caching_sessions(tiny.model.session())[0].net
    before = tiny("a red ball", num_frames=33, **SHORT).frames[0].uint8()
    tiny("a red ball", num_frames=33, causal_block_size=4, ar_step=1, **SHORT)
    assert not net.config.causal and not tiny.model.limits.causal
    assert torch.equal(before, tiny("a red ball", num_frames=33, **SHORT).frames[0].uint8())


def test_a_mask_that_the_weights_were_not_trained_for_is_refused_by_name(tiny):
    with pytest.raises(PlanError, match="this checkpoint has bidirectional attention"):
        tiny("a red ball", num_frames=33, causal_attention=True, **SHORT)


def test_a_mask_is_taken_where_the_weights_were_trained_for_it(tmp_path):
    pipe = SkyReelsV2Pipeline(load(random_wan(tmp_path / "m", causal=True, block=4)))
    options = dict(num_frames=33, causal_block_size=4, ar_step=1, **SHORT)
    frames = pipe("a red ball", causal_attention=True, **options).frames[0].uint8()
    assert torch.equal(frames, pipe("a red ball", **options).frames[0].uint8())


def test_a_shift_of_1_that_a_conversion_wrote_by_accident_is_not_believed(tmp_path):
    """The scheduler's config of converted checkpoints says 1, at which a user of diffusers samples unless told."""
    folder = diffusers(tmp_path / "m", parts("df"))
    (folder / "scheduler").mkdir(exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps({"flow_shift": 1.0}))
    assert load(folder).defaults.sampling_options["shift"] == 8.0
