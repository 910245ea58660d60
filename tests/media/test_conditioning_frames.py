"""Conditioning frames: the blur of the published code, and its round trip through H.264, written out."""

import io

import av
import pytest
import torch
import torch.nn.functional as nnf

from longtake.media.conditioning_frames import blurred_and_compressed

HEIGHT, WIDTH = 64, 96


def scene(frames: int = 1, noise: float = 12.0) -> torch.Tensor:
    """A smooth moving picture with a little grain, (1, 3, T, H, W) of whole levels in [-1, 1]."""
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    shown = []
    for t in range(frames):
        waves = [100 * torch.sin((x + 3 * t) / 9) * torch.cos(y / 13), 90 * torch.cos(x / 30), 100.0 - 2 * y]
        shown.append(torch.stack([wave + 127 for wave in waves]))
    pixels = torch.stack(shown, 1)
    pixels = pixels + noise * torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0))
    return (pixels.clamp(0, 255).round() / 127.5 - 1)[None]


def levels(video: torch.Tensor) -> torch.Tensor:
    return (video.double() + 1) * 127.5


def gaussian(pixels_CHW: torch.Tensor, sigma: float) -> torch.Tensor:
    """torchvision's gaussian_blur with a kernel of 3 x 3."""
    line = torch.exp(-0.5 * (torch.tensor([-1.0, 0.0, 1.0]) / sigma) ** 2)
    kernel = torch.outer(line / line.sum(), line / line.sum()).expand(3, 1, 3, 3)
    return nnf.conv2d(nnf.pad(pixels_CHW[None].float(), (1, 1, 1, 1), mode="reflect"), kernel, groups=3)[0]


def round_trip(pixels_HW3: torch.Tensor, crf: int) -> torch.Tensor:
    """One frame through libx264, as published: rate 1, preset veryfast, the colours of FFmpeg's defaults."""
    with io.BytesIO() as file:
        with av.open(file, "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=1, options={"crf": str(crf), "preset": "veryfast"})
            stream.height, stream.width = pixels_HW3.shape[:2]
            frame = av.VideoFrame.from_ndarray(pixels_HW3.numpy(), format="rgb24").reformat(format="yuv420p")
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
        with av.open(io.BytesIO(file.getvalue())) as container:
            return torch.tensor(next(container.decode(video=0)).to_ndarray(format="rgb24"))


def rms(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).square().mean().sqrt())


@pytest.mark.parametrize("sigma", [1.0, 0.4])
def test_the_blur_is_that_of_torchvision(sigma):
    video = scene(2)
    got = levels(blurred_and_compressed(video, sigma, 0))
    for t in range(2):
        want = gaussian(levels(video)[0, :, t], sigma)
        assert float((got[0, :, t] - want).abs().max()) < 1e-3
    assert rms(got, levels(video)) > 1


@pytest.mark.parametrize("crf", [29, 40])
def test_every_frame_goes_through_h264_by_itself(crf):
    """Within four levels of the published settings, whose threads and colours differ from processor to processor."""
    video = scene(3)
    got = levels(blurred_and_compressed(video, 1.0, crf))
    for t in range(3):
        soft = gaussian(levels(video)[0, :, t], 1.0)
        want = round_trip((soft / 255 * 255).byte().permute(1, 2, 0).contiguous(), crf).permute(2, 0, 1)
        assert rms(got[0, :, t], want) < 4 < rms(got[0, :, t], levels(video)[0, :, t]) - 4
        alone = levels(blurred_and_compressed(video[:, :, t : t + 1], 1.0, crf))
        assert torch.equal(alone[:, :, 0], got[:, :, t])
    assert torch.allclose(got, got.round(), atol=1e-3)  # whole levels of 8 bits
    rough, fine = (rms(levels(blurred_and_compressed(video, 0, q)), levels(video)) for q in (crf, 10))
    assert rough > 1.1 * fine


def test_nothing_is_done_without_either():
    video = scene()
    assert blurred_and_compressed(video, 0.0, 0) is video
    flat = torch.full((1, 3, 1, 16, 16), 128 / 127.5 - 1)
    assert torch.allclose(blurred_and_compressed(flat, 1.0, 0), flat, atol=1e-6)
    assert (levels(blurred_and_compressed(flat, 1.0, 29)) - 128).abs().max() <= 2


@pytest.mark.parametrize("size", [(15, 21), (1, 16), (16, 1)])
def test_any_size_and_batch_and_number_of_threads_gives_the_same(size):
    video = torch.rand(2, 3, 2, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    got, threads = blurred_and_compressed(video, 1.0, 29), torch.get_num_threads()
    torch.set_num_threads(threads % 2 + 1)
    try:
        assert torch.equal(got, blurred_and_compressed(video, 1.0, 29))
    finally:
        torch.set_num_threads(threads)
    assert got.shape == video.shape and got.dtype == video.dtype and float(got.abs().max()) <= 1
    assert torch.equal(got[1:], blurred_and_compressed(video[1:], 1.0, 29))
