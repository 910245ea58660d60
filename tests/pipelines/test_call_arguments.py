"""What someone who knows diffusers gives to a pipeline: each is used, or refused in one sentence that says what to do."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image

import longtake

FEW = dict(num_frames=5, steps=1)
TEXTS = ["a red ball", "a blue star at night"]


@pytest.fixture(scope="module")
def pipe():
    return longtake.load("pocket", device="cpu")


@pytest.fixture(scope="module")
def video(pipe):
    return pipe("a red ball", num_frames=9, steps=1)


def pixels(result):
    return [frames.uint8().numpy() for frames in result.frames]


def same(a, b):
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b))


# ---------------------------------------------------------------- what is used
def test_numbers_of_numpy_and_torch_are_numbers(pipe):
    plain = pipe.start("a red ball", seconds=0.25, num_inference_steps=2, guidance_scale=3.0, overlap=5).settings
    numbers = dict(seconds=np.float32(0.25), num_inference_steps=np.int64(2), guidance_scale=torch.tensor(3.0))
    assert pipe.start("a red ball", overlap=np.int32(5), **numbers).settings == plain
    seeds = lambda seed: [one.seed for one in pipe(TEXTS, seed=seed, **FEW)]
    assert seeds(np.int64(4)) == seeds(torch.tensor([4, 5])) == seeds(np.array([4, 5])) == [4, 5]


def test_sigmas_are_a_list_as_in_diffusers(pipe):
    text = pipe.start("a red ball", sigmas="1.0,0.75,0.5", num_frames=5).settings
    for sigmas in ([1.0, 0.75, 0.5], np.array([1, 0.75, 0.5]), torch.tensor([1, 0.75, 0.5])):
        assert pipe.start("a red ball", sigmas=sigmas, num_frames=5).settings == text


def test_every_prompt_of_a_batch_has_its_negative_prompt_image_and_embeddings(pipe):
    images, negatives = [Image.new("RGB", (64, 64), colour) for colour in ("red", "navy")], ["night", "snow"]
    given = dict(guidance_scale=2.0, **FEW)
    each = [
        pixels(pipe(text, negative_prompt=negative, image=image, seed=i, **given))[0]
        for i, (text, negative, image) in enumerate(zip(TEXTS, negatives, images))
    ]
    batch = pixels(pipe(TEXTS, negative_prompt=negatives, image=images, **given))
    assert same(batch, each)
    embeddings = dict(prompt_embeds=pipe.encode_prompt(TEXTS), negative_prompt_embeds=pipe.encode_prompt(negatives))
    assert same(pixels(pipe(image=images, **embeddings, **given)), batch)


def test_frames_of_a_result_and_lists_of_images_are_a_video(pipe, video):
    expected = pixels(pipe("a blue star", video=video.frames[0].uint8(), **FEW))
    images = [Image.fromarray(frame) for frame in pixels(video)[0]]
    for given in (video.frames[0], video[0], images, list(video.frames[0])):
        assert same(pixels(pipe("a blue star", video=given, **FEW)), expected)
    clip = lambda frames: longtake.generate_video(frames, "a blue star", pipe, **FEW)
    assert torch.equal(clip(video.frames[0]), clip(images))


def test_scenes_are_also_dicts(pipe):
    timeline = [("a red ball", 0.125), ("a blue star", 0.125)]
    dicts = [dict(prompt=text, seconds=seconds) for text, seconds in timeline]
    assert pipe.start(longtake.Script.of([longtake.Scene(*one) for one in timeline], 24)).settings.script == (
        pipe.start([longtake.Scene(**one) for one in dicts]).settings.script
    )
    assert len(pipe(scenes=dicts, steps=1).frames[0]) == 6
    assert sum(len(frames) for frames in longtake.generate(timeline, pipe, steps=1)) == 6
    scene = longtake.Scene("a", seconds=np.float32(0.5), lora={"a.safetensors": np.float32(0.5)})
    assert scene == longtake.Scene("a", seconds=0.5, lora={"a.safetensors": 0.5})


def test_a_callback_may_write_into_the_latents(pipe):
    def write(own, step, timestep, given):
        given["latents"][:, :, 0] = 0.0

    plain, written = (pipe("a red ball", callback_on_step_end=call, **FEW).latents[0] for call in (None, write))
    assert not written[:, 0].any() and plain[:, 0].any() and torch.equal(written[:, 1], plain[:, 1])


def test_the_interrupt_of_diffusers_ends_the_call(pipe):
    def stop(own, step, timestep, given):
        own._interrupt = True

    assert pipe("a red ball", num_frames=9, steps=2, callback_on_step_end=stop)[0].interrupted


def test_loras_are_named_listed_and_deleted(tmp_path):
    pipe, file = longtake.load("clock"), tmp_path / "a.safetensors"
    file.touch()
    pipe.load_lora_weights(tmp_path, weight_name="a.safetensors")
    pipe.load_lora_weights(file, adapter_name="b")
    assert pipe.get_active_adapters() == ["a", "b"] and pipe.all_loras(None) == [(str(file), 2.0)]
    pipe.set_adapters(["a", "b"], np.array([0.25, 0.0]))
    assert pipe.get_active_adapters() == ["a"] and pipe.all_loras() == [(str(file), 0.25)]
    pipe.delete_adapters("a")
    pipe.set_adapters("b", np.float32(0.5))
    assert list(pipe.loras) == ["b"] and pipe.all_loras() == [(str(file), 0.5)]


def test_frames_are_computed_with_like_an_array(pipe, video):
    frames, array = video.frames[0], np.asarray(video.frames[0])
    assert np.array_equal((frames * 255).round().astype(np.uint8), pixels(video)[0])
    assert np.array_equal(frames[0, :4], array[0, :4]) and np.array_equal(frames[[0, 2]], array[[0, 2]])
    assert np.array_equal(frames - 0.5, array - 0.5) and np.array_equal(2 * frames + 1, 2 * array + 1)
    assert frames.astype(np.float64).dtype == np.float64 and np.array_equal(frames / 2, array / 2)
    tensor = pipe("a red ball", num_frames=9, steps=1, output_type="pt").frames[0]
    assert torch.equal(tensor * 2, tensor[:] * 2) and tensor[1, 0].shape == (64, 64)
    images = pipe("a red ball", num_frames=1, steps=1, output_type="pil").frames[0]
    for wrong in (lambda: images * 2, lambda: frames["a"], lambda: frames[1.5]):
        with pytest.raises(TypeError):
            wrong()


# ---------------------------------------------------------------- what is refused
E1 = torch.zeros(1, 32, 128)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(generator=5), "generator must be a torch.Generator"),
        (dict(generator=[None]), "generator must be a torch.Generator"),
        (dict(seed=True), "seed must be a whole number"),
        (dict(seed=[1.5]), "seed must be a whole number"),
        (dict(prompt=["a", 5]), "a list of prompts has texts, not 5"),
        (dict(prompt=None, scenes="a red ball"), "scenes is a list"),
        (dict(prompt=None, scenes=5), "scenes is a list"),
        (dict(prompt=None, scenes={"a": 1}), "scenes is a list"),
        (dict(prompt=None, scenes=[{"text": "a"}]), "a scene has no option 'text'"),
        (dict(negative_prompt=["a", "b"]), "negative_prompt has 2 for"),
        (dict(prompt=TEXTS, image=[Image.new("RGB", (64, 64))] * 3), "image has 3 for"),
        (dict(prompt_embeds=E1), "give one of them"),
        (dict(negative_prompt="night", negative_prompt_embeds=E1), "give one of them"),
        (dict(negative_prompt_embeds=E1[:, :3], guidance_scale=2.0), "take all from encode_prompt"),
        (dict(negative_prompt_embeds=E1.long()), "floating point"),
        (dict(negative_prompt_embeds=E1.numpy()), "must be a tensor"),
        (dict(negative_prompt_embeds=E1[0]), "shape"),
        (dict(seconds=-1, num_frames=None), "^seconds must be a positive number"),
        (dict(num_frames=10**12), "frame_memory"),
        (dict(guidance_scale="x"), "guidance_scale must be"),
        (dict(callback_on_step_end=5), "callback_on_step_end must be a function"),
        (dict(callback_on_frames="x"), "callback_on_frames must be a function"),
        (dict(preview=5), "preview must be"),
        (dict(preview="folder"), "preview must be"),
        (dict(callback_on_step_end=lambda *_: [1]), "must return None or a dict"),
        (dict(callback_on_step_end=lambda *_: {"latents": None}), "latents that are no tensor"),
        (dict(video=[]), "a list of images"),
        (dict(video=object()), "video must be a file"),
        (dict(video=[np.zeros((4, 4, 3)), np.zeros((5, 4, 3))]), "several shapes"),
        (dict(addnoise_condition="x"), "addnoise_condition must be a number"),
        (dict(loras={"a.safetensors": "x"}), "the strength of a.safetensors"),
        (dict(return_dict=False), "result.frames"),
        (dict(latents=E1), "seed"),
        (dict(timesteps=[1000, 500]), "give sigmas"),
        (dict(guidance_rescale=0.7), "longtake.Guidance"),
        (dict(callback_on_step_end_tensor_inputs=["latents"]), "leave it out"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_what_to_do(pipe, arguments, words):
    with pytest.raises(longtake.InputError, match=words) as error:
        pipe(**{"prompt": "a red ball", **FEW, **arguments})
    assert "--" not in str(error.value) and len(str(error.value)) < 400


def test_generate_makes_one_video_of_a_prompt_and_a_model(pipe):
    for call, words in (
        (lambda: longtake.generate(TEXTS, pipe, **FEW), "is a batch"),
        (lambda: longtake.generate(pipe, "a red ball", **FEW), "the prompt first"),
        (lambda: longtake.generate(["a", 5], pipe, **FEW), "not 5"),
    ):
        with pytest.raises(longtake.InputError, match=words):
            call()


def test_a_stream_is_one_video(pipe):
    for wrong in (dict(prompt=TEXTS), dict(prompt_embeds=E1.repeat(2, 1, 1))):
        with pytest.raises(longtake.InputError, match="is a batch"):
            pipe.stream(**wrong, **FEW)
    assert next(pipe.stream(["a red ball"], **FEW)).shape == (5, 64, 64, 3)


def test_guidance_takes_numbers_and_refuses_as_an_input_error():
    assert longtake.Guidance(5.0, guidance_rescale=0.7) == longtake.Guidance((5.0,), guidance_rescale=(0.7,))
    with pytest.raises(longtake.InputError, match="stg_mode is one of"):
        longtake.Guidance(stg_mode="x")


@pytest.mark.parametrize("given", [None, 5, [], [5]])
def test_only_texts_are_encoded(pipe, given):
    with pytest.raises(longtake.InputError, match="encode_prompt takes a text"):
        pipe.encode_prompt(given)


def test_attributes_of_diffusers_that_have_no_effect_say_what_does(pipe):
    assert pipe.device == "cpu"
    with pytest.raises(AttributeError, match="solver="):
        pipe.scheduler = object()
    for name, words in (("scheduler", "solver="), ("vae", "stream"), ("tokenizer", "encode_prompt"), ("zzz", "'zzz'$")):
        with pytest.raises(AttributeError, match=words):
            getattr(pipe, name)
    assert not hasattr(pipe, "vae") and copy.deepcopy(pipe).device == "cpu"


def test_wrong_loras_are_refused(tmp_path):
    pipe = longtake.load("clock")
    (tmp_path / "a.safetensors").touch()
    pipe.load_lora_weights(tmp_path / "a.safetensors")
    for call, words in (
        (lambda: pipe.load_lora_weights({"a": 1}), "save tensors to a file"),
        (lambda: pipe.load_lora_weights(tmp_path), "is a folder"),
        (lambda: pipe.set_adapters("a", float("nan")), "strength of a must be a number"),
        (lambda: pipe.set_adapters("a", "x"), "strength of a must be a number"),
        (lambda: pipe.delete_adapters("b"), "no LoRA called 'b'"),
    ):
        with pytest.raises(longtake.InputError, match=words):
            call()


def test_a_result_is_saved_to_a_path(video):
    for save in (video.save, video[0].save):
        with pytest.raises(longtake.InputError, match="path of a file"):
            save(None)


def test_defaults_are_listed_for_a_name(pipe):
    assert longtake.defaults_for("pocket") == longtake.defaults_for(pipe)


def test_diffusers_writes_the_frames_as_a_video(video, tmp_path):
    utils = pytest.importorskip("diffusers.utils")
    pytest.importorskip("cv2")
    assert utils.export_to_video(video.frames[0], str(tmp_path / "a.mp4"), fps=24)
    assert (tmp_path / "a.mp4").stat().st_size
