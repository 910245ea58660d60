"""A loaded model called like a pipeline of diffusers."""

import multiprocessing
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

import longtake
from longtake import LTXVideoPipeline, SkyReelsV2Pipeline
from longtake.models.registry import ModelError
from longtake.pipelines.call.frame_store import FrameStore, VideoFrames

FEW = dict(num_frames=10, steps=2)


@pytest.fixture(scope="module")
def pipe():
    return longtake.load("pocket", device="cpu")


@pytest.fixture(scope="module")
def ball(pipe):
    return pipe("a red ball drifts to the right over the sea", seed=3, **FEW)


# ---------------------------------------------------------------- prompts, seeds and batches
def test_a_list_of_prompts_is_a_batch_and_each_video_is_that_of_a_single_call(pipe, ball):
    both = pipe(["a red ball drifts to the right over the sea", "a blue star at night"], seed=3, **FEW)
    assert len(both) == len(both.frames) == 2 and [video.seed for video in both] == [3, 4]
    assert torch.equal(both.frames[0].uint8(), ball.frames[0].uint8())
    assert not torch.equal(both.frames[0].uint8(), both.frames[1].uint8())


def test_variations_and_lists_name_the_seed_of_each_video(pipe):
    made = lambda **seeds: [v.seed for v in pipe("a red ball", num_videos_per_prompt=2, num_frames=1, steps=1, **seeds)]
    generators = [torch.Generator().manual_seed(n) for n in (7, 9)]
    assert made(seed=5) == [5, 6] and made(seed=[8, 2]) == [8, 2] and made(generator=generators) == [7, 9]
    assert made(generator=generators[0]) == [7, 8] and made() == [0, 1]


def test_a_timeline_is_scenes_and_a_path_is_a_script(pipe, tmp_path):
    script = tmp_path / "two.toml"
    script.write_text(
        '[[scene]]\nprompt = "a red ball"\nseconds = 0.25\n[[scene]]\nprompt = "a blue star"\nseconds = 0.5\n'
    )
    timeline = pipe(scenes=[("a red ball", 0.25), ("a blue star", 0.5)], steps=2)
    assert len(timeline.frames[0]) == 18
    for read in (pipe(str(script), steps=2), pipe(script, steps=2)):
        assert torch.equal(read.frames[0].uint8(), timeline.frames[0].uint8())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(), "give a prompt"),
        (dict(prompt="a", scenes=["b"]), "not both"),
        (dict(prompt="a", seed=1, generator=torch.Generator()), "seed and generator"),
        (dict(prompt="a", seed=[1, 2]), "1 videos, but 2 seeds"),
        (dict(prompt="a", seed="x"), "seed must be a whole number"),
        (dict(prompt="a", num_videos_per_prompt=0), "num_videos_per_prompt must be"),
        (dict(prompt="a", output_type="gif"), "output_type must be one of np"),
        (dict(prompt="a", num_frames=0), "^num_frames must be at least 1"),
        (dict(prompt="a", cfg=3), "use 'guidance_scale'"),
        (dict(prompt="a", endless=True), "stream"),
        (dict(prompt="a", overlap=17, overlap_history=17), "overlap_history is overlap here"),
        (dict(prompt="a", loras=3), "loras is"),
        (dict(prompt="a", prompt_embeds=torch.zeros(3)), "not both|shape"),
    ],
)
def test_mistakes_are_value_errors_in_the_words_of_python(pipe, arguments, words):
    with pytest.raises(ValueError, match=words) as error:
        pipe(**{**FEW, **arguments})
    assert "--" not in str(error.value)


def test_errors_of_a_stream_come_at_the_call(pipe):
    for wrong in (dict(prompt="a", num_frames=-1), dict(prompt=["a", "b"])):
        with pytest.raises(ValueError):
            pipe.stream(**wrong)


def test_names_of_skyreels_are_accepted(pipe):
    published = pipe.start("a red ball", base_num_frames=33, overlap_history=9, addnoise_condition=10).settings
    own = pipe.start("a red ball", window=33, overlap=9, context_noise=0.01, context_noise_mode="resampled").settings
    assert published == own


# ---------------------------------------------------------------- the result
def test_frames_are_those_of_diffusers_output_types(ball):
    frames, whole = ball.frames[0], ball.frames[0].uint8()
    assert frames.shape == (10, 64, 64, 3) and len(frames) == 10 and whole.shape == (10, 64, 64, 3)
    assert frames[0].dtype == np.float32 and np.array_equal(np.rint(frames[-1] * 255), whole[-1].numpy())
    assert np.asarray(frames).shape == frames[:].shape == (10, 64, 64, 3) and len(frames[2:4]) == 2
    store = frames._store
    images, tensors = VideoFrames(store, "pil"), VideoFrames(store, "pt")
    assert np.array_equal(np.asarray(images[3]), whole[3].numpy()) and len(images[::5]) == 2
    assert tensors[3].shape == (3, 64, 64) and tensors[1:3].shape == (2, 3, 64, 64) and tensors[3].max() <= 1
    with pytest.raises(IndexError, match="10 frames"):
        frames[10]


def test_frames_beyond_the_memory_budget_lie_in_a_file():
    frames = torch.randint(0, 256, (9, 4, 6, 3), dtype=torch.uint8)
    for budget in (0, 4 * 6 * 3 * 5, 1 << 20):
        store = FrameStore(4, 6, budget)
        for piece in frames.split([3, 2, 4]):
            store.append(piece)
        assert (store._file is None) == (budget == 1 << 20)
        assert torch.equal(VideoFrames(store).uint8(), frames)
        store.append(frames[:1])
        assert np.array_equal(store[9], frames[0].numpy()) and len(store) == 10


def test_the_result_has_latents_settings_and_what_was_streamed(pipe, ball):
    assert ball.latents[0].shape == (16, 4, 8, 8) and ball.fps == 24 and ball.seed == 3
    assert ball.settings.strategy == "sliding" and ball.settings.seed == 3
    streamed = torch.cat(list(pipe.stream("a red ball drifts to the right over the sea", seed=3, **FEW)))
    assert torch.equal(streamed, ball.frames[0].uint8())
    latent = pipe("a red ball drifts to the right over the sea", seed=3, output_type="latent", **FEW)
    assert torch.equal(latent.frames[0], ball.latents[0])


def test_the_result_is_saved(ball, tmp_path):
    import av

    assert ball.save(tmp_path / "x.mp4") == [tmp_path / "x.mp4"]
    for name, codec, found in (("x.mp4", "h264", "h264"), ("x.mkv", "hevc", "hevc"), ("x.mov", "h264", "h264")):
        ball[0].save(tmp_path / "new" / name, codec=codec)
        with av.open(str(tmp_path / "new" / name)) as video:
            stream = video.streams.video[0]
            shown = [frame.to_ndarray(format="rgb24") for frame in video.decode(stream)]
            assert stream.codec_context.name == found and len(shown) == 10 and stream.average_rate == 24
        assert np.abs(shown[0].astype(int) - ball.frames[0].uint8()[0].numpy()).mean() < 6
    with Image.open(ball[0].save(tmp_path / "x.webp")) as animation:
        assert animation.n_frames >= 2
    for path, options, words in (
        ("x.txt", {}, "ends with .mp4"), ("x.mp4", dict(crf=99), "crf must be between"),
        ("x.mp4", dict(codec="vp9"), "codec must be one of"), ("x.gif", dict(audio="a.wav"), "has no sound"),
        ("x.mp4", dict(audio=tmp_path / "none.wav"), "no sound file"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            ball.save(tmp_path / path, **options)
    assert not list(tmp_path.glob("*.part*"))


# ---------------------------------------------------------------- callbacks, preview, interruption
def test_callbacks_see_every_step_and_all_frames(pipe):
    steps, frames = [], []
    made = pipe(
        "a red ball", seed=3, num_frames=10, steps=3,
        callback_on_step_end=lambda own, step, timestep, given: steps.append((own, step, timestep, given)),
        callback_on_frames=lambda some, first: frames.append((first, some)),
    )  # fmt: skip
    assert [step for _, step, _, _ in steps] == [0, 1, 2] and all(own is pipe for own, *_ in steps)
    times = [timestep for _, _, timestep, _ in steps]
    assert times == sorted(times, reverse=True) and times[-1] == 0 and times[0] < 1000
    assert steps[0][3]["latents"].shape == (1, 16, 4, 8, 8) and steps[0][3]["window"] == 0
    assert torch.equal(torch.cat([some for _, some in frames]), made.frames[0].uint8())


def test_latents_that_a_callback_returns_are_gone_on_from(pipe):
    plain = pipe("a red ball", **FEW).latents[0]
    shifted = lambda own, step, timestep, given: {"latents": given["latents"] + 0.5} if timestep == 0 else None
    assert torch.allclose(pipe("a red ball", callback_on_step_end=shifted, **FEW).latents[0], plain + 0.5, atol=1e-5)
    with pytest.raises(ValueError, match="latents of shape"):
        pipe("a red ball", callback_on_step_end=lambda *_: {"latents": torch.zeros(1)}, **FEW)


def test_interrupt_ends_the_call_and_keeps_what_was_generated(pipe):
    def stop_in_second_window(own, step, timestep, given):
        if given["window"] == 1:
            own.interrupt()

    made = pipe("a red ball", seconds=10, steps=1, callback_on_step_end=stop_in_second_window)
    assert made[0].interrupted and 0 < len(made.frames[0]) < 240
    assert not pipe("a red ball", num_frames=1, steps=1)[0].interrupted


def test_previews_resemble_the_video(pipe, tmp_path):
    strips = []
    made = pipe("a red ball", seed=3, num_frames=29, steps=6, preview=lambda image, step: strips.append(image))
    assert len(strips) == 6 and strips[0].height == 96
    first = Image.fromarray(made.frames[0].uint8()[0].numpy()).resize((8, 8), Image.Resampling.BOX)
    last = strips[-1].crop((0, 0, 96, 96)).resize((8, 8), Image.Resampling.BOX)
    assert np.corrcoef(np.asarray(first).ravel(), np.asarray(last).ravel())[0, 1] > 0.75
    pipe("a red ball", preview=tmp_path / "now.png", **FEW)
    with Image.open(tmp_path / "now.png") as written:
        assert written.height == 96
    assert len(list(tmp_path.iterdir())) == 1


# ---------------------------------------------------------------- what users of diffusers call next
def test_given_embeddings_equal_the_prompt(pipe):
    given, negative = pipe.encode_prompt("a blue star at night"), pipe.encode_prompt("a red ball")
    plain = pipe("a blue star at night", negative_prompt="a red ball", **FEW).latents[0]
    assert torch.equal(pipe(prompt_embeds=given, negative_prompt_embeds=negative, **FEW).latents[0], plain)
    with pytest.raises(longtake.InputError, match=rf"\(1, 4, 7\) are given, but .* {given.shape[2]}\)"):
        pipe(prompt_embeds=torch.zeros(1, 4, 7), guidance_scale=1.0, **FEW)


def test_a_result_is_saved_at_another_rate_and_hashed(pipe, ball, tmp_path):
    import av

    ball.save(tmp_path / "slow.mp4", fps=12)
    with av.open(str(tmp_path / "slow.mp4")) as video:
        assert video.streams.video[0].average_rate == 12
    for fps in (0, "x", 10**30, [1]):
        with pytest.raises(longtake.InputError, match="fps must be"):
            ball.save(tmp_path / "none.mp4", fps=fps)
    assert len({ball, ball[0], ball}) == 2 and ball == ball
    for kind in (longtake.Pipeline, longtake.SkyReelsV2Pipeline):
        with pytest.raises(longtake.InputError, match="made of a model"):
            kind(None)


@pytest.mark.long
def test_a_pipeline_can_be_loaded_otherwise_saved_and_sent(pipe, tmp_path):
    other = longtake.load("pocket", torch_dtype=torch.bfloat16, device=torch.device("cpu"))
    assert other.source.options.dtype == "bf16"
    assert other.to("cpu", torch.float32).source.options.dtype == "fp32"
    assert other.to(torch.bfloat16).source.options.dtype == "bf16"
    assert other.enable_model_cpu_offload().source.options.offload == "model"
    assert other.enable_sequential_cpu_offload().source.options.offload == "blocks"
    saved = longtake.load(pipe.save_pretrained(tmp_path / "saved"), device="cpu")
    sent = pickle.loads(pickle.dumps(pipe))
    want = pipe("a red ball", **FEW).latents[0]
    assert torch.equal(saved("a red ball", **FEW).latents[0], want)
    assert torch.equal(sent("a red ball", **FEW).latents[0], want)
    with pytest.raises(ModelError, match="not empty"):
        pipe.save_pretrained(tmp_path / "saved")


def shown_in_another_process(pipe, answers):
    torch.set_num_threads(1)
    answers.put(pipe("a red ball", **FEW).frames[0].uint8().numpy().tobytes())


@pytest.mark.long
def test_a_pipeline_goes_to_a_spawned_process(pipe):
    spawn = multiprocessing.get_context("spawn")
    answers = spawn.Queue()
    process = spawn.Process(target=shown_in_another_process, args=(pipe, answers))
    process.start()
    assert answers.get(timeout=120) == pipe("a red ball", **FEW).frames[0].uint8().numpy().tobytes()
    process.join(60)


def test_loras_have_the_method_names_of_diffusers(tmp_path):
    pipe = longtake.load("clock")
    for name in ("a", "b"):
        (tmp_path / f"{name}.safetensors").touch()
        pipe.load_lora_weights(tmp_path / f"{name}.safetensors")
    a, b = (str(tmp_path / f"{name}.safetensors") for name in "ab")
    assert pipe.all_loras() == [(a, 1.0), (b, 1.0)]
    pipe.set_adapters("b", 0.5)
    assert pipe.all_loras() == [(b, 0.5)] and pipe.all_loras({a: 0.2}) == [(b, 0.5), (a, 0.2)]
    pipe.set_adapters(["a", "b"], [1, 2])
    pipe.fuse_lora(0.5)
    assert pipe.all_loras([(b, 3)]) == [(a, 0.5), (b, 3.0)]
    pipe.unload_lora_weights()
    assert pipe.all_loras([a]) == [(a, 1.0)]
    for call, words in (
        (lambda: pipe.load_lora_weights("none.safetensors"), "no LoRA at"),
        (lambda: pipe.set_adapters("c"), "no LoRA called 'c'"),
        (lambda: pipe.set_adapters(["a"], [1, 2]), "1 adapters, but 2"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


@pytest.mark.parametrize(("kind", "name"), [(LTXVideoPipeline, "pocket"), (SkyReelsV2Pipeline, "ltx-2b-0.9.5")])
def test_named_pipelines_refuse_another_family(kind, name):
    with pytest.raises(ModelError, match="is of the family"):
        kind.from_pretrained(name)


def test_defaults_and_keywords_can_be_listed(pipe):
    own, other = longtake.defaults_for(pipe), longtake.defaults_for(pipe, "async")
    assert own["strategy"] == "sliding" and own["num_inference_steps"] == 12 and own["height"] == 64
    assert other["strategy"] == "async" and "ar_step" in other
    with pytest.raises(ValueError, match="no option 'devise'"):
        longtake.load("pocket", devise="cpu")


def test_public_names_are_listed_and_described():
    assert set(longtake.__all__) <= set(dir(longtake)) and "load" in dir(longtake)
    assert all(getattr(longtake, name).__doc__ for name in longtake.__all__)
