"""A clip at a time: chained by hand they are one video, without a frame lost or repeated at any seam."""

import pytest
import torch
from PIL import Image

from longtake import generate, generate_video
from longtake.core.errors import InputError, ScriptError
from longtake.models.toy.clock import clock, draw_numbers, read_numbers
from longtake.planning.script_files import first_image
from longtake.pocket import Clip, Facts, render
from longtake.pocket import Scene as PocketScene


def numbers(frames):
    """What the frames (T, H, W, 3) of a clock show."""
    return read_numbers(frames.permute(3, 0, 1, 2)[None].float() / 127.5 - 1)[0].int().tolist()


def face(number):
    """A frame (1, H, W, 3) of a clock."""
    return ((draw_numbers(torch.tensor([[float(number)]]))[0] + 1) * 127.5).byte().permute(1, 2, 3, 0)


@pytest.mark.parametrize(
    ("context", "options", "shared"),
    [
        ("inpaint", dict(strategy="sliding", overlap=9), (9, 9)),
        ("inpaint", dict(strategy="relay", overlap=1), (1, 1)),
        ("concat", dict(strategy="clip-conditioned", overlap=5), (5, 5)),
        ("inpaint", dict(strategy="continuous", ar_step=2), (17, 13)),
    ],
)
def test_clips_behind_one_another_are_one_video(context, options, shared):
    model = clock(4, max_latent_frames=9, conditioning=context)
    clips = [generate_video(face(0)[0], "a", model, **options)]
    for prompt in ("b", "c"):
        clips.append(generate_video(clips[-1], prompt, model, **options))
    assert [len(clip) for clip in clips] == [33, 33 - shared[0], 33 - shared[1]]
    assert numbers(torch.cat(clips)) == [*range(99 - sum(shared))]


def test_a_clip_has_the_requested_length_over_several_windows():
    model = clock(4, max_latent_frames=9)
    clip = generate_video(face(7)[0], "a", model, seconds=100 / 24)
    assert numbers(clip) == [*range(7, 107)]
    assert numbers(generate_video(clip[-3:], "b", model, seconds=0.5)) == [*range(107, 119)]


def test_the_built_in_model_animates_an_image():
    picture = render(Clip((PocketScene(Facts("red", "circle", "bounce", "sea")),), 3), 0, 1).frames[0].permute(1, 2, 0)
    clip = generate_video(
        (255 * picture).byte(), "a red ball bounces over the sea", seconds=5 / 24, steps=1, guidance=1.0
    )
    assert clip.shape == (5, 64, 64, 3) and clip.dtype == torch.uint8
    assert (clip[0].float() - 255 * picture).abs().mean() < 20


def test_a_missing_image_is_refused():
    with pytest.raises(InputError, match="there is no image nowhere"):
        generate_video("nowhere.png", "a", clock())


def test_a_script_may_name_the_first_image(tmp_path):
    Image.fromarray(face(30)[0].numpy()).save(tmp_path / "thirty.png")
    story = tmp_path / "story.toml"
    story.write_text('image = "thirty.png"\n[[scene]]\nprompt = "a"\nseconds = 1\n')
    assert first_image(story) == tmp_path / "thirty.png" and first_image("a prompt") is None
    assert numbers(torch.cat(list(generate(story, "clock")))) == [*range(30, 54)]
    Image.fromarray(face(5)[0].numpy()).save(other := tmp_path / "five.png")
    assert numbers(torch.cat(list(generate(story, "clock", image=other))))[0] == 5, "what is asked for wins"
    goes_on = torch.cat(list(generate(story, "clock", video=face(8))))
    assert numbers(goes_on) == [*range(8, 33)], "a video that goes on has begun already"
    story.write_text('image = 3\n[[scene]]\nprompt = "a"\n')
    with pytest.raises(ScriptError, match="path of an image in quotes"):
        list(generate(story, "clock"))
