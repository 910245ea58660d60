"""Blur and H.264 compression of conditioning frames, as in the published code of LTX-Video.

A model that was trained on video files takes a sharp still image for a frame in which nothing moves. Each frame is
therefore blurred a little and compressed by itself, in memory, before it is encoded. The same frames give the same bits on
every machine: the blur is computed element by element in float64, x264 runs in one thread and independent of the processor,
and the conversion of colours is FFmpeg's default, as published, restricted to what all processors compute alike.
"""

from __future__ import annotations

import io
import math

import av
import torch
import torch.nn.functional as nnf
from av.video.reformatter import Interpolation, VideoReformatter
from torch import Tensor

from longtake.core.errors import MediaError

MOST_CRF = 51
COLOURS = Interpolation.BILINEAR | Interpolation.BITEXACT
X264 = {"preset": "veryfast", "threads": "1", "x264-params": "cpu-independent=1"}
ROUNDING = 1e-6  # so that 128 is not rounded down to 127 for the last bit of a sum


def blurred_and_compressed(video_B3THW: Tensor, blur: float, crf: int) -> Tensor:
    """Blur and compress every frame of a video (B, 3, T, H, W) in [-1, 1]; returns another of the same shape and dtype.

    blur: standard deviation of a Gaussian of 3 x 3 pixels, 0 for none. crf: quality of H.264, from 1 (best) to 51, 0 for no
    compression. Raises MediaError if the encoder fails.
    """
    if not blur and not crf:
        return video_B3THW
    pixels = (video_B3THW.double() + 1) * 127.5
    if blur:
        pixels = _blurred(pixels, blur)
    if crf:
        frames_NHW3 = (pixels + ROUNDING).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 4, 1).flatten(0, 1)
        compressed = torch.stack([_compressed(frame, crf) for frame in frames_NHW3])
        pixels = compressed.unflatten(0, (len(video_B3THW), -1)).permute(0, 4, 1, 2, 3)
    return (pixels.double() / 127.5 - 1).to(video_B3THW.dtype)


def _blurred(pixels: Tensor, sigma: float) -> Tensor:
    """Convolve the last two axes with a Gaussian of 3 x 3 pixels, mirrored at the edges."""
    side = math.exp(-0.5 / sigma**2)
    near, middle = side / (1 + 2 * side), 1 / (1 + 2 * side)
    for axis in (-2, -1):
        count = pixels.shape[axis]
        if count > 1:
            before = torch.tensor([1, *range(count - 1)])
            after = torch.tensor([*range(1, count), count - 2])
            both = pixels.index_select(axis, before) + pixels.index_select(axis, after)
            pixels = near * both + middle * pixels
    return pixels


def _compressed(frame_HW3: Tensor, crf: int) -> Tensor:
    """Encode one frame (H, W, 3) uint8 as a video of its own, and decode it."""
    height, width = frame_HW3.shape[:2]
    even = nnf.pad(frame_HW3.permute(2, 0, 1)[None].float(), (0, width % 2, 0, height % 2), mode="replicate")
    pixels = even[0].permute(1, 2, 0).to(torch.uint8).contiguous().numpy()
    file, scaler = io.BytesIO(), VideoReformatter()
    try:
        with av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
            stream = container.add_stream("libx264", rate=1, options={"crf": str(crf), **X264})
            stream.height, stream.width, stream.pix_fmt = *pixels.shape[:2], "yuv420p"
            stream.codec_context.thread_count = 1
            shown = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(scaler.reformat(shown, format="yuv420p", interpolation=COLOURS, threads=1)))
            container.mux(stream.encode(None))
        file.seek(0)
        with av.open(file, "r", format="mp4") as container:
            frame = next(container.decode(video=0))
            decoded = scaler.reformat(frame, format="rgb24", interpolation=COLOURS, threads=1).to_ndarray()
    except (av.error.FFmpegError, StopIteration) as error:
        raise MediaError(f"a conditioning frame cannot be compressed with H.264: {error}") from error
    return torch.from_numpy(decoded)[:height, :width]
