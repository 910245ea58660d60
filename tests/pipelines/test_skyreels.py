"""SkyReels-V2 called by the names of its own command line."""

import json

import pytest
import torch

from longtake import SkyReelsV2Pipeline
from longtake.core.sigmas import sigma_schedule
from longtake.models import load
from longtake.models.wan.presets import PRESETS
from longtake.pipelines.call import loading
from tests.checkpoints import random_wan


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return SkyReelsV2Pipeline.from_pretrained(random_wan(tmp_path_factory.mktemp("tiny") / "m"))


SHORT = dict(base_num_frames=33, overlap_history=5, steps=2, seed=4)


@pytest.mark.long
def test_the_requested_call_runs_as_written(tmp_path, monkeypatch):
    """250 frames of 544 x 960 in blocks of 4, from a checkpoint whose vae and patches are coarse enough for a test."""
    coarse = dict(base_dim=2, dim_mult=(1, 1, 1), patch_size=8, in_channels=192, out_channels=192)
    folder = random_wan(
        tmp_path / "m", max_latent_frames=25, net=dict(patch_size=(1, 17, 30), num_layers=1), vae=coarse
    )
    asked = []
    monkeypatch.setattr(loading, "load", lambda name, **options: asked.append(name) or load(folder))
    pipe = SkyReelsV2Pipeline.from_pretrained("SkyworkAI/SkyReels-V2-540p")
    frames = 0
    for part in pipe.stream(
        "a red ball", num_frames=250, base_num_frames=97, overlap_history=17, addnoise_condition=20, ar_step=5,
        causal_block_size=4, fps=24, height=544, width=960, steps=30,
    ):  # fmt: skip
        assert part.dtype == torch.uint8 and part.shape[1:] == (544, 960, 3)
        frames += len(part)
    assert frames == 250
    assert PRESETS[asked[0]].size == (544, 960) and PRESETS[asked[0]].frames == 97


def test_all_at_once_is_what_is_streamed(tiny):
    out = tiny("a red ball", num_frames=70, **SHORT).frames[0].uint8()
    assert out.shape == (70, 16, 16, 3)
    assert torch.equal(out, torch.cat(list(tiny.stream("a red ball", num_frames=70, **SHORT))))


def test_noise_of_carried_frames_follows_the_seed(tiny):
    """In the authors' code it is drawn from the global generator, so a seed does not decide the video."""
    one = tiny("a red ball", num_frames=50, addnoise_condition=20, **SHORT).frames[0].uint8()
    torch.manual_seed(999)
    assert torch.equal(one, tiny("a red ball", num_frames=50, addnoise_condition=20, **SHORT).frames[0].uint8())
    assert not torch.equal(one, tiny("a red ball", num_frames=50, addnoise_condition=0, **SHORT).frames[0].uint8())
    assert not torch.equal(
        one, tiny("a red ball", num_frames=50, addnoise_condition=20, **{**SHORT, "seed": 5}).frames[0].uint8()
    )


@pytest.mark.parametrize("options", [dict(), dict(ar_step=1), dict(ar_step=1, causal_block_size=4)])
@pytest.mark.parametrize("frames", [29, 50, 77, 121])
def test_any_length_comes_out_exactly(tiny, options, frames):
    """121 frames in blocks of 4, a short last window, 377-like remainders: never noise, never another count."""
    assert len(tiny("a red ball", num_frames=frames, **options, **SHORT).frames[0].uint8()) == frames


@pytest.mark.parametrize("options", [dict(), dict(ar_step=1), dict(ar_step=1, causal_block_size=4)])
def test_an_image_is_the_first_frame_in_every_mode(tiny, options):
    """The image's latent is the first frame of the latent buffer, clean and untouched, also under a staircase of blocks."""
    image = torch.randint(0, 256, (16, 16, 3), dtype=torch.uint8)
    vae = tiny.model.vae
    latent = vae.encode(image.permute(2, 0, 1)[None, :, None].float() / 127.5 - 1)
    shown = vae.decoder().push(latent)
    expected = ((shown.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)[0, :, 0].permute(1, 2, 0)
    frames = tiny("a red ball", num_frames=60, image=image, **options, **SHORT).frames[0].uint8()
    assert len(frames) == 60
    assert torch.equal(frames[0], expected)


@pytest.mark.parametrize("options", [dict(), dict(ar_step=1), dict(ar_step=1, causal_block_size=4)])
@pytest.mark.parametrize("frames", [25, 60])
def test_a_last_image_changes_the_end_and_adds_no_frame(tiny, options, frames):
    plain = tiny("a red ball", num_frames=frames, **options, **SHORT).frames[0].uint8()
    image = torch.full((16, 16, 3), 255, dtype=torch.uint8)
    ended = tiny("a red ball", num_frames=frames, last_image=image, **options, **SHORT).frames[0].uint8()
    assert len(ended) == frames
    assert not torch.equal(ended[-4:], plain[-4:])
    if frames == 60:
        assert torch.equal(ended[:29], plain[:29]), "only the last window sees the end"


@pytest.mark.parametrize("size", [(16, 16), (24, 16), (16, 24)])
@pytest.mark.parametrize("ar_step", [0, 1])
def test_an_extension_gives_new_frames_only(tiny, size, ar_step):
    """Portrait and landscape; the overlap is not shown twice."""
    before = torch.randint(0, 256, (40, *size, 3), dtype=torch.uint8)
    made = (
        tiny("a red ball", num_frames=37, video=before, height=size[0], width=size[1], ar_step=ar_step, **SHORT)
        .frames[0]
        .uint8()
    )
    assert made.shape == (37, *size, 3)
    other = before.clone()
    other[-1] = 0
    again = (
        tiny("a red ball", num_frames=37, video=other, height=size[0], width=size[1], ar_step=ar_step, **SHORT)
        .frames[0]
        .uint8()
    )
    assert not torch.equal(made, again), "the new frames follow the old ones"


def test_prompts_share_the_length(tiny):
    both = tiny(scenes=["a red ball", "a blue ball"], num_frames=60, **SHORT).frames[0].uint8()
    red = tiny("a red ball", num_frames=60, **SHORT).frames[0].uint8()
    assert torch.equal(both[:33], red[:33])
    assert not torch.equal(both[40:], red[40:])


def test_every_prompt_is_encoded_once(tiny, monkeypatch):
    """For all windows and calls of its scene, and the negative one for the whole video."""
    asked, encode = [], tiny.model.text_encoder.encode
    monkeypatch.setattr(tiny.model.text_encoder, "encode", lambda prompts: asked.extend(prompts) or encode(prompts))
    tiny(scenes=["a red ball", "a blue ball"], num_frames=121, guidance=2.0, **SHORT)
    assert sorted(asked) == ["", "a blue ball", "a red ball"]


def test_overlap_modes_differ_only_behind_the_first_window(tiny):
    pixels = tiny("a red ball", num_frames=60, **SHORT).frames[0].uint8()
    for other in (dict(overlap_mode="latents"), dict(overlap_blend=True)):
        frames = tiny("a red ball", num_frames=60, **other, **SHORT).frames[0].uint8()
        assert torch.equal(frames[:28], pixels[:28])
        assert not torch.equal(frames[28:], pixels[28:])


@pytest.mark.parametrize(("grid", "steps"), [("diffusers", 126), ("skyreels", 144)])
def test_many_steps(tiny, grid, steps):
    """From here on the first two timesteps are equal as whole numbers, and the public code ends in an assertion."""
    whole = (1000 * sigma_schedule(steps, 8.0, grid)).int()
    assert whole[0] == whole[1]
    options = dict(num_frames=9, sigma_spacing=grid, shift=8.0, solver="unipc", guidance=1.0)
    frames = tiny("a red ball", **options, **{**SHORT, "steps": steps}).frames[0].uint8()
    assert len(frames) == 9 and frames.float().std() > 0


def test_missing_options_are_those_of_the_checkpoint(tmp_path):
    """As in the public examples, an overlap may be None: it is that of the checkpoint, for image to video a frame."""
    about = dict(kind="i2v", strategy_options=dict(overlap=1, handoff="pixels"))
    for name, extra, overlap in (("df", {}, 17), ("i2v", about, 1)):
        pipe = SkyReelsV2Pipeline(open_with(tmp_path / name, **extra))
        image = torch.randint(0, 256, (16, 16, 3), dtype=torch.uint8)
        options = dict(num_frames=60, base_num_frames=33, steps=1, guidance=1.0, image=image)
        frames = pipe("a red ball", overlap_history=None, **options).frames[0].uint8()
        assert torch.equal(frames, pipe("a red ball", overlap_history=overlap, **options).frames[0].uint8())
        assert not torch.equal(frames, pipe("a red ball", overlap_history=5, **options).frames[0].uint8())
        assert len(frames) == 60


def open_with(folder, **about):
    """A random checkpoint of this kind, loaded."""
    channels = dict(in_channels=12) if about else {}
    random_wan(folder, net=channels)
    path = folder / "longtake.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | about))
    return load(folder)


def test_unusable_options_are_refused(tiny):
    for options, message in (
        (dict(overlap_history=6), "use 5 or 9"),
        (dict(base_num_frames=41), "use at most 33"),
        (dict(height=18), "use size 16x16"),
        (dict(video=torch.zeros(2, 16, 16, 3, dtype=torch.uint8)), "must lie between 1 and the 2 frames of the video"),
        (dict(image="nowhere.png"), "there is no image nowhere.png"),
        (dict(fps=0), "fps must be a positive number"),
        (dict(height=0), "use size 16x8"),
        (dict(base_num_frames=0), "window 0 does not fill whole latent frames of 4: use 1"),
        (dict(solver="heun"), "solver must be one of"),
    ):
        with pytest.raises(ValueError) as error:
            tiny("a red ball", **{**SHORT, "num_frames": 60, **options})
        assert message in str(error.value)
